package state_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// model is the rules of DESIGN section 4 in the plainest form: it keeps every batch ever
// accepted and searches.
type model struct {
	topics  map[topic.Name]*modelTopic
	lastID  topic.PartitionID
	lastInc topic.Incarnation
	used    []modelUse // producers by last use, the oldest first
}

type modelTopic struct {
	inc   topic.Incarnation
	parts []*modelPart
}

type modelPart struct {
	id      topic.PartitionID
	next    topic.Offset
	batches []modelBatch
}

type modelBatch struct {
	who        modelWho
	epoch, seq uint64
	count      uint32
	offset     topic.Offset
	ms         int64
	forgotten  bool // its producer was forgotten since
}

type modelWho struct {
	principal string
	id        byte
}

type modelUse struct {
	who modelWho
	ms  int64
}

const (
	modelProducers = 6
	modelOwn       = 3
)

// forget drops what is known of a producer.
func (m *model) forget(who modelWho) {
	m.used = slices.DeleteFunc(m.used, func(u modelUse) bool { return u.who == who })
	for _, t := range m.topics {
		for _, p := range t.parts {
			for i := range p.batches {
				if p.batches[i].who == who {
					p.batches[i].forgotten = true
				}
			}
		}
	}
}

// touch makes who the last used; it makes room for a new one.
func (m *model) touch(who modelWho, ms int64) {
	i := slices.IndexFunc(m.used, func(u modelUse) bool { return u.who == who })
	if i >= 0 {
		m.used = slices.Delete(m.used, i, i+1)
	} else {
		var own []modelWho
		for _, u := range m.used {
			if u.who.principal == who.principal {
				own = append(own, u.who)
			}
		}
		if len(own) >= modelOwn {
			m.forget(own[0])
		}
		if len(m.used) >= modelProducers {
			m.forget(m.used[0].who)
		}
	}
	m.used = append(m.used, modelUse{who, ms})
}

func (m *model) expire(ms int64) {
	for len(m.used) > 0 && m.used[0].ms+state.ProducerTTL.Milliseconds() <= ms {
		m.forget(m.used[0].who)
	}
}

// publish decides and, if it is accepted, appends.
func (m *model) publish(p *modelPart, who modelWho, epoch, seq uint64, count uint32, ms int64) (state.Status, modelBatch) {
	var known []modelBatch
	top := uint64(0)
	for _, b := range p.batches {
		if b.who == who && !b.forgotten {
			known = append(known, b)
			top = max(top, b.epoch)
		}
	}
	if len(known) > 0 && epoch < top {
		return state.StatusFenced, modelBatch{}
	}
	known = slices.DeleteFunc(known, func(b modelBatch) bool { return b.epoch != epoch })
	want := uint64(0)
	for _, b := range known {
		want = b.seq + uint64(b.count)
	}
	if seq == want {
		b := modelBatch{who: who, epoch: epoch, seq: seq, count: count, offset: p.next, ms: ms}
		m.touch(who, ms)
		p.batches = append(p.batches, b)
		p.next += topic.Offset(count)
		return state.StatusOK, b
	}
	for _, b := range known[max(0, len(known)-state.WindowBatches):] {
		if b.seq == seq && b.count == count {
			m.touch(who, ms)
			return state.StatusDuplicate, b
		}
	}
	return state.StatusSequence, modelBatch{}
}

// TestModel (G-02): random operations against the model, and views that never change.
func TestModel(t *testing.T) {
	published := 0
	for range lane.Pick(4, 10, 100) {
		checkModel(t, &published)
	}
	if published == 0 {
		t.Error("nothing was ever published")
	}
}

func checkModel(t *testing.T, published *int) {
	rapid.Check(t, func(rt *rapid.T) {
		r := &modelRun{
			log:   newLog(t, state.Limits{Producers: modelProducers, PrincipalProducers: modelOwn}),
			model: &model{topics: map[topic.Name]*modelTopic{}},
		}
		rt.Repeat(map[string]func(*rapid.T){
			"create":  r.createTopic,
			"grow":    r.growTopic,
			"delete":  r.deleteTopic,
			"publish": r.publishSome,
			"keep a view": func(*rapid.T) {
				r.old = append(r.old, r.m.View())
				r.oldText = append(r.oldText, describeView(r.m.View()))
			},
			"": r.check,
		})
		*published += r.published
	})
}

// modelRun is one random history.
type modelRun struct {
	*log
	model     *model
	now       int64
	old       []*state.View
	oldText   []string
	published int
}

func (r *modelRun) name(rt *rapid.T) topic.Name {
	return topic.Name(rapid.SampledFrom([]string{"a", "a.b", "b", "c"}).Draw(rt, "topic"))
}

