package state_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// What docs/limits.md promises: bytes of memory at most, and of a checkpoint.
const (
	topicMemory      = 1_600 // with its first partition
	partitionMemory  = 900   // each further one
	producerMemory   = 1_000 // with its window on one partition
	windowMemory     = 450   // each further one
	batchMemory      = 48    // each of the last 64 batches in a window; a slice that grows has up to as much again
	topicDisk        = 150   // with a name of 20 bytes
	producerDisk     = 110   // with an identity of 40 bytes
	groupMemory      = 2_000 // with its name of 20 bytes, and a position with settled records above it
	groupDisk        = 200
	memoryConstantly = 1 << 20
)

// heapOf is the memory that what make returns keeps alive.
func heapOf[T any](build func() T) (kept T, bytes int) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&before)
	kept = build()
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	return kept, int(after.HeapAlloc) - int(before.HeapAlloc)
}

// TestO06Memory holds the state machine to the memory that docs/limits.md names, with so many topics, partitions, producers
// and windows as it may have.
func TestO06Memory(t *testing.T) {
	n := lane.Pick(10_000, 30_000, 100_000)
	per := func(bytes int) int { return bytes / n }
	m, topics := heapOf(func() *state.Machine { return crowdedMachine(t, n, 0) })
	_, grown := heapOf(func() bool { growAll(t, m, n); return true })
	_, first := heapOf(func() bool { publishAll(t, m, n, 0, 1); return true })
	_, more := heapOf(func() bool { publishAll(t, m, n, 1, 1); return true })
	_, full := heapOf(func() bool { publishAll(t, m, n, 0, 9); return true })
	for what, c := range map[string]struct{ got, most int }{
		"topic":                         {topics, topicMemory},
		"further partition":             {grown, partitionMemory},
		"producer with its window":      {first, producerMemory + batchMemory},
		"further window":                {more, windowMemory + batchMemory},
		"window with nine more batches": {full, 9 * batchMemory},
		"everything, and the constant":  {topics + grown + first + more + full, topicMemory + partitionMemory + producerMemory + windowMemory + 11*batchMemory},
	} {
		if c.got > n*c.most+memoryConstantly {
			t.Errorf("a %s takes %d bytes, docs/limits.md says at most %d", what, per(c.got), c.most)
		} else {
			t.Logf("a %s takes %d bytes, at most %d are promised", what, per(c.got), c.most)
		}
	}
	runtime.KeepAlive(m)
}

// growAll gives each topic a second partition.
func growAll(t *testing.T, m *state.Machine, n int) {
	t.Helper()
	at := m.View().Applied()
	var e state.Effects
	for i := range n {
		at++
		e.Reset()
		cmd := state.AppendAlterTopic(nil, &state.AlterTopic{Name: crowdName(i), Mask: state.AlterPartitions, Spec: state.Spec{Partitions: 2}, By: "spiffe://example.org/client/maker"})
		if err := m.Apply(at, entryOf(cmd), &e); err != nil || e.Results[0].Status != state.StatusOK {
			t.Fatal(err, e.Results)
		}
	}
}

func crowdName(i int) topic.Name { return topic.Name(fmt.Sprintf("topic.number.%d", i)) }

// publishAll lets each producer send batches to its own topic's partition of an index.
func publishAll(t *testing.T, m *state.Machine, n, index, batches int) {
	t.Helper()
	at := m.View().Applied()
	records, info := blob(1, "x")
	var e state.Effects
	for i := range n {
		found, ok := m.View().Topic(crowdName(i))
		if !ok {
			t.Fatal("no topic")
		}
		p, _ := m.View().Partition(found.Partitions[index])
		for range batches {
			at++
			e.Reset()
			cmd := state.AppendPublish(nil, &state.Publish{Partition: p.ID, Producer: [16]byte{byte(i), byte(i >> 8), byte(i >> 16)}, Sequence: uint64(p.Next), Info: info,
				Principal: fmt.Sprintf("spiffe://example.org/client/service-%03d", i%1000), Records: records})
			p.Next++
			if err := m.Apply(at, entryOf(cmd), &e); err != nil || e.Results[0].Status != state.StatusOK {
				t.Fatal(err, e.Results)
			}
		}
	}
}

// TestO06Checkpoint: so many topics and producers make a checkpoint of the size that docs/limits.md names, which restores to
// the same state; after it, topics can still be made, altered and deleted.
func TestO06Checkpoint(t *testing.T) {
	n := lane.Pick(5_000, 20_000, 100_000)
	m := crowdedMachine(t, n, 0)
	publishAll(t, m, n, 0, 1)
	start := time.Now()
	c := m.Checkpoint()
	captured := time.Since(start)
	list := encoded(c)
	size := 0
	for _, chunk := range list {
		size += len(chunk)
		if len(chunk) > 2*state.CheckpointChunkBytes {
			t.Errorf("a chunk of %d bytes", len(chunk))
		}
	}
	start = time.Now()
	restored, err := state.Restore(state.Limits{}, from(list))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d topics and producers: checkpoint of %d bytes (%d each) in %d chunks, captured in %v, restored in %v", n, size, size/n, len(list), captured, time.Since(start))
	if most := n * (topicDisk + producerDisk); size > most {
		t.Errorf("the checkpoint has %d bytes, docs/limits.md says at most %d", size, most)
	}
	if restored.Digest() != m.Digest() {
		t.Error("the checkpoint restores to another state")
	}
	growAll(t, restored, 10)
	var e state.Effects
	cmds := [][]byte{
		state.AppendDeleteTopic(nil, &state.DeleteTopic{Name: crowdName(n / 2), By: "x"}),
		state.AppendCreateTopic(nil, &state.CreateTopic{Name: crowdName(n / 2), By: "x"}),
	}
	if err := restored.Apply(restored.View().Applied()+1, entryOf(cmds...), &e); err != nil || !e.Results[0].Status.Done() || !e.Results[1].Created {
		t.Errorf("%+v, %v", e.Results, err)
	}
}

// TestO06Documented: the numbers above are those of docs/limits.md.
func TestO06Documented(t *testing.T) {
	text, err := os.ReadFile("../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"- a topic with one partition: 1,600 in memory, 150 in a checkpoint",
		"- a further partition: 900 in memory, ",
		"- a producer with a window on one partition: 1,000 in memory, 110 in a checkpoint",
		"- a further window: 450 in memory, ",
		"- a group with one topic and its position in one partition: 2,000 in memory, 200 in a checkpoint",
		"- a batch in a window, of the last 64: 48 in memory, ",
	} {
		if !strings.Contains(string(text), line) {
			t.Errorf("docs/limits.md does not have %q", line)
		}
	}
}
