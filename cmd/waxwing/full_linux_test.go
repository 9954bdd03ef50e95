package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/internal/launch"
	"github.com/waxwing-mq/waxwing/internal/powercut"
)

// smallDisk mounts a file system of so many bytes as the site's data folder, or skips.
func (s *site) smallDisk(row, kind string, bytes int64) {
	s.t.Helper()
	data := s.path("data")
	switch kind {
	case "tmpfs":
		if err := os.MkdirAll(data, 0o700); err != nil {
			s.t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", data, "tmpfs", 0, fmt.Sprintf("mode=0700,size=%d", bytes)); err != nil {
			s.t.Skipf("%s: a small file system cannot be mounted here: %v", row, err)
		}
		s.t.Cleanup(func() {
			s.kill()
			if err := unix.Unmount(data, 0); err != nil {
				s.t.Error(err)
			}
		})
	case "ext4":
		d, err := powercut.NewDisk(s.path("image"), data, bytes)
		if err != nil {
			s.t.Skipf("%s: a small file system cannot be mounted here: %v", row, err)
		}
		s.t.Cleanup(func() {
			s.kill()
			if err := d.Discard(); err != nil {
				s.t.Error(err)
			}
		})
		if err := errors.Join(os.RemoveAll(s.path("data/lost+found")), os.Chmod(data, 0o700)); err != nil {
			s.t.Fatal(err)
		}
	}
}

