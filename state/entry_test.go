package state_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// every is one command of each kind, with every field set.
func every() [][]byte {
	records, _ := blob(2, "body")
	spec := state.Spec{Partitions: 2, MaxAgeMs: 1 << 40, MaxBytes: 1 << 33, MaxRecords: 70_000}
	return [][]byte{
		state.AppendInit(nil, &state.Init{ClusterID: "cluster-1"}),
		state.AppendCreateTopic(nil, &state.CreateTopic{Name: "orders.eu", Spec: spec, IfNotExists: true, By: "spiffe://x/client/a", TopicsMax: 10, PartitionsMax: 1000}),
		state.AppendPublish(nil, &state.Publish{
			Partition: 1, Incarnation: 1, Producer: [16]byte{1, 2}, Epoch: 3, Sequence: 0,
			Info:      batch.Info{Count: 2, Flags: batch.HasTTL, MinTTLMs: 60_000},
			Principal: "spiffe://x/client/a", SPKI: [32]byte{4}, PolicyVersion: 300, Records: records,
		}),
		state.AppendAlterTopic(nil, &state.AlterTopic{Name: "orders.eu", Incarnation: 1, Mask: 15, Spec: state.Spec{Partitions: 3, MaxAgeMs: 5}, By: "spiffe://x/client/a", PartitionsMax: 9}),
		state.AppendSetPolicy(nil, &state.SetPolicy{Expect: 0, Reset: true, Document: []byte("roles: {}"), By: "tool"}),
		state.AppendRevoke(nil, &state.Revoke{Entry: state.Revocation{Kind: state.RevokeSerial, Value: "0a", Issuer: "CN=x", Reason: "lost"}, By: "spiffe://x/client/a"}),
		state.AppendDeleteTopic(nil, &state.DeleteTopic{Name: "orders.eu", Incarnation: 1, By: "spiffe://x/client/a"}),
		state.AppendRotate(nil, &state.Rotate{Segment: 1}),
		state.AppendTrim(nil, &state.Trim{Cuts: []state.Cut{{Partition: 1, Low: 1}, {Partition: 300, Low: 70_000}}}),
		state.AppendSetMember(nil, &state.SetMember{Member: state.Member{Node: "n2", Disk: "d2", Peer: "n2:7421", Client: "n2:7420", Software: "1.0", Commands: 300}}),
		state.AppendRemoveMember(nil, &state.RemoveMember{Node: "n3"}),
		state.AppendSetSealKey(nil, &state.SetSealKey{Node: "n2", Key: state.SealKey{5, 6}}),
		state.AppendSetTicketKey(nil, &state.SetTicketKey{Number: 1, Copies: []state.TicketCopy{{Node: "n2", To: state.SealKey{5, 6}, Sealed: []byte("sealed")}}}),
		state.AppendRecover(nil, &state.Recover{From: "cluster-1", Cluster: "cluster-2", Node: "n2", Lost: []string{"n1", "n4"}}),
		state.AppendCreateGroup(nil, &state.CreateGroup{Name: "billing", Spec: fullSpec(), Starts: []state.Position{{Partition: 1, Offset: 70_000}}, By: "spiffe://x/client/a", GroupsMax: 300}),
		state.AppendAlterGroup(nil, &state.AlterGroup{Name: "billing", Mask: 63, Spec: fullSpec(), Paused: true, By: "spiffe://x/client/a"}),
		state.AppendResetGroup(nil, &state.ResetGroup{Name: "billing", Resets: 0, Starts: []state.Position{{Partition: 1, Offset: 0}}, By: "spiffe://x/client/a"}),
		state.AppendDeleteGroup(nil, &state.DeleteGroup{Name: "unpaid", By: "spiffe://x/client/a"}),
		state.AppendSettle(nil, &state.Settle{Group: "billing", ID: 1, Resets: 1, By: "spiffe://x/client/a", SPKI: [32]byte{3}, PolicyVersion: 300, Items: []state.Settlement{
			{Op: state.SettleAck, Partition: 1, Offset: 70_000, Count: 300},
			{Op: state.SettleRetry, Partition: 1, Offset: 1, Count: 2, Attempt: 3, DelayMs: 500},
			{Op: state.SettleDead, Partition: 1, Offset: 2, Count: 1, Attempt: 4, Letter: &state.Letter{Reason: "kept"}},
			{Op: state.SettleDead, Partition: 1, Offset: 3, Count: 1, Attempt: 4, Letter: &state.Letter{Reason: "bad", Target: 2, Info: batch.Info{Count: 1, Flags: batch.HasTTL, MinTTLMs: 60_000},
				Origin: batch.Origin{Topic: "orders.eu", Partition: 1, Offset: 3, TimeMs: 1 << 40, Publisher: "spiffe://x/client/b", SPKI: [32]byte{8}}, Records: records}},
		}}),
	}
}

