package state_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// encoded copies the chunks of a checkpoint.
func encoded(c *state.Checkpoint) (list [][]byte) {
	for chunk := range c.Chunks() {
		list = append(list, bytes.Clone(chunk))
	}
	return list
}

func from(list [][]byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, c := range list {
			if !yield(c, nil) {
				return
			}
		}
	}
}

// TestCheckpoint: a machine that was restored is the one that was captured, in every answer that it gives from
// then on. A checkpoint that is encoded late, while entries are applied, is the same as one encoded at once.
func TestCheckpoint(t *testing.T) {
	for seed := range uint64(lane.Pick(4, 40, 400)) {
		r := newRandomLog(seed)
		m := state.New(crowded)
		apply := func(i uint64, e *state.Effects, on ...*state.Machine) {
			entry := r.entry(m.View())
			for _, m := range append(on, m) {
				e.Reset()
				if err := m.Apply(i, entry, e); err != nil {
					t.Fatal(err)
				}
			}
		}
		var e state.Effects
		at := 1 + r.Uint64N(1500)
		for i := range at {
			apply(i+1, &e)
		}
		digest := m.Digest()
		c := m.Checkpoint()
		now := encoded(c)
		restored, err := state.Restore(crowded, from(now))
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if restored.Digest() != digest || c.Index() != at || c.Segment() != m.View().Segment() {
			t.Fatalf("seed %d: restored another state than that of entry %d", seed, at)
		}
		if !slices.EqualFunc(now, encoded(restored.Checkpoint()), bytes.Equal) {
			t.Fatalf("seed %d: equal states have other chunks", seed)
		}
		var late [][]byte
		var encoding sync.WaitGroup
		encoding.Go(func() { late = encoded(c) })
		for i := range uint64(500) {
			var other state.Effects
			entry := r.entry(m.View())
			e.Reset()
			if err := errors.Join(m.Apply(at+1+i, entry, &e), restored.Apply(at+1+i, entry, &other)); err != nil {
				t.Fatal(err)
			}
			if a, b := trace(&e), trace(&other); a != b {
				t.Fatalf("seed %d, entry %d:\n%s\n%s", seed, at+1+i, a, b)
			}
		}
		encoding.Wait()
		if !slices.EqualFunc(now, late, bytes.Equal) || !slices.EqualFunc(now, encoded(c), bytes.Equal) {
			t.Fatalf("seed %d: the checkpoint changed with the machine", seed)
		}
		if m.Digest() != restored.Digest() {
			t.Fatalf("seed %d: the states went apart", seed)
		}
	}
}

// TestCheckpointGolden holds the format: what one version wrote, all later ones read.
func TestCheckpointGolden(t *testing.T) {
	cmds := every()[:13] // the kinds that the golden files know
	alone := [][]byte{cmds[0], cmds[1], cmds[2], cmds[3], cmds[4], cmds[5], cmds[7], cmds[8]}
	t.Run("alone", func(t *testing.T) { goldenCheckpoint(t, "testdata/checkpoint.hex", alone) })
	t.Run("members", func(t *testing.T) {
		goldenCheckpoint(t, "testdata/checkpoint-members.hex", append(alone, cmds[9], cmds[10]))
	})
	t.Run("tickets", func(t *testing.T) {
		goldenCheckpoint(t, "testdata/checkpoint-tickets.hex", append(alone, cmds[9:]...))
	})
	t.Run("groups", func(t *testing.T) {
		goldenCheckpoint(t, "testdata/checkpoint-groups.hex", append(alone, goldenGroups(t)...))
	})
}

// goldenGroups makes groups of which every kind of item is in a checkpoint.
func goldenGroups(t *testing.T) [][]byte {
	all := groupSpec(t, ">")
	all.Topics = fullSpec().Topics
	settle := state.Settle{Group: "billing", ID: 1, Items: []state.Settlement{
		{Op: state.SettleAck, Partition: 2, Offset: 0, Count: 2},
		{Op: state.SettleAck, Partition: 2, Offset: 5, Count: 2},
		{Op: state.SettleAck, Partition: 2, Offset: 300, Count: 1},
		{Op: state.SettleRetry, Partition: 2, Offset: 3, Count: 1, Attempt: 2, DelayMs: 500},
		{Op: state.SettleDead, Partition: 2, Offset: 4, Count: 1, Attempt: 4, Letter: &state.Letter{Reason: "kept"}},
	}}
	return [][]byte{
		publish(2, "w", 1, 0, 0, 400),
		state.AppendCreateGroup(nil, &state.CreateGroup{Name: "billing", Spec: fullSpec(), By: "spiffe://x/client/a"}),
		state.AppendCreateGroup(nil, &state.CreateGroup{Name: "audit", Spec: all, Starts: []state.Position{{Partition: 1, Offset: 2}, {Partition: 2, Offset: 350}}, By: "spiffe://x/client/a"}),
		state.AppendAlterGroup(nil, &state.AlterGroup{Name: "audit", Mask: state.AlterPaused, Paused: true, Spec: all}),
		state.AppendSettle(nil, &settle),
	}
}

