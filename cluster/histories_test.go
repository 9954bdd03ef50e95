package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/identity/identitytest"
	"github.com/waxwing-mq/waxwing/internal/history"
	"github.com/waxwing-mq/waxwing/internal/lane"
)

var historySeed = flag.Int("history.seed", -1, "only the history of this seed")

const (
	historyTopic      = "orders"
	historyPartitions = 2
	historyRounds     = 4                // of faults
	healsWithin       = 10 * time.Second // of virtual time
	checkLimit        = time.Minute      // of porcupine, for what it takes milliseconds
)

// TestR01Histories: clients on all nodes publish and read while the network is cut, nodes end and start, and leadership moves. What
// they were told is linearizable, nothing that was acknowledged is lost, and after each fault the cluster serves again in time.
func TestR01Histories(t *testing.T) {
	from, to := 0, lane.Pick(2, len(scenarios)+3, 25*len(scenarios))
	if *historySeed >= 0 {
		from, to = *historySeed, *historySeed+1
	}
	for seed := from; seed < to; seed++ {
		what := &scenarios[seed%len(scenarios)]
		t.Run(fmt.Sprint(what.name, " ", seed), func(t *testing.T) { tellHistory(t, what, seed, historyRounds, 3*time.Second) })
	}
}

// TestR03TransferUnderLoad hands leadership over again and again under load. With clients that wait every record is acknowledged, once,
// whatever was unknown on the way.
func TestR03TransferUnderLoad(t *testing.T) {
	lane.Need(t, 2, "R-03")
	const each = 50
	for seed := range lane.Pick(0, 1, 10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			transfers := 0
			what := scenario{"", func(s *tale) {
				s.sleep(1, 500)
				if s.Nodes[s.leading()].Group.Raft().LeadershipTransfer().Error() == nil {
					transfers++
				}
			}}
			for _, o := range tellHistory(t, &what, seed, each, -1) {
				if o.Kind == history.Append && o.Outcome != history.OK {
					t.Error(o.String())
				}
			}
			if t.Logf("%d transfers", transfers); transfers < each/2 {
				t.Errorf("only %d of %d transfers succeeded", transfers, each)
			}
		})
	}
}

// tale is one history: whole nodes, clients that publish and read, and what happens to them.
type tale struct {
	*brokertest.Several
	t        *testing.T
	random   *rand.Rand // Owned by the test's goroutine.
	recorder *history.Recorder
	timeout  time.Duration // of the clients' requests; negative = they wait
	cut      string        // Owned by the test's goroutine. Whom a round is about.

	final map[string]map[string][]history.Record // by partition and node
}

// tellHistory lets it happen and checks it.
func tellHistory(t *testing.T, what *scenario, seed, rounds int, timeout time.Duration) []history.Op {
	s := &tale{timeout: timeout, final: map[string]map[string][]history.Record{}}
	synctest.Test(t, func(t *testing.T) {
		s.t, s.random = t, rand.New(rand.NewPCG(uint64(seed), 0))
		s.recorder = history.NewRecorder() // its clock is the bubble's
		s.Several = brokertest.StartSeveral(t, "n1", "n2", "n3")
		s.play(what, uint64(seed), rounds)
	})
	return s.check(t, seed)
}

// play lets clients work through the rounds of a scenario, and then reads everything back from each node.
func (s *tale) play(what *scenario, seed uint64, rounds int) {
	admin := s.dial("admin", s.IDs...)
	if _, err := admin.Topics().Create(s.t.Context(), historyTopic, client.TopicSpec{Partitions: historyPartitions}); err != nil {
		s.t.Fatal(err)
	}
	stop := make(chan struct{})
	var work sync.WaitGroup
	for i := range 6 {
		servers := []string{s.IDs[i%3]}
		if i >= 3 { // goes where it can
			servers = append(servers, s.IDs[(i+1)%3], s.IDs[(i+2)%3])
		}
		w := &worker{s: s, name: fmt.Sprint("c", i), random: rand.New(rand.NewPCG(seed, uint64(i+1)))}
		w.client = s.dial(w.name, servers...)
		work.Go(func() { w.work(stop) })
	}
	var followers []*follower
	for p := range uint32(historyPartitions) {
		f := s.follow(p)
		work.Go(f.read)
		followers = append(followers, f)
	}
	probes := map[string]*client.Client{}
	for _, id := range s.IDs {
		probes[id] = s.dial("probe-"+id, id)
	}
	for range rounds {
		s.sleep(200, 2000)
		what.round(s)
		s.heals(probes)
	}
	close(stop)
	s.readBack(probes)
	for p, f := range followers {
		f.until(int64(len(s.final[partitionName(uint32(p))]["n1"])))
	}
	work.Wait()
}

// sleep lets between min and max milliseconds pass.
func (s *tale) sleep(min, max int) {
	time.Sleep(time.Duration(min+s.random.IntN(max-min)) * time.Millisecond)
}