func fullSpec() state.GroupSpec {
	var list []topic.Pattern
	for _, s := range []string{"orders.eu", "bills.>"} {
		p, err := topic.ParsePattern(s)
		if err != nil {
			panic(err)
		}
		list = append(list, p)
	}
	return state.GroupSpec{Topics: list, KeyOrder: true, AckWaitMs: 30_000, MaxDeliver: 5, BackoffMs: []uint64{1_000, 30_000}, DeadLetter: "dead.billing", MaxInFlight: 1_000}
}

func entryOf(cmds ...[]byte) []byte {
	b := state.AppendEntryHeader(nil, 1_700_000_000_000)
	for _, c := range cmds {
		b = state.AppendCommand(b, c)
	}
	return b
}

// TestGoldenEntry holds the format of entries: what one version wrote, all later ones read.
func TestGoldenEntry(t *testing.T) {
	const path = "testdata/entry.hex"
	got := hexLines(entryOf(every()...))
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("entries are encoded differently now:\n%s\nwas\n%s", got, want)
	}
}

func hexLines(b []byte) string {
	var s strings.Builder
	for len(b) > 0 {
		n := min(32, len(b))
		s.WriteString(hex.EncodeToString(b[:n]) + "\n")
		b = b[n:]
	}
	return s.String()
}

// TestRecode: decode and encode give the same bytes, for every kind.
func TestRecode(t *testing.T) {
	for _, c := range every() {
		again, err := state.Recode(c)
		if err != nil || !bytes.Equal(again, c) {
			t.Errorf("recode %x: %x, %v", c, again, err)
		}
	}
}