func goldenCheckpoint(t *testing.T, path string, cmds [][]byte) {
	m := state.New(state.Limits{})
	var e state.Effects
	if err := m.Apply(7, entryOf(cmds...), &e); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, c := range encoded(m.Checkpoint()) {
		text.WriteString(hexLines(c) + "\n")
	}
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text.String() != string(want) {
		t.Errorf("checkpoints are encoded differently now:\n%s\nwas\n%s", text.String(), want)
	}
	var chunks [][]byte
	for part := range strings.SplitSeq(strings.TrimSpace(string(want)), "\n\n") {
		b, err := hex.DecodeString(strings.ReplaceAll(part, "\n", ""))
		if err != nil {
			t.Fatal(err)
		}
		chunks = append(chunks, b)
	}
	restored, err := state.Restore(state.Limits{}, from(chunks))
	if err != nil || restored.Digest() != m.Digest() {
		t.Errorf("the golden checkpoint restores to something else: %v", err)
	}
}

// TestCheckpointOfCluster: under another id everything is as it was but the nodes, which were the old cluster's; the
// checkpoint that it was made of stays as it is.
func TestCheckpointOfCluster(t *testing.T) {
	r := newRandomLog(7)
	m := state.New(crowded)
	var e state.Effects
	for i := range uint64(800) {
		e.Reset()
		if err := m.Apply(i+1, r.entry(m.View()), &e); err != nil {
			t.Fatal(err)
		}
	}
	extra := state.AppendEntryHeader(nil, m.View().TimeMs())
	extra = state.AppendCommand(extra, state.AppendInit(nil, &state.Init{ClusterID: "old"}))
	extra = state.AppendCommand(extra, state.AppendSetMember(nil, &state.SetMember{Member: state.Member{Node: "n1", Disk: "d1"}}))
	extra = state.AppendCommand(extra, state.AppendRemoveMember(nil, &state.RemoveMember{Node: "n9"}))
	extra = state.AppendCommand(extra, state.AppendSetSealKey(nil, &state.SetSealKey{Node: "n1", Key: state.SealKey{1}}))
	number := m.View().TicketNumber() + 1
	for ; number <= m.View().TicketNumber()+2; number++ { // whether or not the removal took a number
		extra = state.AppendCommand(extra, state.AppendSetTicketKey(nil, &state.SetTicketKey{Number: number, Copies: []state.TicketCopy{{Node: "n1", To: state.SealKey{1}, Sealed: []byte("s")}}}))
	}
	if err := m.Apply(801, extra, &e); err != nil || len(m.View().Members()) < 2 || len(m.View().TicketKeys()) == 0 {
		t.Fatal(err, m.View().Members(), m.View().TicketKeys())
	}
	old := m.View().ClusterID()
	c := m.Checkpoint()
	before := encoded(c)
	other, err := state.Restore(crowded, from(encoded(c.OfCluster("new"))))
	if err != nil {
		t.Fatal(err)
	}
	if v := other.View(); v.ClusterID() != "new" || len(v.Members()) != 0 || v.TicketNumber() != 0 || len(v.TicketKeys()) != 0 {
		t.Errorf("cluster %q with nodes %v and ticket keys %v", v.ClusterID(), v.Members(), v.TicketKeys())
	}
	if !slices.EqualFunc(encoded(other.Checkpoint().OfCluster(old)), encoded(c.OfCluster(old)), bytes.Equal) {
		t.Error("more than id and nodes changed")
	}
	if !slices.EqualFunc(encoded(c), before, bytes.Equal) {
		t.Error("the checkpoint itself changed")
	}
}

// TestRotateOnce: an entry ends one segment, however many commands ask.
func TestRotateOnce(t *testing.T) {
	m := state.New(state.Limits{})
	var e state.Effects
	rotate := func(n uint64) []byte { return state.AppendRotate(nil, &state.Rotate{Segment: n}) }
	if err := m.Apply(1, entryOf(rotate(1), rotate(1), rotate(2), rotate(7)), &e); err != nil {
		t.Fatal(err)
	}
	for i, want := range []state.Status{state.StatusOK, state.StatusOK, state.StatusConflict, state.StatusConflict} {
		if e.Results[i].Status != want {
			t.Errorf("command %d: %+v, want %v", i, e.Results[i], want)
		}
	}
	if got := m.View().Segment(); got != 2 || !e.Rotated {
		t.Errorf("segment %d, rotated %t", got, e.Rotated)
	}
	e.Reset()
	if err := m.Apply(2, entryOf(rotate(2)), &e); err != nil || m.View().Segment() != 3 {
		t.Errorf("segment %d, %v", m.View().Segment(), err)
	}
}

