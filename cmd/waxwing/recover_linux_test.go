package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/internal/lane"
)

// runbook is the README's commands for a lost majority, in their order.
func (s *threeNodes) runbook() (list [][]string) {
	s.t.Helper()
	page, err := os.ReadFile("../../README.md")
	if err != nil {
		s.t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "### When the majority is lost for good")
	text, _, _ = strings.Cut(text, "\n## ")
	for _, m := range regexp.MustCompile(`(?m)^\$ waxwing ([^#\n]*)`).FindAllStringSubmatch(text, -1) {
		line := strings.ReplaceAll(m[1], "n1.yaml", s.path("n1.yaml"))
		for _, number := range []string{"4", "5"} {
			line = strings.ReplaceAll(line, "n"+number+"@HOST:7421", "n"+number+"@"+s.network+number+":17421")
		}
		list = append(list, strings.Fields(line))
	}
	if len(list) != 5 {
		s.t.Fatalf("the runbook has %v", list)
	}
	return list
}

// recover runs a recovery of n1's folder.
func (s *threeNodes) recover(command []string, more ...string) *survivorJSON {
	s.t.Helper()
	out := s.must(slices.Concat(command, []string{"-o", "json"}, more)...)
	var j survivorJSON
	if err := json.Unmarshal([]byte(out), &j); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	return &j
}

// Bounds of how far a sender is ahead of who reads its outcomes.
const (
	senderFlight = 64
	senderAhead  = 2*senderFlight + 1
)

// sender publishes records one behind the other, through everything that happens.
type sender struct {
	futures chan *client.Future
	stop    chan struct{}
}

// newSender begins with a record's number.
func newSender(c *client.Client, from int64) *sender {
	s := &sender{futures: make(chan *client.Future, senderFlight), stop: make(chan struct{})}
	go func() {
		defer close(s.futures)
		for n := from; ; n++ {
			f := c.PublishAsync(context.Background(), journalTopic, client.Record{Body: journalBody(n)})
			select {
			case s.futures <- f:
			case <-s.stop:
				return
			}
			if n%senderFlight != 0 {
				continue
			}
			select {
			case <-f.Done():
			case <-s.stop:
				return
			}
		}
	}()
	return s
}

// acked takes the next outcomes, which must all be acknowledgements at their number; it returns the number behind.
func (s *sender) acked(t *testing.T, from int64, count int) int64 {
	t.Helper()
	for range count {
		ack, err := (<-s.futures).Wait(t.Context())
		if err != nil || ack.Offset != from {
			t.Fatalf("record %d: %+v, %v", from, ack, err)
		}
		from++
	}
	return from
}

// finish ends publishing, and says what became of the rest, from a number on: numbers by offset of what was acknowledged since a
// time, and the number behind what was before. What was not acknowledged must have ended as unknown.
func (s *sender) finish(t *testing.T, number int64, since time.Time) (told map[int64]int64, before int64) {
	t.Helper()
	told, before = map[int64]int64{}, number
	close(s.stop)
	for f := range s.futures {
		ack, err := f.Wait(t.Context())
		_, unknown := errors.AsType[*client.UnknownOutcomeError](err)
		switch {
		case err == nil && ack.Time.Before(since) && ack.Offset == number && !ack.Duplicate:
			before = number + 1
		case err == nil:
			told[ack.Offset] = number
		case !unknown:
			t.Errorf("record %d: %v", number, err)
		}
		number++
	}
	return told, before
}

// TestB04Processes loses the majority of three processes under load, for good, and follows the runbook of the README. What the
// survivor had is there byte for byte, all that all three had acknowledged is among it, and where it ends was said. The
// clients that live through it lose nothing without being told. The cluster grows again with new nodes and loses one, and an old
// node that is started again is refused and disturbs nobody.
func TestB04Processes(t *testing.T) {
	lane.Need(t, 2, "B-04")
	for round := range lane.Pick(0, 1, 5) {
		t.Run(fmt.Sprint(round), func(t *testing.T) { loseTheMajority(t, lane.Pick(0, 1_500, 20_000)) })
	}
}