// fill takes space until so many bytes are left, in steps; 0 = to the last byte. give gives it back.
func (s *site) fill(left uint64) (give func()) {
	s.t.Helper()
	name := s.path("data/filler")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for left == 0 || s.free() > left {
		if _, err := f.Write(block); errors.Is(err, unix.ENOSPC) {
			break
		} else if err != nil {
			s.t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(name); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *site) free() uint64 {
	s.t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(s.path("data"), &st); err != nil {
		s.t.Fatal(err)
	}
	return st.Bavail * uint64(st.Bsize)
}

// startFails starts the broker, which must end, and returns its exit code and last words.
func (s *site) startFails() (code int, words string) {
	s.t.Helper()
	p, err := launch.Spawn(launch.Options{Args: []string{"serve", "-c", s.path("broker.yaml")}, Env: []string{asProgram + "=1"}, Stderr: s.log})
	if err != nil {
		s.t.Fatal(err)
	}
	s.setBroker(p)
	var exit *exec.ExitError
	if err := p.Wait(); !errors.As(err, &exit) {
		s.t.Fatalf("the broker ended with %v", err)
	}
	return exit.ExitCode(), p.Log()
}

// fullDisk is a broker on a small disk, and a client that knows what it was promised.
type fullDisk struct {
	*site
	c     *client.Client
	acked map[string]int64
}

// newFullDisk starts a broker with the least guard there is.
func newFullDisk(t *testing.T, kind string, bytes int64) *fullDisk {
	t.Helper()
	s := newSite(t)
	s.smallDisk("D-07", kind, bytes)
	config, err := os.ReadFile(s.path("broker.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s.write("broker.yaml", []byte(strings.Replace(string(config), "storage: {", "storage: {retention_interval: 1s, ", 1)))
	s.start()
	return &fullDisk{s, s.dial("orders"), map[string]int64{}}
}

// publish waits for the acknowledgement.
func (d *fullDisk) publish(topic string, size int) error {
	ctx, cancel := context.WithCancel(d.t.Context())
	defer cancel()
	p := d.process()
	go func() {
		select {
		case <-p.Done(): // nobody would answer
			cancel()
		case <-ctx.Done():
		}
	}()
	ack, err := d.c.Publish(ctx, topic, client.Record{Body: make([]byte, size)})
	if err == nil && ack.Offset != d.acked[topic] {
		d.t.Fatalf("%s: record %d was acknowledged at offset %d", topic, d.acked[topic], ack.Offset)
	}
	if err == nil {
		d.acked[topic]++
	}
	return err
}

// untilFull publishes until it is refused, which must be for the disk, in numbers.
func (d *fullDisk) untilFull(topic string, size int) {
	d.t.Helper()
	var err error
	for err == nil {
		err = d.publish(topic, size)
	}
	var rejected *client.RejectedError
	if !errors.Is(err, client.ErrFull) || !errors.As(err, &rejected) || !strings.Contains(rejected.Text, " MiB free, less than its guard of ") {
		d.t.Fatalf("after %v records: %v\n%s", d.acked, err, d.process().Log())
	}
	d.t.Logf("%v, with %d MiB free: %s", d.acked, d.free()>>20, rejected.Text)
}

// untilTaken publishes until it is taken again, by the same process.
func (d *fullDisk) untilTaken(topic string) {
	d.t.Helper()
	p := d.process()
	err := d.publish(topic, 16)
	for errors.Is(err, client.ErrFull) {
		select {
		case <-p.Done():
			d.t.Fatalf("the broker ended: %s", p.Log())
		default:
			err = d.publish(topic, 16)
		}
	}
	if err != nil {
		d.t.Fatalf("after there was space again: %v", err)
	}
	d.stillAlive()
}

// stillAlive fails if the broker ended.
func (d *fullDisk) stillAlive() {
	d.t.Helper()
	select {
	case <-d.process().Done():
		d.t.Fatalf("the broker ended: %s", d.process().Log())
	default:
	}
}

// check reads everything that was acknowledged to a topic, and nothing else.
func (d *fullDisk) check(topic string) {
	d.t.Helper()
	n := int64(0)
	err := d.c.SubscribeFunc(d.t.Context(), client.SubscribeOptions{Topics: []string{topic}, From: client.Earliest(), StopAtEnd: true}, func(m *client.Message) error {
		if m.Offset != n {
			return fmt.Errorf("offset %d, want %d", m.Offset, n)
		}
		n++
		return nil
	})
	if err != nil || n != d.acked[topic] {
		d.t.Errorf("%s: %d of %d records are read: %v", topic, n, d.acked[topic], err)
	}
}

// TestD07DiskFull fills a small disk, with records and by somebody else, gradually and at once. Publishes are refused, with
// the numbers, before it is full; reading, trimming and deleting go on; the broker does not die; when space returns, however it
// does, it goes on without a restart; and it starts again after a crash on a disk without a free byte.
func TestD07DiskFull(t *testing.T) {
	lane.Need(t, 2, "D-07")
	for _, c := range []struct {
		kind string
		mib  int64
	}{{"tmpfs", 192}, {"tmpfs", 256}, {"ext4", 256}} {
		t.Run(fmt.Sprintf("%s-%d", c.kind, c.mib), func(t *testing.T) {
			if c.kind == "tmpfs" && c.mib > 192 {
				lane.Need(t, 3, "D-07")
			}
			d := newFullDisk(t, c.kind, c.mib<<20)
			if err := d.publish("keep", 16); err != nil {
				t.Fatal(err)
			}
			t.Run("ByRecords", func(t *testing.T) { d.byRecords() })
			t.Run("Gradually", func(t *testing.T) { d.gradually() })
			t.Run("AtOnce", func(t *testing.T) { d.atOnce() })
			t.Run("Crash", func(t *testing.T) { d.crash() })
			d.check("keep")
			if left, err := filepath.Glob(d.path("data/storage/segments/*/SEALED")); err != nil || len(left) == 0 {
				t.Errorf("no sealed segments: %v", err)
			}
		})
	}
}

// byRecords fills the disk by publishing, and frees it by deleting the topic, and by retention.
func (d *fullDisk) byRecords() {
	d.untilFull("big", 16<<10)
	d.check("big")
	if err := d.c.Topics().Delete(d.t.Context(), "big"); err != nil {
		d.t.Fatalf("delete a topic on a full disk: %v", err)
	}
	d.untilTaken("keep")
	d.untilFull("short", 16<<10)
	most := uint64(1 << 20)
	if _, err := d.c.Topics().Alter(d.t.Context(), "short", client.TopicChange{MaxBytes: &most}); err != nil {
		d.t.Fatalf("shorten retention on a full disk: %v", err)
	}
	d.untilTaken("keep")
}

// gradually has somebody else take the disk bit by bit, while the broker is published to.
func (d *fullDisk) gradually() {
	var give func()
	for left := d.free(); left > 1<<20; left = left * 3 / 4 {
		give = d.fill(left)
		if err := d.publish("keep", 16); err != nil && !errors.Is(err, client.ErrFull) {
			d.t.Fatalf("with %d MiB left: %v", left>>20, err)
		}
		d.stillAlive()
	}
	give()
	d.untilTaken("keep")
	for _, err := os.Stat(d.path("data/raft/RESERVE")); err != nil; _, err = os.Stat(d.path("data/raft/RESERVE")) {
		d.untilTaken("keep") // the raft log looks after its reserve once a second
	}
}

// atOnce has somebody else take it to the last byte, under a load that the guard has not seen yet.
func (d *fullDisk) atOnce() {
	var futures []*client.Future
	for range 200 {
		futures = append(futures, d.c.PublishAsync(d.t.Context(), "keep", client.Record{Body: make([]byte, 4<<10)}))
	}
	give := d.fill(0)
	for _, f := range futures {
		if _, err := f.Wait(d.t.Context()); err == nil {
			d.acked["keep"]++
		} else if !errors.Is(err, client.ErrFull) {
			d.t.Fatalf("on a disk without a free byte: %v", err)
		}
	}
	d.untilFull("keep", 16)
	d.check("keep")
	if err := d.c.Topics().Delete(d.t.Context(), "short"); err != nil {
		d.t.Errorf("delete a topic on a disk without a free byte: %v", err)
	}
	d.stillAlive()
	give()
	d.untilTaken("keep")
}

// crash kills the broker on a disk without a free byte. It starts on it, refuses publishes, and goes on when there is space.
func (d *fullDisk) crash() {
	give := d.fill(0)
	d.kill()
	d.start() // what was not sealed is deleted first: that is room enough
	d.check("keep")
	d.untilFull("keep", 16)
	give()
	d.untilTaken("keep")
	give = d.fill(0) // and a clean stop
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	if err := d.process().Stop(ctx); err != nil {
		d.t.Errorf("a clean stop on a full disk: %v\n%s", err, d.process().Log())
	}
	d.start()
	d.check("keep")
	give()
	d.untilTaken("keep")
}

// TestD07TooSmall: a disk that is too small, or full before the first start, is refused in words or keeps the broker from taking
// publishes; it kills nothing.
func TestD07TooSmall(t *testing.T) {
	lane.Need(t, 2, "D-07")
	s := newSite(t)
	s.smallDisk("D-07", "tmpfs", 64<<20)
	s.start()
	d := &fullDisk{s, s.dial("orders"), map[string]int64{}}
	d.untilFull("keep", 16)
	s.kill()

	s = newSite(t)
	s.smallDisk("D-07", "tmpfs", 64<<20)
	give := s.fill(0)
	if code, words := s.startFails(); code != exitFull || !strings.Contains(words, "no space left") {
		t.Errorf("on a full disk: exit code %d\n%s", code, words)
	}
	give()
	s.start()
}