// dial connects a client that knows these nodes. It is tried again while there is an election.
func (s *tale) dial(name string, nodes ...string) *client.Client {
	s.t.Helper()
	cert := s.PKI.Client(name)
	o := client.Options{CertPEM: cert.CertPEM, KeyPEM: cert.KeyPEM, CAPEM: s.PKI.RootsPEM(), ServerName: "localhost", Name: name, Dialer: s.Clients.DialContext, RequestTimeout: s.timeout}
	for _, id := range nodes {
		o.Servers = append(o.Servers, brokertest.Address(id))
	}
	c, err := client.Dial(s.t.Context(), o)
	for end := time.Now().Add(time.Minute); err != nil && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
		c, err = client.Dial(s.t.Context(), o)
	}
	if err != nil {
		s.t.Fatalf("%s: %v", name, err)
	}
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		c.Close(ctx)
	})
	return c
}

func partitionName(p uint32) string { return fmt.Sprint(historyTopic, "/", p) }

// worker is a client that publishes and reads.
type worker struct {
	s      *tale
	name   string
	client *client.Client
	random *rand.Rand
	bodies int
}

// work publishes and reads until stop, and waits for all answers.
func (w *worker) work(stop <-chan struct{}) {
	var answers sync.WaitGroup
	defer answers.Wait()
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(w.random.IntN(400)) * time.Millisecond):
		}
		p := uint32(w.random.IntN(historyPartitions))
		switch w.random.IntN(8) {
		case 0, 1:
			w.s.read(w.client, w.name, p, w.random.Int64N(30), false)
			continue
		case 2:
			w.s.read(w.client, w.name, p, w.random.Int64N(30), true)
			continue
		case 3:
			w.s.tail(w.client, w.name)
			continue
		}
		for range 1 + w.random.IntN(4) {
			w.bodies++
			w.s.publish(w.client, w.name, p, fmt.Sprintf("%s-%d %x", w.name, w.bodies, w.random.Uint64()), &answers)
		}
	}
}

// publish publishes a record and notes the answer when it comes.
func (s *tale) publish(c *client.Client, name string, p uint32, body string, answers *sync.WaitGroup) {
	end := s.recorder.Append(name, partitionName(p), body)
	f := c.PublishAsync(s.t.Context(), historyTopic, client.Record{Body: []byte(body)}, client.ToPartition(p))
	answers.Go(func() {
		ack, err := f.Wait(s.t.Context())
		end(outcomeOf(err), ack.Offset, err)
	})
}

// outcomeOf is what the error of a publish says.
func outcomeOf(err error) history.Outcome {
	var unknown *client.UnknownOutcomeError
	switch {
	case err == nil:
		return history.OK
	case errors.As(err, &unknown):
		return history.Unknown
	}
	return history.Rejected
}

// read reads a partition from an offset to its end, as the client's node has it or as of now, and notes what came.
func (s *tale) read(c *client.Client, name string, p uint32, from int64, now bool) ([]history.Record, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	begin := s.recorder.Read
	if now {
		begin = s.recorder.ReadNow
	}
	end := begin(name, partitionName(p), from)
	records, err := recordsOf(c.Subscribe(ctx, client.SubscribeOptions{Topics: []string{historyTopic}, Partition: &p, From: client.AtOffset(from), StopAtEnd: true, Linearizable: now}))
	end(records, err)
	return records, err
}

// tail asks where the partitions end now, and notes the answer.
func (s *tale) tail(c *client.Client, name string) {
	var ends []func(int64, error)
	for p := range uint32(historyPartitions) {
		ends = append(ends, s.recorder.Tail(name, partitionName(p)))
	}
	info, err := c.Topics().Linearizable().Get(s.t.Context(), historyTopic)
	for p, end := range ends {
		next := int64(0)
		if err == nil {
			next = info.Partitions[p].Next
		}
		end(next, err)
	}
}

// recordsOf reads a subscription to its end.
func recordsOf(sub *client.Subscription, err error) (records []history.Record, _ error) {
	if err != nil {
		return nil, err
	}
	defer sub.Close()
	for m, err := range sub.Messages() {
		if err != nil {
			return records, err
		}
		records = append(records, recordOf(m))
	}
	return records, nil
}

func recordOf(m *client.Message) history.Record {
	return history.Record{Offset: m.Offset, Value: string(m.Body), Publisher: m.Publisher}
}

// follower is a subscription that lives as long as the history, whatever happens to its connection.
type follower struct {
	s    *tale
	part uint32
	sub  *client.Subscription

	mu   sync.Mutex
	got  []history.Record // Guarded by mu.
	goal int64            // Guarded by mu. -1 = not known yet.
	err  error            // Guarded by mu. Why it ended too early.
}

func (s *tale) follow(p uint32) *follower {
	s.t.Helper()
	c := s.dial(fmt.Sprint("follower-", p), s.IDs...)
	sub, err := c.Subscribe(s.t.Context(), client.SubscribeOptions{Topics: []string{historyTopic}, Partition: &p, From: client.Earliest()})
	if err != nil {
		s.t.Fatal(err)
	}
	return &follower{s: s, part: p, sub: sub, goal: -1}
}

