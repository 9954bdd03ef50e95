package lease

import (
	"container/heap"
	"slices"
	"time"

	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// Member is the name that a member has chosen for itself, at random.
type Member [16]byte

// Record is a place in a partition.
type Record struct {
	Partition topic.PartitionID
	Offset    topic.Offset
}

// Grant is consecutive records that a member holds from now on.
type Grant struct {
	Record
	Count   uint32
	Attempt uint64 // number of the delivery, from 1
}

// Source is what the state says of a partition: what the group knows of it, and its end. ok is false for one that is gone.
type Source func(topic.PartitionID) (c *state.Cursor, end topic.Offset, ok bool)

// held is a record that a member holds.
type held struct {
	member   Member
	attempt  uint64
	until    time.Time
	settling bool // its end is proposed
}

// part is a partition; below next every record is settled, held or waiting.
type part struct {
	id   topic.PartitionID
	next topic.Offset
}

// Table is the leases of one group.
type Table struct {
	ackWait     time.Duration
	maxInFlight int

	parts   []*part
	turn    int // of parts, who is next
	held    map[Record]*held
	count   map[Member]int // of held
	waiting waiting
}

// New makes an empty table. maxInFlight 0 = no limit.
func New(ackWait time.Duration, maxInFlight int) *Table {
	return &Table{ackWait: ackWait, maxInFlight: maxInFlight, held: map[Record]*held{}, count: map[Member]int{}}
}

// SetParts says which partitions there are. Those that are gone are forgotten; a new one begins at its floor.
func (t *Table) SetParts(ids []topic.PartitionID, src Source) {
	old := t.parts
	t.parts, t.turn = nil, 0
	for _, id := range ids {
		if i := slices.IndexFunc(old, func(p *part) bool { return p.id == id }); i >= 0 {
			t.parts = append(t.parts, old[i])
		} else if c, _, ok := src(id); ok {
			t.parts = append(t.parts, &part{id, c.Floor})
		}
	}
	gone := func(id topic.PartitionID) bool { return !slices.Contains(ids, id) }
	for r, h := range t.held {
		if gone(r.Partition) {
			t.release(r, h)
		}
	}
	t.waiting = slices.DeleteFunc(t.waiting, func(w retry) bool { return gone(w.Partition) })
	heap.Init(&t.waiting)
}

// Next is the first offset of a partition that was not looked at.
func (t *Table) Next(id topic.PartitionID) topic.Offset {
	for _, p := range t.parts {
		if p.id == id {
			return p.next
		}
	}
	return 0
}

// Take gives a member up to n records. may says whether it may have those of a partition.
func (t *Table) Take(now time.Time, m Member, n int, src Source, may func(topic.PartitionID) bool) (grants []Grant) {
	if t.maxInFlight > 0 {
		n = min(n, t.maxInFlight-len(t.held))
	}
	give := func(r Record, attempt uint64) {
		t.hold(r, &held{member: m, attempt: attempt, until: now.Add(t.ackWait)})
		n--
		if last := len(grants) - 1; last >= 0 && grants[last].follows(r, attempt) {
			grants[last].Count++
			return
		}
		grants = append(grants, Grant{r, 1, attempt})
	}
	t.takeWaiting(now, &n, src, may, give)
	for range t.parts {
		if n <= 0 {
			return grants
		}
		p := t.parts[t.turn%len(t.parts)]
		t.turn++
		if may(p.id) {
			t.takeNew(now, p, &n, src, give)
		}
	}
	return grants
}

func (g *Grant) follows(r Record, attempt uint64) bool {
	return g.Partition == r.Partition && g.Attempt == attempt && r.Offset == g.Offset+topic.Offset(g.Count)
}

// takeWaiting gives what failed before and is due.
func (t *Table) takeWaiting(now time.Time, n *int, src Source, may func(topic.PartitionID) bool, give func(Record, uint64)) {
	var others []retry
	for *n > 0 && len(t.waiting) > 0 && !t.waiting[0].due.After(now) {
		w := heap.Pop(&t.waiting).(retry)
		c, _, ok := src(w.Partition)
		if !ok || c.Settled(w.Offset) || t.held[w.Record] != nil {
			continue
		}
		a := c.Attempt(w.Offset)
		switch due := time.UnixMilli(a.DueMs); {
		case due.After(now): // it was put off again since
			heap.Push(&t.waiting, retry{w.Record, due})
		case !may(w.Partition):
			others = append(others, w)
		default:
			give(w.Record, a.Count+1)
		}
	}
	for _, w := range others {
		heap.Push(&t.waiting, w)
	}
}

// takeNew gives records that nobody has looked at.
func (t *Table) takeNew(now time.Time, p *part, n *int, src Source, give func(Record, uint64)) {
	c, end, ok := src(p.id)
	if !ok {
		return
	}
	p.next = max(p.next, c.Floor)
	for ; p.next < end && *n > 0; p.next++ {
		r, a := Record{p.id, p.next}, c.Attempt(p.next)
		switch due := time.UnixMilli(a.DueMs); {
		case c.Settled(p.next) || t.held[r] != nil:
		case a.Count > 0 && due.After(now):
			heap.Push(&t.waiting, retry{r, due})
		default:
			give(r, a.Count+1)
		}
	}
}

func (t *Table) hold(r Record, h *held) {
	t.held[r] = h
	t.count[h.member]++
}

func (t *Table) release(r Record, h *held) {
	delete(t.held, r)
	if t.count[h.member]--; t.count[h.member] == 0 {
		delete(t.count, h.member)
	}
}

// Held is how many records a member holds.
func (t *Table) Held(m Member) int { return t.count[m] }

// InFlight is how many records are held.
func (t *Table) InFlight() int { return len(t.held) }

// Register notes a record that a member held before this table was made. It is refused if somebody has it since.
func (t *Table) Register(now time.Time, m Member, r Record, attempt uint64) bool {
	if h := t.held[r]; h != nil {
		return h.member == m && h.attempt == attempt
	}
	t.hold(r, &held{member: m, attempt: attempt, until: now.Add(t.ackWait)})
	return true
}

// Verdict says what a settlement means.
type Verdict uint8

// Verdicts.
const (
	Accepted Verdict = iota // propose it
	Settled                 // nothing is to be done
	Stale                   // the record was delivered again since
)

// Settle judges a settlement of a member, and marks the record if it is to be proposed.
func (t *Table) Settle(now time.Time, m Member, r Record, attempt uint64, c *state.Cursor) Verdict {
	h := t.held[r]
	switch {
	case c.Settled(r.Offset):
		return Settled
	case h == nil:
		h = &held{member: m, attempt: attempt, until: now.Add(t.ackWait)}
		t.hold(r, h)
	case h.member != m || h.attempt != attempt:
		return Stale
	case h.settling:
		return Settled // the same is on its way; the first one counts
	}
	h.settling = true
	return Accepted
}

// Extend gives a member anew the time that it has for a record.
func (t *Table) Extend(now time.Time, m Member, r Record, attempt uint64) bool {
	h := t.held[r]
	if h == nil || h.member != m || h.attempt != attempt {
		return false
	}
	h.until = now.Add(t.ackWait)
	return true
}

// Done says that a settlement is in the state: the record is settled, or, with a time, to be delivered again from then on.
func (t *Table) Done(r Record, due time.Time) {
	if h := t.held[r]; h != nil {
		t.release(r, h)
	}
	if !due.IsZero() {
		heap.Push(&t.waiting, retry{r, due})
	}
}

// Undo says that a settlement is not in the state, or that nobody knows: the member holds the record as before.
func (t *Table) Undo(now time.Time, r Record) {
	if h := t.held[r]; h != nil {
		h.settling, h.until = false, now.Add(t.ackWait)
	}
}

// Ended is a delivery that nobody settled.
type Ended struct {
	Record
	Attempt uint64
}

// Expire marks and returns the records whose time is up, in order.
func (t *Table) Expire(now time.Time) []Ended {
	return t.end(func(h *held) bool { return !h.until.After(now) })
}

// Leave marks and returns what a member holds, in order.
func (t *Table) Leave(m Member) []Ended { return t.end(func(h *held) bool { return h.member == m }) }

func (t *Table) end(which func(*held) bool) (list []Ended) {
	for r, h := range t.held {
		if !h.settling && which(h) {
			h.settling = true
			list = append(list, Ended{r, h.attempt})
		}
	}
	slices.SortFunc(list, func(a, b Ended) int { return a.compare(b.Record) })
	return list
}

// Due is when something is to be looked at next: a time is up, or a delivery is due. Zero = never.
func (t *Table) Due() (due time.Time) {
	for _, h := range t.held {
		if !h.settling && (due.IsZero() || h.until.Before(due)) {
			due = h.until
		}
	}
	if len(t.waiting) > 0 && (due.IsZero() || t.waiting[0].due.Before(due)) {
		due = t.waiting[0].due
	}
	return due
}
