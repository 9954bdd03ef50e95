package cluster_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

// leaveBehind has the leader drop the log that a node needs: two segments, each with more entries than the window. It
// returns the partition's next offset.
func (c *crew) leaveBehind(t *testing.T, p topic.PartitionID, from int, nodes ...*member) int {
	t.Helper()
	for range 2 {
		n := c.leader()
		n.fill(t, p, from, from+10)
		n.pad(t, cluster.LogWindow)
		c.seal(nodes...)
		from += 10
	}
	return from
}

// TestInstallEmpty: a node without anything gets the segments, then the log.
func TestInstallEmpty(t *testing.T) {
	inCrew(t, three, func(t *testing.T, c *crew) {
		empty := c.followers()[0].id
		c.stop(empty)
		if err := os.RemoveAll(c.dir(empty)); err != nil {
			t.Fatal(err)
		}
		p := createTopic(t, c.leader().Group, "orders")
		next := c.leaveBehind(t, p, 0, c.followers()...)
		c.leader().fill(t, p, next, next+5)
		c.start(empty)
		c.settle(c.nodes[empty])
		if h, _ := c.nodes[empty].Log.Head(); !h.Installed {
			t.Error("the head did not come by an install")
		}
		c.nodes[empty].holds(t, p, next+5)
		c.leader().fill(t, p, next+5, next+10)
		c.seal(c.followers()...)
		c.same(c.nodes["n1"], c.nodes["n2"], c.nodes["n3"])
		c.stop(empty)
		c.start(empty)
		c.settle(c.nodes[empty])
		c.nodes[empty].holds(t, p, next+10)
		c.same(c.nodes["n1"], c.nodes["n2"], c.nodes["n3"])
	})
}

// everybody are the nodes of a crew of three.
func (c *crew) everybody() []*member { return []*member{c.nodes["n1"], c.nodes["n2"], c.nodes["n3"]} }

// big fills a topic with records of 64 KiB.
func (m *member) big(t *testing.T, p topic.PartitionID, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		r, _, err := m.Group.Do(t.Context(), publish(p, 1, uint64(i), crashBody(i)))
		if err != nil || r.Status != state.StatusOK || r.Offset != topic.Offset(i) {
			t.Fatalf("publish %d: %+v, %v", i, r, err)
		}
	}
}

// away cuts a follower off and has the others seal so many segments of 2 MiB that it needs. It returns what the segments
// take on the leader's disk.
func (c *crew) away(t *testing.T, p topic.PartitionID, id raft.ServerID, from, segments int) (disk int64) {
	t.Helper()
	c.cutOff(id)
	for i := range segments {
		n := c.leader()
		n.big(t, p, from+i*32, from+i*32+32)
		n.pad(t, cluster.LogWindow)
		c.seal(c.followers()...)
	}
	for _, s := range c.leader().Log.Status() {
		if s.State == storage.StateSealed {
			disk += s.DiskBytes()
		}
	}
	return disk
}

// TestInstallSome: a node that has some of the segments fetches the others only. What raft streams is small.
func TestInstallSome(t *testing.T) {
	inCrew(t, three, func(t *testing.T, c *crew) {
		n := c.leader()
		p := createTopic(t, n.Group, "orders")
		n.big(t, p, 0, 64)
		n.pad(t, cluster.LogWindow)
		c.seal(c.followers()...)
		c.settle(c.followers()...)
		own := c.leader().Log.Status()[0].DiskBytes()
		to := c.followers()[0]
		all := c.away(t, p, to.id, 64, 2)
		before, _ := to.Log.Head()
		c.heal()
		c.settle(to)
		after, _ := to.Log.Head()
		got := c.segments.fetched(to.id)
		if !after.Installed || after.Number != before.Number+2 {
			t.Errorf("head %+v, was %+v", after, before)
		}
		if lacked := all - own; got < lacked || got > lacked+lacked/50 || own < 4<<20 {
			t.Errorf("%d bytes were fetched, it lacked %d and had %d", got, lacked, own)
		}
		if size := c.streamed(); size == 0 || size > 4096 {
			t.Errorf("raft streamed %d bytes for one snapshot", size)
		}
		c.same(c.everybody()...)
	})
}

