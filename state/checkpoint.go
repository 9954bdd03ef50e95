package state

import (
	"cmp"
	"iter"
	"slices"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/waxwing-mq/waxwing/protocol/codec"
	"github.com/waxwing-mq/waxwing/topic"
)

// A checkpoint is the whole state as of one entry, in chunks:
//
//	+---------+------+-------+-------+--
//	| version | kind | item  | item  | ...     each item is a msgpack array
//	| 0x01    |      |       |       |
//	+---------+------+-------+-------+--
//
// in this order of kinds; several chunks of a kind may follow each other:
//
//	1 head         one item: indexes, counters, and how many items of each kind follow
//	2 policy       one item: the document
//	3 topics       name, incarnation, created, by, settings, partition ids; by name
//	4 partitions   id, low, next; by id
//	5 revocations  by key
//	6 producers    in order of use: 0, principal, id, used; then its windows: 1, partition, epoch, next, batches
//	8 members      by node id; not there if there are none
//	9 tickets      one item: number, how many of both follow; then 0, node, key by node; then 1, number, time, copies, the newest first;
//	               not there if there are none
//	10 groups      first one item: the next id, how many groups and positions follow; then 0 and a group, by name; then 1 and a position, by partition
//	               and group, and behind it 2 and settled ranges, 3 and an attempt, 4 and a record that was put aside; not there if there never was a group
//	7 end          one item: the number of chunks before it
//
// Equal states make equal chunks.
const checkpointVersion = 1

// CheckpointChunkBytes is where a chunk ends, behind the item that reaches it.
const CheckpointChunkBytes = 256 << 10

type chunkKind byte

const (
	chunkHead        chunkKind = 1
	chunkPolicy      chunkKind = 2
	chunkTopics      chunkKind = 3
	chunkPartitions  chunkKind = 4
	chunkRevocations chunkKind = 5
	chunkProducers   chunkKind = 6
	chunkEnd         chunkKind = 7
	chunkMembers     chunkKind = 8  // stands before the end
	chunkTickets     chunkKind = 9  // stands before the end; it is one chunk
	chunkGroups      chunkKind = 10 // stands before the end
)

// Numbers of fields of items.
const (
	headItemFields      = 14
	policyItemFields    = 4
	topicItemFields     = 9
	partitionItemFields = 3
	revocationFields    = 6
	producerItemFields  = 4
	windowItemFields    = 5
	memberItemFields    = setMemberFields + 2
	ticketsHeadFields   = 3
	sealKeyItemFields   = 3
	ticketKeyItemFields = 4
)

// Tags of items in a chunk of producers.
const (
	producerTag = 0
	windowTag   = 1
)

// Tags of items in the chunk of tickets, behind its first.
const (
	sealKeyTag   = 0
	ticketKeyTag = 1
)

// Checkpoint is the state as of one entry. It never changes; any goroutine may encode it while Apply goes on.
type Checkpoint struct {
	view      *View
	producers []producerAt
	windows   []windowAt
}

// producerAt is a producer as of the checkpoint; its windows are the next count of Checkpoint.windows.
type producerAt struct {
	key    producerKey
	usedMs int64
	count  int
}

type windowAt struct {
	partition topic.PartitionID
	window    *window
}

// Checkpoint captures the state as of the last entry. Call it where Apply is called. Its cost is a walk over the
// producers; what they hold is copied only when they publish again.
func (m *Machine) Checkpoint() *Checkpoint {
	ps := m.producers
	ps.generation++ // windows of an older one belong to checkpoints, and are copied before they change
	c := &Checkpoint{view: m.View(), producers: make([]producerAt, 0, len(ps.byKey)), windows: make([]windowAt, 0, ps.windows)}
	for p := ps.root.oldest(ofAll); p != &ps.root; p = p.links[ofAll].newer {
		c.producers = append(c.producers, producerAt{p.key, p.usedMs, len(p.windows)})
		for part, w := range p.windows {
			c.windows = append(c.windows, windowAt{part.id, w})
		}
	}
	return c
}

// Index is the raft index of the last entry in it.
func (c *Checkpoint) Index() uint64 { return c.view.applied }

// Segment is the number of the segment that is active behind it.
func (c *Checkpoint) Segment() uint64 { return c.view.segment }