// TestMalformed: whatever is cut off, added, flipped to another version or kind is an
// error that says which, and changes nothing that anyone can see.
func TestMalformed(t *testing.T) {
	apply := func(b []byte) error {
		m := state.New(state.Limits{})
		var e state.Effects
		err := m.Apply(1, b, &e)
		if err != nil && m.View().Applied() != 0 {
			t.Errorf("an entry with an error is visible: %x", b)
		}
		return err
	}
	whole := entryOf(every()...)
	if err := apply(whole); err != nil {
		t.Fatal(err)
	}
	ends := map[int]bool{len(whole): true}
	for n, at := 0, state.EntryHeaderBytes; at < len(whole); n++ {
		ends[at] = true
		at += state.CommandOverheadBytes + len(every()[n])
	}
	for n := range whole {
		if err := apply(whole[:n]); ends[n] != (err == nil) || err != nil && !errors.Is(err, state.ErrMalformed) {
			t.Errorf("cut at %d of %d: %v", n, len(whole), err)
		}
	}
	for _, c := range every() {
		for n := range c {
			if err := apply(entryOf(c[:n])); !errors.Is(err, state.ErrMalformed) {
				t.Errorf("command %x cut at %d: %v", c, n, err)
			}
		}
		if err := apply(entryOf(append(c[:len(c):len(c)], 0))); !errors.Is(err, state.ErrMalformed) {
			t.Errorf("command %x with a byte behind: %v", c, err)
		}
	}
	flip := func(b []byte, at int, to byte) []byte {
		b = bytes.Clone(b)
		b[at] = to
		return b
	}
	publish := every()[2]
	for _, c := range []struct {
		name string
		b    []byte
		want error
	}{
		{"entry version 0", flip(whole, 0, 0), state.ErrMalformed},
		{"entry version 2", flip(whole, 0, 2), state.ErrVersion},
		{"time negative", flip(whole, 1, 0x80), state.ErrMalformed},
		{"time far away", flip(whole, 2, 0x01), state.ErrMalformed},
		{"command version 0", entryOf(flip(publish, 0, 0)), state.ErrMalformed},
		{"command version 2", entryOf(flip(publish, 0, 2)), state.ErrVersion},
		{"kind 0", entryOf(flip(publish, 1, 0)), state.ErrMalformed},
		{"kind of a newer program", entryOf(flip(publish, 1, 200)), state.ErrVersion},
		{"kind of other fields", entryOf(flip(publish, 1, 3)), state.ErrMalformed},
		{"too many fields", entryOf(flip(publish, 2, 0x9d)), state.ErrMalformed},
		{"empty command", entryOf(nil), state.ErrMalformed},
		{"length lies", append(state.AppendEntryHeader(nil, 1), 0xff, 0xff, 0xff, 0xff, 1), state.ErrMalformed},
	} {
		if err := apply(c.b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestPublishFields: a publish that no broker can have made is malformed.
func TestPublishFields(t *testing.T) {
	records, info := blob(2, "x")
	good := state.Publish{Partition: 1, Info: info, Principal: "p", Records: records}
	for name, change := range map[string]func(*state.Publish){
		"no record":           func(p *state.Publish) { p.Info.Count = 0 },
		"more than the bytes": func(p *state.Publish) { p.Info.Count = uint32(len(records) + 1) },
		"too many records":    func(p *state.Publish) { p.Info.Count, p.Records = 65_536, make([]byte, 70_000) },
		"unknown flags":       func(p *state.Publish) { p.Info.Flags = 0x10 },
		"no principal":        func(p *state.Publish) { p.Principal = "" },
		"long principal":      func(p *state.Publish) { p.Principal = strings.Repeat("x", 2_049) },
		"principal not UTF-8": func(p *state.Publish) { p.Principal = "\xff" },
	} {
		c := good
		change(&c)
		if err := state.Check(state.AppendPublish(nil, &c)); !errors.Is(err, state.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := state.Check(state.AppendPublish(nil, &good)); err != nil {
		t.Error(err)
	}
}

// TestOverhead: the promised upper bound holds for the largest values.
func TestOverhead(t *testing.T) {
	c := state.Publish{
		Partition: 1<<64 - 1, Incarnation: 1<<64 - 1, Epoch: 1<<64 - 1, Sequence: 1<<64 - 1, PolicyVersion: 1<<64 - 1,
		Info:      batch.Info{Count: 1<<32 - 1, Flags: 255, MinTTLMs: 1<<64 - 1},
		Principal: strings.Repeat("x", 2_048), Records: make([]byte, 70_000),
	}
	if n := len(state.AppendPublish(nil, &c)) - len(c.Principal) - len(c.Records); n > state.PublishOverheadBytes {
		t.Errorf("a publish has %d bytes of overhead, promised are %d", n, state.PublishOverheadBytes)
	}
}

// TestIndexMustRise: an entry is applied once.
func TestIndexMustRise(t *testing.T) {
	m := state.New(state.Limits{})
	var e state.Effects
	for _, c := range []struct {
		index uint64
		ok    bool
	}{{0, false}, {5, true}, {5, false}, {4, false}, {9, true}} {
		if err := m.Apply(c.index, entryOf(), &e); (err == nil) != c.ok {
			t.Errorf("apply %d: %v", c.index, err)
		}
	}
}

// FuzzApply (P-04): any bytes are applied or refused, without panic and with bounded
// memory; Check agrees with Apply; what is accepted is encoded the same again.
func FuzzApply(f *testing.F) {
	seeds := [][]byte{entryOf(every()...), entryOf()}
	for _, c := range every() {
		seeds = append(seeds, entryOf(c), entryOf(every()[1], c))
	}
	if len(seeds) != 40 {
		f.Fatalf("%d seeds", len(seeds))
	}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := state.New(state.Limits{Partitions: 1_000, TopicPartitions: 1_000})
		before := m.Digest()
		var e state.Effects
		var was, is runtime.MemStats
		runtime.ReadMemStats(&was)
		err := m.Apply(1, b, &e)
		runtime.ReadMemStats(&is)
		if got, most := is.TotalAlloc-was.TotalAlloc, uint64(4<<20+64*len(b)); got > most {
			t.Errorf("%d bytes made Apply allocate %d", len(b), got)
		}
		if err != nil {
			if !errors.Is(err, state.ErrMalformed) && !errors.Is(err, state.ErrVersion) {
				t.Errorf("untyped error: %v", err)
			}
			return
		}
		if len(b) > state.EntryHeaderBytes && m.Digest() == before {
			t.Error("an applied entry left no trace")
		}
		for rest := b[state.EntryHeaderBytes:]; len(rest) > 0; {
			n := int(rest[0])<<24 | int(rest[1])<<16 | int(rest[2])<<8 | int(rest[3])
			cmd := rest[4 : 4+n]
			rest = rest[4+n:]
			if err := state.Check(cmd); err != nil {
				t.Errorf("applied, but Check says %v", err)
			}
			if again, err := state.Recode(cmd); err != nil || !bytes.Equal(again, cmd) {
				t.Errorf("recode %x: %x, %v", cmd, again, err)
			}
		}
		for _, a := range e.Appends {
			var out batch.Batch
			if rest, err := batch.Parse(a.Raw, &out); err != nil || len(rest) != 0 || out.Base != a.Base || out.Count != a.Count {
				t.Errorf("stored batch: %v", err)
			}
		}
	})
}