// cutter is a link that ends after so many bytes.
type cutter struct {
	net.Conn
	left *atomic.Int64
}

func (c *cutter) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == nil && c.left.Add(-int64(n)) < 0 {
		c.Conn.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// TestInstallInterrupted: links end again and again, and the node restarts in the middle; what was fetched is not fetched
// again.
func TestInstallInterrupted(t *testing.T) {
	inCrew(t, three, func(t *testing.T, c *crew) {
		p := createTopic(t, c.leader().Group, "orders")
		to := c.followers()[0]
		c.settle(to)
		lacked := c.away(t, p, to.id, 0, 3)
		const piece = 1300 << 10
		var links, allowed atomic.Int64
		allowed.Store(2)
		leader := c.leader().id
		c.segments.setWrap(func(from raft.ServerID, conn net.Conn) net.Conn {
			left := new(atomic.Int64)
			if from == leader && links.Add(1) <= allowed.Load() {
				left.Store(piece)
			}
			return &cutter{conn, left}
		})
		c.heal()
		for links.Load() <= allowed.Load() {
			time.Sleep(100 * time.Millisecond)
		}
		c.stop(to.id)
		at := c.segments.fetched(to.id)
		allowed.Store(1000)
		to = c.start(to.id)
		c.settle(to)
		got := c.segments.fetched(to.id)
		if h, _ := to.Log.Head(); !h.Installed || h.Number != 3 {
			t.Errorf("head %+v", h)
		}
		// Each link that ends costs at most a part of 512 KiB on its way, and the file SEALED.
		if most := lacked + links.Load()*(600<<10); got > most || links.Load() < 5 || at < 2<<20 || at >= lacked {
			t.Errorf("%d bytes were fetched over %d links, %d before the restart; it lacked %d", got, links.Load(), at, lacked)
		}
		c.leader().big(t, p, 96, 100)
		c.seal(c.followers()...)
		c.same(c.everybody()...)
	})
}

// spoiler flips a bit in the n-th large read.
type spoiler struct {
	net.Conn
	reads *atomic.Int64
	every int64
}

func (c *spoiler) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 64<<10 && c.reads.Add(1)%c.every == 0 {
		b[n/2] ^= 1
	}
	return n, err
}

// TestInstallDamagedOnTheWay: pieces arrive damaged; each is refused and asked for again.
func TestInstallDamagedOnTheWay(t *testing.T) {
	inCrew(t, three, func(t *testing.T, c *crew) {
		p := createTopic(t, c.leader().Group, "orders")
		to := c.followers()[0]
		c.settle(to)
		lacked := c.away(t, p, to.id, 0, 2)
		reads := new(atomic.Int64)
		c.segments.setWrap(func(_ raft.ServerID, conn net.Conn) net.Conn { return &spoiler{conn, reads, 3} })
		c.heal()
		c.settle(to)
		if got := c.segments.fetched(to.id); got < lacked+(512<<10) || reads.Load() < 3 {
			t.Errorf("%d bytes for %d, %d large reads: nothing was fetched again", got, lacked, reads.Load())
		}
		c.seal(c.followers()...)
		c.same(c.everybody()...)
	})
}

// TestInstallDamagedSource: the leader's own segment is damaged; the read-back finds it, and another member gives it.
func TestInstallDamagedSource(t *testing.T) {
	inCrew(t, three, func(t *testing.T, c *crew) {
		p := createTopic(t, c.leader().Group, "orders")
		to := c.followers()[0]
		c.settle(to)
		c.away(t, p, to.id, 0, 2)
		c.heal()
		flipFile(t, filepath.Join(c.dir(c.leader().id), "storage", "segments", "0000000001-0000000001", "000001.vlog"), 1<<20, 3)
		c.settle(to)
		if h, _ := to.Log.Head(); !h.Installed {
			t.Errorf("head %+v", h)
		}
		for _, s := range to.Log.Status() {
			if s.State != storage.StateSealed {
				continue
			}
			if s, err := to.Log.VerifySegment(t.Context(), s.Name, 0); err != nil || s.Fault != "" {
				t.Errorf("%+v, %v", s, err)
			}
		}
		c.seal(c.followers()...)
		c.same(c.everybody()...)
	})
}