// Chunks encodes it. A chunk is valid until the next one.
func (c *Checkpoint) Chunks() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		w := chunkWriter{yield: yield, buf: make([]byte, 0, CheckpointChunkBytes+4096)}
		w.begin(chunkHead)
		w.buf = c.appendHead(w.buf)
		w.begin(chunkPolicy)
		w.buf = appendPolicyItem(w.buf, &c.view.policy)
		c.topics(&w)
		c.parts(&w)
		w.begin(chunkRevocations)
		for _, r := range c.view.Revocations() {
			w.buf = appendRevocationItem(w.buf, &r)
			w.split()
		}
		c.writeProducers(&w)
		c.members(&w)
		c.tickets(&w)
		c.groups(&w)
		w.begin(chunkEnd)
		w.buf = codec.AppendUint(codec.AppendArray(w.buf, 1), w.count)
		w.flush()
	}
}

func (c *Checkpoint) appendHead(dst []byte) []byte {
	v := c.view
	dst = codec.AppendArray(dst, headItemFields)
	for _, n := range []uint64{v.applied, uint64(v.timeMs), v.generation, uint64(v.nextPartition), uint64(v.nextIncarnation), v.segment, v.revVersion,
		uint64(v.TopicCount()), uint64(v.PartitionCount()), uint64(v.revocations.Len()), uint64(len(c.producers)), uint64(len(c.windows)), uint64(v.members.Len())} {
		dst = codec.AppendUint(dst, n)
	}
	return codec.AppendStr(dst, v.clusterID)
}

func appendPolicyItem(dst []byte, p *PolicyDoc) []byte {
	dst = codec.AppendArray(dst, policyItemFields)
	dst = codec.AppendUint(dst, p.Version)
	dst = codec.AppendUint(dst, uint64(p.AtMs))
	dst = codec.AppendStr(dst, p.By)
	return codec.AppendBin(dst, p.Document)
}

func (c *Checkpoint) topics(w *chunkWriter) {
	w.begin(chunkTopics)
	c.view.Topics("", func(t *Topic) bool {
		w.buf = appendTopicItem(w.buf, t)
		return w.split()
	})
}

func appendTopicItem(dst []byte, t *Topic) []byte {
	dst = codec.AppendArray(dst, topicItemFields)
	dst = codec.AppendStr(dst, string(t.Name))
	dst = codec.AppendUint(dst, uint64(t.Incarnation))
	dst = codec.AppendUint(dst, uint64(t.CreatedMs))
	dst = codec.AppendStr(dst, t.CreatedBy)
	dst = appendSpec(dst, &t.Spec)
	dst = codec.AppendArray(dst, len(t.Partitions))
	for _, id := range t.Partitions {
		dst = codec.AppendUint(dst, uint64(id))
	}
	return dst
}

func (c *Checkpoint) parts(w *chunkWriter) {
	w.begin(chunkPartitions)
	for p := range c.view.Partitions() {
		b := codec.AppendArray(w.buf, partitionItemFields)
		b = codec.AppendUint(b, uint64(p.ID))
		b = codec.AppendUint(b, uint64(p.Low))
		w.buf = codec.AppendUint(b, uint64(p.Next))
		if !w.split() {
			return
		}
	}
}

func appendRevocationItem(dst []byte, r *Revocation) []byte {
	dst = codec.AppendArray(dst, revocationFields)
	dst = codec.AppendUint(dst, uint64(r.Kind))
	dst = codec.AppendStr(dst, r.Value)
	dst = codec.AppendStr(dst, r.Issuer)
	dst = codec.AppendStr(dst, r.Reason)
	dst = codec.AppendStr(dst, r.By)
	return codec.AppendUint(dst, uint64(r.AtMs))
}

func (c *Checkpoint) writeProducers(w *chunkWriter) {
	w.begin(chunkProducers)
	windows := c.windows
	for i := range c.producers {
		p := &c.producers[i]
		b := codec.AppendArray(w.buf, producerItemFields)
		b = codec.AppendUint(b, producerTag)
		b = codec.AppendStr(b, p.key.principal)
		b = codec.AppendBin(b, p.key.id[:])
		w.buf = codec.AppendUint(b, uint64(p.usedMs))
		own := slices.Clone(windows[:p.count])
		windows = windows[p.count:]
		slices.SortFunc(own, func(a, b windowAt) int { return cmp.Compare(a.partition, b.partition) })
		for _, at := range own {
			w.buf = at.window.appendItem(w.buf, at.partition)
			if !w.split() {
				return
			}
		}
		if !w.split() {
			return
		}
	}
}