// someCheckpoint is a checkpoint with every kind of item.
func someCheckpoint(t testing.TB) [][]byte {
	r := newRandomLog(9)
	m := state.New(crowded)
	var e state.Effects
	for i := range uint64(700) {
		if err := m.Apply(i+1, r.entry(m.View()), &e); err != nil {
			t.Fatal(err)
		}
	}
	return encoded(m.Checkpoint())
}

// TestRestoreRefuses: chunks that are missing, doubled, exchanged or cut, and every flipped byte that makes another
// state, are errors that name the chunk.
func TestRestoreRefuses(t *testing.T) {
	good := someCheckpoint(t)
	refused := func(name string, list [][]byte) {
		t.Helper()
		_, err := state.Restore(crowded, from(list))
		if !errors.Is(err, state.ErrCheckpoint) && !errors.Is(err, state.ErrVersion) && !errors.Is(err, state.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	refused("nothing", nil)
	for i := range good {
		refused(fmt.Sprintf("without chunk %d", i), slices.Delete(slices.Clone(good), i, i+1))
		refused(fmt.Sprintf("chunk %d twice", i), slices.Insert(slices.Clone(good), i, good[i]))
		for n := range good[i] {
			cut := slices.Clone(good)
			cut[i] = cut[i][:n]
			refused(fmt.Sprintf("chunk %d cut at %d", i, n), cut)
		}
		if i > 0 {
			turned := slices.Clone(good)
			turned[i], turned[i-1] = turned[i-1], turned[i]
			refused(fmt.Sprintf("chunks %d and %d exchanged", i-1, i), turned)
		}
	}
	newer := slices.Clone(good)
	newer[0] = bytes.Clone(newer[0])
	newer[0][0] = 2
	if _, err := state.Restore(crowded, from(newer)); !errors.Is(err, state.ErrVersion) {
		t.Errorf("a newer version: %v", err)
	}
	failed := errors.New("the disk says no")
	if _, err := state.Restore(crowded, func(yield func([]byte, error) bool) { yield(nil, failed) }); !errors.Is(err, failed) {
		t.Errorf("a read error: %v", err)
	}
}

// FuzzRestore (P-04): any chunks are refused or make a machine whose checkpoint is the same again.
func FuzzRestore(f *testing.F) {
	seeds := 0
	for _, c := range someCheckpoint(f) {
		f.Add(c)
		seeds++
	}
	if seeds < 7 {
		f.Fatalf("%d seeds", seeds)
	}
	good := someCheckpoint(f)
	f.Fuzz(func(t *testing.T, chunk []byte) {
		for i := range good {
			list := slices.Clone(good)
			list[i] = chunk
			m, err := state.Restore(crowded, from(list))
			if err != nil {
				continue
			}
			again, err := state.Restore(crowded, from(encoded(m.Checkpoint())))
			if err != nil || again.Digest() != m.Digest() {
				t.Fatalf("a restored machine cannot be captured again: %v", err)
			}
		}
	})
}

// crowdedMachine has so many topics of one partition, each written to by its own producers.
func crowdedMachine(tb testing.TB, topics, producersEach int) *state.Machine {
	m := state.New(state.Limits{})
	var e state.Effects
	records, info := blob(1, "x")
	index := uint64(0)
	apply := func(cmds ...[]byte) {
		index++
		e.Reset()
		if err := m.Apply(index, entryOf(cmds...), &e); err != nil {
			tb.Fatal(err)
		}
		for _, r := range e.Results {
			if !r.Status.Done() {
				tb.Fatal(r)
			}
		}
	}
	for i := range topics {
		apply(state.AppendCreateTopic(nil, &state.CreateTopic{Name: topic.Name(fmt.Sprintf("topic.number.%d", i)), By: "spiffe://example.org/client/maker"}))
		for p := range producersEach {
			apply(publishOne(topic.PartitionID(i+1), i*producersEach+p, records, info))
		}
	}
	return m
}

func publishOne(part topic.PartitionID, producer int, records []byte, info batch.Info) []byte {
	return state.AppendPublish(nil, &state.Publish{Partition: part, Producer: [16]byte{byte(producer), byte(producer >> 8), byte(producer >> 16)}, Info: info,
		Principal: fmt.Sprintf("spiffe://example.org/client/%d", producer%1000), Records: records})
}

// BenchmarkCheckpoint captures and encodes a large state: 100,000 topics and as many producers.
func BenchmarkCheckpoint(b *testing.B) {
	m := crowdedMachine(b, 100_000, 1)
	b.Run("capture", func(b *testing.B) {
		for b.Loop() {
			m.Checkpoint()
		}
	})
	b.Run("encode", func(b *testing.B) {
		c := m.Checkpoint()
		for b.Loop() {
			n := 0
			for chunk := range c.Chunks() {
				n += len(chunk)
			}
			b.SetBytes(int64(n))
		}
	})
	b.Run("restore", func(b *testing.B) {
		list := encoded(m.Checkpoint())
		for b.Loop() {
			if _, err := state.Restore(state.Limits{}, from(list)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