// tick stamps the next entry, sometimes with a time gone by.
func (r *modelRun) tick(rt *rapid.T) {
	r.at += rapid.SampledFrom([]int64{0, 0, 1, 1, -50, -50, 1000, 1000, 3_600_000, 86_400_000}).Draw(rt, "ms")
	r.at = max(r.at, 0)
	r.now = max(r.now, r.at)
	r.model.expire(r.now)
}

func (r *modelRun) createTopic(rt *rapid.T) {
	r.tick(rt)
	m, n, parts := r.model, r.name(rt), rapid.Uint32Range(1, 3).Draw(rt, "partitions")
	res := r.apply(state.AppendCreateTopic(nil, &state.CreateTopic{Name: n, Spec: state.Spec{Partitions: parts}, IfNotExists: true}))[0]
	if res.Created == (m.topics[n] != nil) || res.Status != state.StatusOK {
		rt.Fatalf("create %s: %+v", n, res)
	}
	if res.Created {
		m.lastInc++
		m.topics[n] = &modelTopic{inc: m.lastInc}
		m.grow(m.topics[n], parts)
	}
}

func (r *modelRun) growTopic(rt *rapid.T) {
	n := r.name(rt)
	t := r.model.topics[n]
	if t == nil {
		rt.Skip("no topic")
	}
	r.tick(rt)
	parts := uint32(len(t.parts)) + rapid.Uint32Range(0, 2).Draw(rt, "more")
	res := r.apply(state.AppendAlterTopic(nil, &state.AlterTopic{Name: n, Mask: state.AlterPartitions, Spec: state.Spec{Partitions: parts}}))[0]
	if res.Status != state.StatusOK {
		rt.Fatalf("grow %s: %+v", n, res)
	}
	r.model.grow(t, parts)
}

func (r *modelRun) deleteTopic(rt *rapid.T) {
	r.tick(rt)
	n := r.name(rt)
	t := r.model.topics[n]
	res := r.apply(state.AppendDeleteTopic(nil, &state.DeleteTopic{Name: n}))[0]
	if (res.Status == state.StatusOK) != (t != nil) {
		rt.Fatalf("delete %s: %+v", n, res)
	}
	if t == nil {
		return
	}
	for i, p := range t.parts {
		if r.e.Dropped[i] != p.id {
			rt.Fatalf("dropped %v", r.e.Dropped)
		}
	}
	delete(r.model.topics, n)
}

// check holds the view against the model, and the old views against their past.
func (r *modelRun) check(rt *rapid.T) {
	if got, want := describeView(r.m.View()), r.model.describe(); got != want {
		rt.Fatalf("view\n%s\nmodel\n%s", got, want)
	}
	for i, v := range r.old {
		if got := describeView(v); got != r.oldText[i] {
			rt.Fatalf("a view changed from\n%s\nto\n%s", r.oldText[i], got)
		}
	}
}

// publishSome sends a few batches of one producer as one entry.
func (r *modelRun) publishSome(rt *rapid.T) {
	t := r.model.topics[r.name(rt)]
	if t == nil {
		rt.Skip("no topic")
	}
	r.tick(rt)
	p := t.parts[rapid.IntRange(0, len(t.parts)-1).Draw(rt, "partition")]
	who := modelWho{rapid.SampledFrom([]string{"x", "y", "z"}).Draw(rt, "principal"), rapid.ByteRange(0, 4).Draw(rt, "producer")}
	epoch := rapid.Uint64Range(0, 2).Draw(rt, "epoch")
	if n := len(p.batches); n > 0 && rapid.IntRange(0, 9).Draw(rt, "again") > 1 { // or hardly anybody goes on with a sequence
		b := p.batches[max(0, n-1-rapid.IntRange(0, 3).Draw(rt, "back"))]
		who, epoch = b.who, b.epoch
	}
	count := rapid.Uint32Range(1, 3).Draw(rt, "count")
	seq := uint64(0)
	for _, b := range p.batches {
		if b.who == who && b.epoch == epoch && rapid.IntRange(0, 9).Draw(rt, "stay") > 0 {
			seq = b.seq + uint64(b.count)
		}
	}
	seq += rapid.SampledFrom([]uint64{0, 0, 0, 0, 1}).Draw(rt, "gap")
	if n := len(p.batches); n > 0 && rapid.IntRange(0, 4).Draw(rt, "repeat") == 0 {
		b := p.batches[max(0, n-1-rapid.IntRange(0, 70).Draw(rt, "old"))]
		who, epoch, seq, count = b.who, b.epoch, b.seq, b.count
	}
	var cmds [][]byte
	repeat := rapid.SampledFrom([]int{1, 2, 70}).Draw(rt, "times")
	for i := range repeat {
		records, info := blob(int(count), "b")
		cmds = append(cmds, state.AppendPublish(nil, &state.Publish{
			Partition: p.id, Producer: [16]byte{who.id}, Epoch: epoch, Sequence: seq + uint64(i)*uint64(count),
			Info: info, Principal: who.principal, Records: records,
		}))
	}
	stored := 0
	for i, res := range r.apply(cmds...) {
		status, b := r.model.publish(p, who, epoch, seq+uint64(i)*uint64(count), count, r.now)
		if res.Status != status || res.Status.Done() && (res.Offset != b.offset || res.TimeMs != b.ms) {
			rt.Fatalf("publish %d: %+v, model %v %+v", i, res, status, b)
		}
		if status == state.StatusOK {
			checkStored(rt, r.e.Appends[stored], p.id, b)
			stored++
		}
	}
	if r.published += stored; stored != len(r.e.Appends) {
		rt.Fatalf("%d batches stored, model %d", len(r.e.Appends), stored)
	}
}

