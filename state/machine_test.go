package state_test

import (
	"testing"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// log drives a machine: every call is one entry.
type log struct {
	t  testing.TB
	m  *state.Machine
	e  state.Effects
	at int64 // stamp of the next entry
	n  uint64
}

func newLog(t testing.TB, l state.Limits) *log {
	return &log{t: t, m: state.New(l), at: 1_000}
}

// apply applies commands as one entry and returns their results.
func (l *log) apply(cmds ...[]byte) []state.Result {
	l.t.Helper()
	b := state.AppendEntryHeader(nil, l.at)
	for _, c := range cmds {
		if err := state.Check(c); err != nil {
			l.t.Fatalf("check: %v", err)
		}
		b = state.AppendCommand(b, c)
	}
	l.n++
	l.e.Reset()
	if err := l.m.Apply(l.n, b, &l.e); err != nil {
		l.t.Fatalf("apply: %v", err)
	}
	for i := range b { // Apply keeps no reference into the entry
		b[i] = 0xff
	}
	if len(l.e.Results) != len(cmds) {
		l.t.Fatalf("%d results for %d commands", len(l.e.Results), len(cmds))
	}
	return l.e.Results
}

// create makes a topic and returns its partitions.
func (l *log) create(name string, partitions uint32) []topic.PartitionID {
	l.t.Helper()
	r := l.apply(state.AppendCreateTopic(nil, &state.CreateTopic{Name: topic.Name(name), Spec: state.Spec{Partitions: partitions}, By: "test"}))[0]
	if r.Status != state.StatusOK || !r.Created {
		l.t.Fatalf("create %s: %+v", name, r)
	}
	return r.Topic.Partitions
}

// blob is n records with this body.
func blob(n int, body string) ([]byte, batch.Info) {
	var b []byte
	for range n {
		b = batch.AppendRecord(b, &batch.Record{Body: []byte(body)})
	}
	return b, batch.Info{Count: uint32(n)}
}

// publish encodes a publish of n records.
func publish(part topic.PartitionID, principal string, producer byte, epoch, sequence uint64, n int) []byte {
	records, info := blob(n, "body")
	return state.AppendPublish(nil, &state.Publish{
		Partition: part, Producer: [16]byte{producer}, Epoch: epoch, Sequence: sequence,
		Info: info, Principal: principal, SPKI: [32]byte{7}, PolicyVersion: 3, Records: records,
	})
}

func TestPublishStoresTheBatch(t *testing.T) {
	l := newLog(t, state.Limits{})
	part := l.create("orders", 1)[0]
	l.at = 5_000
	r := l.apply(publish(part, "spiffe://x/client/a", 1, 2, 0, 3), publish(part, "spiffe://x/client/a", 1, 2, 3, 2))
	if r[1].Status != state.StatusOK || r[1].Offset != 3 || r[1].TimeMs != 5_000 || r[1].Incarnation == 0 {
		t.Fatalf("result: %+v", r[1])
	}
	var b batch.Batch
	if _, err := batch.Parse(l.e.Appends[1].Raw, &b); err != nil {
		t.Fatal(err)
	}
	records, _ := blob(2, "body")
	want := batch.Meta{
		Partition: part, Base: 3, Count: 2, TimeMs: 5_000, Publisher: "spiffe://x/client/a", SPKI: [32]byte{7},
		PolicyVersion: 3, Producer: [16]byte{1}, Epoch: 2, Sequence: 3,
	}
	if b.Meta != want || string(b.Records) != string(records) {
		t.Fatalf("stored %+v, want %+v", b.Meta, want)
	}
	p, ok := l.m.View().Partition(part)
	if !ok || p.Next != 5 || p.Low != 0 || p.Topic != "orders" {
		t.Fatalf("partition: %+v", p)
	}
}