// members writes no chunk for a node that is alone, which is what older programs can read.
func (c *Checkpoint) members(w *chunkWriter) {
	list := c.view.Members()
	if len(list) == 0 {
		return
	}
	w.begin(chunkMembers)
	for i := range list {
		m := &list[i]
		w.buf = appendMemberFields(codec.AppendArray(w.buf, memberItemFields), m)
		w.buf = codec.AppendBool(codec.AppendUint(w.buf, uint64(m.AtMs)), m.Removed)
		if !w.split() {
			return
		}
	}
}

// tickets writes no chunk while there is nothing in it, which is what older programs can read.
func (c *Checkpoint) tickets(w *chunkWriter) {
	v, sealing := c.view, c.view.sealing()
	if v.ticketNumber == 0 && len(sealing) == 0 {
		return
	}
	w.begin(chunkTickets)
	b := codec.AppendArray(w.buf, ticketsHeadFields)
	for _, n := range []uint64{v.ticketNumber, uint64(len(sealing)), uint64(len(v.tickets))} {
		b = codec.AppendUint(b, n)
	}
	for i := range sealing {
		b = codec.AppendUint(codec.AppendArray(b, sealKeyItemFields), sealKeyTag)
		b = codec.AppendBin(codec.AppendStr(b, sealing[i].Node), sealing[i].SealKey[:])
	}
	for i := range v.tickets {
		k := &v.tickets[i]
		b = codec.AppendUint(codec.AppendArray(b, ticketKeyItemFields), ticketKeyTag)
		b = codec.AppendUint(codec.AppendUint(b, k.Number), uint64(k.AtMs))
		b = codec.AppendBin(b, appendCopies(nil, k.Copies))
	}
	w.buf = b
}

// sealing are the nodes that have told a key.
func (v *View) sealing() []Member {
	return slices.DeleteFunc(v.Members(), func(m Member) bool { return m.SealKey == SealKey{} })
}

func (w *window) appendItem(dst []byte, id topic.PartitionID) []byte {
	dst = codec.AppendArray(dst, windowItemFields)
	dst = codec.AppendUint(dst, windowTag)
	dst = codec.AppendUint(dst, uint64(id))
	dst = codec.AppendUint(dst, w.epoch)
	dst = codec.AppendUint(dst, w.next)
	dst = codec.AppendArray(dst, 3*len(w.ring))
	for i := range w.ring {
		s := w.at(i)
		dst = codec.AppendUint(dst, uint64(s.offset))
		dst = codec.AppendUint(dst, uint64(s.timeMs))
		dst = codec.AppendUint(dst, uint64(s.count))
	}
	return dst
}

// chunkWriter hands out chunks.
type chunkWriter struct {
	yield func([]byte) bool
	buf   []byte
	kind  chunkKind
	count uint64
	ended bool
}

// begin starts a chunk of a kind, after the one before it.
func (w *chunkWriter) begin(k chunkKind) {
	w.flush()
	w.kind = k
	w.buf = append(w.buf[:0], checkpointVersion, byte(k))
}

// split ends the chunk if it is large. It says whether to go on.
func (w *chunkWriter) split() bool {
	if len(w.buf) >= CheckpointChunkBytes {
		w.begin(w.kind)
	}
	return !w.ended
}

// flush hands the chunk out. The ones without items stay: their kinds are in the order.
func (w *chunkWriter) flush() {
	if len(w.buf) == 0 || w.ended {
		return
	}
	w.ended = !w.yield(w.buf)
	w.count++
}

// OfCluster is the same state as the first one of another cluster: with its id, and without the nodes of the old one,
// the tombstones of those that were removed from it, and its ticket keys.
func (c *Checkpoint) OfCluster(id string) *Checkpoint {
	view := *c.view
	view.clusterID, view.members = id, iradix.New[Member]()
	view.ticketNumber, view.tickets = 0, nil
	return &Checkpoint{view: &view, producers: c.producers, windows: c.windows}
}