// TestInstallUnderLoad: records are published, segments cut and leaders changed all the time while a node is filled again
// and again.
func TestInstallUnderLoad(t *testing.T) {
	inCrew(t, three, func(t *testing.T, c *crew) {
		p := createTopic(t, c.leader().Group, "orders")
		next, installed := 0, 0
		for round := range 3 {
			to := c.followers()[0]
			c.settle(to)
			c.away(t, p, to.id, next, 2)
			next += 64
			slow := new(atomic.Int64)
			c.segments.setWrap(func(_ raft.ServerID, conn net.Conn) net.Conn {
				slow.Store(2 << 20)
				return &cutter{conn, slow}
			})
			c.heal()
			for range 3 {
				time.Sleep(300 * time.Millisecond)
				leader := c.leader()
				leader.big(t, p, next, next+8)
				next += 8
				leader.pad(t, cluster.LogWindow)
				if err := leader.Group.Rotate(t.Context()); err != nil {
					t.Fatal(err)
				}
				if o := other(c, leader, to); round == 1 {
					_ = leader.Group.Raft().LeadershipTransferToServer(o.id, raft.ServerAddress(o.id)).Error()
				}
			}
			c.segments.setWrap(nil)
			c.settle(to)
			if h, _ := to.Log.Head(); h.Number > 2 {
				installed++
			}
		}
		c.seal(c.followers()...)
		c.sameState(c.everybody()...)
		if end := c.leader().Log.End(p); end != topic.Offset(next) || installed != 3 {
			t.Errorf("%d records, want %d; %d rounds", end, next, installed)
		}
	})
}

// sameState compares the states of members and all that is in their segments, which may be merged in other ways.
func (c *crew) sameState(nodes ...*member) {
	c.t.Helper()
	c.settle(nodes...)
	for _, m := range nodes[1:] {
		if m.Group.Digest() != nodes[0].Group.Digest() || contentsOf(m.Log) != contentsOf(nodes[0].Log) {
			c.t.Errorf("%s has %+v, %s %+v, or another state", m.id, contentsOf(m.Log), nodes[0].id, contentsOf(nodes[0].Log))
		}
	}
}

// contentsOf adds up what is in all sealed segments.
func contentsOf(log *storage.Log) (sum storage.Contents) {
	for _, s := range log.Status() {
		if s.State == storage.StateSealed {
			sum.Batches, sum.Records, sum.Bytes = sum.Batches+s.Contents.Batches, sum.Records+s.Contents.Records, sum.Bytes+s.Contents.Bytes
			sum.Sum[0], sum.Sum[1] = sum.Sum[0]+s.Contents.Sum[0], sum.Sum[1]+s.Contents.Sum[1]
		}
	}
	return sum
}

// TestInstallMerged: the node has merged what the leader has not; it keeps its own.
func TestInstallMerged(t *testing.T) {
	inCrew(t, three, func(t *testing.T, c *crew) {
		p := createTopic(t, c.leader().Group, "orders")
		to := c.followers()[0]
		hold := c.leader().Log.Hold()
		held := c.leader()
		for i := range 10 {
			c.leader().big(t, p, i*4, i*4+4)
			c.seal(c.followers()...)
		}
		c.settle(to)
		for len(to.Log.Status()) > 4 {
			time.Sleep(100 * time.Millisecond)
		}
		if c.leader() != held || len(held.Log.Status()) != 11 {
			t.Fatalf("the leader has %d segments", len(held.Log.Status()))
		}
		c.away(t, p, to.id, 40, 2)
		c.heal()
		c.settle(to)
		if got, most := c.segments.fetched(to.id), int64(4<<20+200<<10); got > most || got < 4<<20 {
			t.Errorf("%d bytes were fetched, the two new segments have 4 MiB", got)
		}
		hold.Release()
		c.seal(c.followers()...)
		c.sameState(c.everybody()...)
	})
}