func checkStored(rt *rapid.T, a state.Append, part topic.PartitionID, want modelBatch) {
	var b batch.Batch
	if _, err := batch.Parse(a.Raw, &b); err != nil {
		rt.Fatal(err)
	}
	if b.Partition != part || b.Base != want.offset || b.Count != want.count || b.TimeMs != want.ms || b.Epoch != want.epoch ||
		b.Sequence != want.seq || b.Publisher != want.who.principal || a.Partition != part || a.Base != b.Base || a.Count != b.Count || a.TimeMs != b.TimeMs {
		rt.Fatalf("stored %+v, want %+v", b.Meta, want)
	}
}

func (m *model) grow(t *modelTopic, parts uint32) {
	for len(t.parts) < int(parts) {
		m.lastID++
		t.parts = append(t.parts, &modelPart{id: m.lastID})
	}
}

// describe is the model as describeView words a view.
func (m *model) describe() (s string) {
	for _, n := range []topic.Name{"a", "a.b", "b", "c"} {
		t := m.topics[n]
		if t == nil {
			continue
		}
		s += fmt.Sprintf("%s#%d", n, t.inc)
		for i, p := range t.parts {
			s += fmt.Sprintf(" %d:%d=%d", i, p.id, p.next)
		}
		s += "\n"
	}
	return s
}

func describeView(v *state.View) (s string) {
	v.Topics("", func(t *state.Topic) bool {
		s += fmt.Sprintf("%s#%d", t.Name, t.Incarnation)
		for i, id := range t.Partitions {
			p, ok := v.Partition(id)
			if !ok || int(p.Index) != i || p.Topic != t.Name || p.Incarnation != t.Incarnation || p.ID != id {
				s += fmt.Sprintf(" BAD %+v", p)
			}
			s += fmt.Sprintf(" %d:%d=%d", i, p.ID, p.Next)
		}
		s += "\n"
		return true
	})
	return s
}

// TestViewsWhileApplying: readers and Apply go on at once (the race detector looks), and
// a reader sees every batch of an entry or none.
func TestViewsWhileApplying(t *testing.T) {
	l := newLog(t, state.Limits{})
	parts := l.create("t", 2)
	rounds := uint64(lane.Pick(500, 5_000, 50_000))
	done := make(chan error, 1)
	go func() {
		var last uint64
		for last < rounds {
			v := l.m.View()
			a, _ := v.Partition(parts[0])
			b, _ := v.Partition(parts[1])
			if a.Next != b.Next || v.Applied() < last {
				done <- fmt.Errorf("half an entry: %d and %d at %d", a.Next, b.Next, v.Applied())
				return
			}
			last = v.Applied()
		}
		done <- nil
	}()
	for i := range rounds {
		l.apply(publish(parts[0], "p", 1, 0, i, 1), publish(parts[1], "p", 1, 0, i, 1))
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestApplyAllocations guards the hot path: a publish costs its stored batch and no more.
func TestApplyAllocations(t *testing.T) {
	const publishes = 1_000
	l := newLog(t, state.Limits{})
	p := newPublisher(l.create("t", 10), 1, 100)
	var entries [][]byte
	for range 12 {
		entries = append(entries, slices.Clone(p.next(publishes)))
	}
	got := testing.AllocsPerRun(10, func() {
		l.n++
		l.e.Reset()
		if err := l.m.Apply(l.n, entries[0], &l.e); err != nil {
			t.Fatal(err)
		}
		entries = entries[1:]
	})
	if len(l.e.Appends) != publishes {
		t.Fatalf("%d batches stored", len(l.e.Appends))
	}
	if got > publishes+100 {
		t.Errorf("%v allocations for %d publishes", got, publishes)
	}
}