func loseTheMajority(t *testing.T, some int) {
	s := newThreeNodes(t)
	book := &logBook{wrote: make(chan struct{}, 1)}
	s.log = book
	for _, name := range threeNames {
		s.spawn(name)
	}
	s.await(threeNames...)
	reader, err := s.dial("reader").Subscribe(t.Context(), client.SubscribeOptions{Topics: []string{journalTopic}, From: client.Earliest()})
	if err != nil {
		t.Fatal(err)
	}

	// All three have what is acknowledged at first; n1 dies under load, the others go on, and die.
	orders := s.dial("orders")
	byAll := s.publishEverywhere(orders, some)
	load := newSender(orders, byAll)
	acked := load.acked(t, byAll, some)
	s.kill("n1")
	most := acked + senderAhead
	acked = load.acked(t, acked, some+senderAhead)
	s.kill("n2")
	s.kill("n3")
	if err := errors.Join(os.Rename(s.path("data-n2"), s.path("aside")), os.RemoveAll(s.path("data-n3"))); err != nil {
		t.Fatal(err)
	}

	lost := time.Now()
	steps := s.runbook()
	look := s.recover(steps[0])
	end := look.next(journalTopic)
	if look.State != "lost" || look.Recovered != nil || !slices.Equal(look.Removed, []string{"n2", "n3"}) || end < byAll || end > most {
		t.Fatalf("found %+v; %d were acknowledged by all, %d at all, %d sent when n1 was killed", look, byAll, acked, most)
	}
	s.recoverOnce(steps, look)
	if !slices.Equal(steps[2], []string{"serve", "-c", s.path("n1.yaml")}) {
		t.Fatalf("the runbook starts the node with %v", steps[2])
	}
	s.spawn("n1")
	s.await("n1")
	if c := s.status("n1 leads", func(c *clusterJSON) bool { return c.Leader == "n1" }); len(c.Members) != 1 || len(c.Removed) != 2 || c.Cluster == look.Cluster {
		t.Errorf("%+v", c)
	}

	told, acked := load.finish(t, acked, lost)
	next := acked + senderAhead
	ack, err := orders.Publish(t.Context(), journalTopic, client.Record{Body: journalBody(next)})
	if err != nil || ack.Offset < end {
		t.Errorf("the client that lived through it publishes: %+v, %v", ack, err)
	}
	told[ack.Offset] = next
	log := s.records()
	for i := range end {
		if int64(len(log)) <= i || !bytes.Equal(log[i], journalBody(i)) {
			t.Fatalf("record %d of %d is not there, or another one; n1 had %d", i, len(log), end)
		}
	}
	for offset, number := range told {
		if offset >= int64(len(log)) || !bytes.Equal(log[offset], journalBody(number)) {
			t.Errorf("record %d was acknowledged at offset %d, where it is not", number, offset)
		}
	}
	readAnew(t, reader, log)
	t.Logf("%d records acknowledged by all, %d in all; n1 had %d, so %d are lost; the log has %d", byAll, acked, end, acked-end, len(log))
	s.grow(steps, book)
}

// publishEverywhere publishes records, and waits until every node has applied them.
func (s *threeNodes) publishEverywhere(c *client.Client, count int) int64 {
	s.t.Helper()
	var futures []*client.Future
	for n := range int64(count) {
		futures = append(futures, c.PublishAsync(s.t.Context(), journalTopic, client.Record{Body: journalBody(n)}))
	}
	for n, f := range futures {
		if ack, err := f.Wait(s.t.Context()); err != nil || ack.Offset != int64(n) {
			s.t.Fatalf("record %d: %+v, %v", n, ack, err)
		}
	}
	s.status("all have everything", func(c *clusterJSON) bool {
		return len(c.Members) == 3 && !slices.ContainsFunc(c.Members, func(m memberJSON) bool { return m.Fault != "" || *m.Lag > 0 })
	})
	return int64(count)
}

// recoverOnce follows the runbook to where the node is started, and looks at what else a person may do on the way.
func (s *threeNodes) recoverOnce(steps [][]string, look *survivorJSON) {
	t := s.t
	t.Helper()
	if out, code := s.waxwing(steps[1]...); code != exitUsage {
		t.Errorf("without a yes: exit code %d: %s", code, out)
	}
	s.refusesDamage(steps[1])
	if again := s.recover(steps[0]); again.Cluster != look.Cluster || again.Log != look.Log || again.State != "lost" {
		t.Errorf("a look changed something: %+v, %+v", look, again)
	}
	t.Setenv("WAXWING_TEST_FAULT", "seal.rename=crash-before")
	if out, code := s.waxwing(append(steps[1], "-y")...); code != -1 {
		t.Fatalf("it was to be killed: exit code %d: %s", code, out)
	}
	t.Setenv("WAXWING_TEST_FAULT", "")
	s.spawn("n1")
	if code := exitCodeOf(s.nodes["n1"].Wait()); code != exitFailure {
		t.Errorf("a node on a recovery that had not ended ended with %d", code)
	}
	unfinished := s.recover(steps[0])
	if unfinished.State != "unfinished" || unfinished.Cluster == look.Cluster || unfinished.Records != look.Records {
		t.Errorf("cut off: %+v", unfinished)
	}
	done := s.recover(steps[1], "-y")
	if done.Recovered == nil || done.Recovered.Cluster != unfinished.Cluster || done.Recovered.Term <= look.Log.LastTerm || done.Recovered.Index <= look.Log.Last {
		t.Fatalf("recovered %+v of %+v", done, look)
	}
	if again := s.recover(steps[1]); again.State != "alone" || again.Cluster != done.Recovered.Cluster || again.Recovered != nil || !slices.Equal(again.Removed, look.Removed) {
		t.Errorf("recovered again: %+v", again)
	}
}