func (f *follower) read() {
	for m, err := range f.sub.Messages() {
		f.mu.Lock()
		if err != nil && f.err == nil {
			f.err = err
		}
		if err == nil {
			f.got = append(f.got, recordOf(m))
		}
		f.mu.Unlock()
	}
}

// until waits until the subscription has brought everything, and ends it.
func (f *follower) until(end int64) {
	f.s.t.Helper()
	var got int64
	var err error
	for range 600 {
		f.mu.Lock()
		got, err = int64(len(f.got)), f.err
		f.mu.Unlock()
		if got >= end || err != nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	f.sub.Close()
	if got != end || err != nil {
		f.s.t.Errorf("the subscription of partition %d brought %d of %d records: %v", f.part, got, end, err)
	}
}

// heals publishes and reads through each node, from the end of a fault on, until that works.
func (s *tale) heals(probes map[string]*client.Client) {
	s.t.Helper()
	start := time.Now()
	var work sync.WaitGroup
	for id, c := range probes {
		work.Go(func() {
			for try := 0; ; try++ {
				body := fmt.Sprint("probe-", id, " ", start.UnixNano(), " ", try)
				end := s.recorder.Append("probe-"+id, partitionName(0), body)
				ack, err := c.Publish(s.t.Context(), historyTopic, client.Record{Body: []byte(body)}, client.ToPartition(0))
				end(outcomeOf(err), ack.Offset, err)
				if err == nil {
					_, err = s.read(c, "probe-"+id, 0, ack.Offset, true)
				}
				if took := time.Since(start); err == nil && took <= healsWithin {
					return
				} else if took > healsWithin {
					s.t.Errorf("%s does not serve %v after the fault: %v", id, took, err)
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	work.Wait()
}

// readBack waits until all nodes have what the leader has, and reads each partition from each of them.
func (s *tale) readBack(probes map[string]*client.Client) {
	s.t.Helper()
	s.settle()
	for p := range uint32(historyPartitions) {
		name := partitionName(p)
		s.final[name] = map[string][]history.Record{}
		for _, id := range s.IDs {
			records, err := recordsOf(probes[id].Subscribe(s.t.Context(), client.SubscribeOptions{Topics: []string{historyTopic}, Partition: &p, From: client.Earliest(), StopAtEnd: true}))
			if err != nil {
				s.t.Errorf("read %s back from %s: %v", name, id, err)
			}
			s.final[name][id] = records
		}
	}
	first := s.Nodes["n1"].Group.Digest()
	for id, n := range s.Nodes {
		if n.Group.Digest() != first {
			s.t.Errorf("%s and n1 have other states", id)
		}
	}
}

// settle waits until no client waits for an answer and all nodes have applied what the leader has.
func (s *tale) settle() {
	s.t.Helper()
	time.Sleep(20 * time.Second) // more than any client waits
	last := s.Leader().Group.Raft().LastIndex()
	for id, n := range s.Nodes {
		for wait := 0; n.Group.Raft().AppliedIndex() < last; wait++ {
			if wait > 600 {
				s.t.Fatalf("%s has applied entry %d, the leader has %d", id, n.Group.Raft().AppliedIndex(), last)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	synctest.Wait()
}

// check holds what clients were told against what the nodes have.
func (s *tale) check(t *testing.T, seed int) []history.Op {
	ops := s.recorder.Ops()
	t.Logf("seed %d: %s", seed, history.Count(ops))
	dir := ""
	for p := range uint32(historyPartitions) {
		name := partitionName(p)
		log := s.final[name]["n1"]
		for _, id := range s.IDs {
			if !slices.Equal(log, s.final[name][id]) {
				t.Errorf("%s: n1 and %s have other records", name, id)
			}
		}
		for _, f := range history.CheckLog(name, log, ops, func(who string) string { return "spiffe://" + identitytest.TrustDomain + "/client/" + who }) {
			t.Error(f)
		}
		ok, info := history.CheckLinearizable(name, log, ops, checkLimit)
		if !ok {
			t.Errorf("%s: not linearizable", name)
		}
		if t.Failed() {
			if dir == "" {
				dir, _ = os.MkdirTemp("", "waxwing-history-")
			}
			if err := history.Visualize(info, filepath.Join(dir, strings.ReplaceAll(name, "/", "-")+".html")); err != nil {
				t.Error(err)
			}
		}
	}
	if t.Failed() {
		data, err := json.MarshalIndent(map[string]any{"seed": seed, "operations": ops, "logs": s.final}, "", " ")
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "history.json"), data, 0o600)
		}
		t.Errorf("the history is in %s (%v); again: go test ./cluster -run '^%s$'; of R-01 also: -history.seed %d", dir, err, t.Name(), seed)
	}
	return ops
}