// grow lets two new nodes in, starts an old one again, and loses a new one, under load.
func (s *threeNodes) grow(steps [][]string, book *logBook) {
	s.t.Helper()
	j := &journal{t: s.t, c: s.dial("orders"), topic: journalTopic + ".after", acked: make(chan int64, 1024), stop: make(chan struct{})}
	done := make(chan int64, 1)
	go func() { done <- j.publish() }()
	some := func() {
		for len(j.acked) > 0 {
			<-j.acked
		}
		for range 300 {
			<-j.acked
		}
	}
	for i, name := range []string{"n4", "n5"} {
		s.configure(name, 4+i, 0, fmt.Sprintf("n1@%[1]s1:17421, %[2]s@%[1]s%[3]d:17421", s.network, name, 4+i))
		s.spawn(name)
		s.must(steps[3+i]...)
		s.await(name)
	}
	before := s.status("both vote", func(c *clusterJSON) bool { return c.voters() == 3 })
	if err := os.Rename(s.path("aside"), s.path("data-n2")); err != nil {
		s.t.Fatal(err)
	}
	s.spawn("n2")
	book.await(s.t, "the other node refuses this node's certificate")
	some()
	after := s.status("nothing has changed", func(c *clusterJSON) bool { return c.voters() == 3 })
	if after.Leader != before.Leader || *after.Members[0].Term != *before.Members[0].Term || after.role("n2") != "" {
		s.t.Errorf("with n2: %+v, before: %+v", after, before)
	}
	if out, code := s.waxwing("cluster", "join", "n2@"+s.network+"2:17421"); code != exitFailure {
		s.t.Errorf("n2 may join again: exit code %d: %s", code, out)
	}
	s.kill("n4")
	some()
	close(j.stop)
	go func() {
		for range j.acked {
		}
	}()
	j.verify(s.site, <-done)
}

// records reads all of the journal's topic.
func (s *threeNodes) records() (list [][]byte) {
	s.t.Helper()
	sub, err := s.dial("reader").Subscribe(s.t.Context(), client.SubscribeOptions{Topics: []string{journalTopic}, From: client.Earliest(), StopAtEnd: true})
	if err != nil {
		s.t.Fatal(err)
	}
	for m, err := range sub.Messages() {
		if err != nil {
			s.t.Fatal(err)
		}
		if m.Offset != int64(len(list)) {
			s.t.Fatalf("record %d behind %d", m.Offset, len(list))
		}
		list = append(list, bytes.Clone(m.Body))
	}
	return list
}

// refusesDamage: with one damaged byte in a sealed segment nothing is recovered.
func (s *threeNodes) refusesDamage(step []string) {
	s.t.Helper()
	files, err := filepath.Glob(s.path("data-n1/storage/segments/*/SEALED"))
	if err != nil || len(files) == 0 {
		s.t.Fatalf("n1 has sealed nothing: %v", err)
	}
	files, err = filepath.Glob(filepath.Join(filepath.Dir(files[0]), "*.vlog"))
	if err != nil || len(files) == 0 {
		s.t.Fatalf("its segment has no values: %v", err)
	}
	good, err := os.ReadFile(files[0])
	if err != nil {
		s.t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[len(bad)/2] ^= 1
	s.write(strings.TrimPrefix(files[0], s.dir), bad)
	if out, code := s.waxwing(slices.Concat(step, []string{"-y"})...); code != exitFailure {
		s.t.Errorf("a damaged segment: exit code %d: %s", code, out)
	}
	s.write(strings.TrimPrefix(files[0], s.dir), good)
}

// readAnew reads on with a subscription that lived through the recovery: behind what it had from the old cluster it is told, and
// begins with the first record.
func readAnew(t *testing.T, sub *client.Subscription, log [][]byte) {
	t.Helper()
	next, told := int64(0), false
	for !told || next < int64(len(log)) {
		m, err := sub.Next(t.Context())
		switch {
		case errors.Is(err, client.ErrRecreated) && !told:
			next, told = 0, true
			continue
		case err != nil:
			t.Fatal(err)
		case m.Offset != next:
			t.Fatalf("record %d instead of %d; told of the recovery: %v", m.Offset, next, told)
		case told && !bytes.Equal(m.Body, log[next]):
			t.Fatalf("record %d is another one", next)
		}
		next++
	}
}

func (c *clusterJSON) voters() (n int) {
	for _, m := range c.Members {
		if m.Voter && m.Fault == "" {
			n++
		}
	}
	return n
}

// next is where a topic of one partition ends.
func (j *survivorJSON) next(topic string) int64 {
	for _, p := range j.Partitions {
		if p.Topic == topic {
			return p.Next
		}
	}
	return -1
}
