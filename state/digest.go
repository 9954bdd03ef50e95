package state

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"slices"
)

// Digest is a SHA-256 over the whole state, producers included, that depends on nothing
// but the entries applied. Equal logs give equal digests on every node. It is for tests
// and comparisons; call it where Apply is called.
func (m *Machine) Digest() [32]byte {
	d := digest{sha256.New()}
	d.view(&m.next)
	d.producers(m.producers)
	return [32]byte(d.h.Sum(nil))
}

// digest writes values without ambiguity: numbers in 8 bytes, texts with their length.
type digest struct{ h hash.Hash }

func (d digest) num(ns ...uint64) {
	var b [8]byte
	for _, n := range ns {
		binary.BigEndian.PutUint64(b[:], n)
		d.h.Write(b[:])
	}
}

func (d digest) text(ss ...string) {
	for _, s := range ss {
		d.num(uint64(len(s)))
		d.h.Write([]byte(s))
	}
}

func (d digest) view(v *View) {
	d.num(v.applied, uint64(v.timeMs), v.generation, uint64(v.nextPartition), uint64(v.nextIncarnation), v.revVersion, v.segment)
	d.text(v.clusterID)
	d.num(v.policy.Version, uint64(v.policy.AtMs))
	d.text(v.policy.By, string(v.policy.Document))
	d.num(uint64(v.TopicCount()))
	v.Topics("", d.topic)
	d.num(uint64(v.PartitionCount()))
	v.parts.Root().Walk(func(_ []byte, p *Partition) bool {
		d.text(string(p.Topic))
		d.num(uint64(p.ID), uint64(p.Incarnation), uint64(p.Index), uint64(p.Low), uint64(p.Next))
		return false
	})
	for _, r := range v.Revocations() {
		d.num(uint64(r.Kind), uint64(r.AtMs))
		d.text(r.Value, r.Issuer, r.Reason, r.By)
	}
	for _, m := range v.Members() {
		d.text(m.Node, m.Disk, m.Peer, m.Client, m.Software)
		d.num(m.Commands, uint64(m.AtMs), boolNum(m.Removed))
	}
	if sealing := v.sealing(); v.ticketNumber > 0 || len(sealing) > 0 { // states of before have the digests of before
		d.tickets(v, sealing)
	}
	if v.nextGroup > 1 {
		d.groups(v)
	}
}

func (d digest) tickets(v *View, sealing []Member) {
	d.num(v.ticketNumber, uint64(len(sealing)), uint64(len(v.tickets)))
	for _, m := range sealing {
		d.text(m.Node, string(m.SealKey[:]))
	}
	for _, k := range v.tickets {
		d.num(k.Number, uint64(k.AtMs), uint64(len(k.Copies)))
		for _, c := range k.Copies {
			d.text(c.Node, string(c.To[:]), string(c.Sealed))
		}
	}
}

func (d digest) groups(v *View) {
	d.num(uint64(v.nextGroup), uint64(v.groups.Len()), uint64(v.cursors.Len()))
	v.Groups("", d.group)
	it := v.cursors.Root().Iterator()
	for key, c, ok := it.Next(); ok; key, c, ok = it.Next() {
		d.text(string(key))
		d.cursor(c)
	}
}

func (d digest) group(g *Group) bool {
	s := &g.Spec
	d.text(string(g.Name), g.CreatedBy, string(s.DeadLetter))
	d.num(uint64(g.ID), uint64(g.CreatedMs), boolNum(g.Paused), g.Resets, boolNum(s.KeyOrder), s.AckWaitMs, s.MaxDeliver, s.MaxInFlight)
	d.num(uint64(len(s.Topics)), uint64(len(s.BackoffMs)))
	for _, p := range s.Topics {
		d.text(p.String())
	}
	d.num(s.BackoffMs...)
	return true
}

func (d digest) cursor(c *Cursor) {
	d.num(uint64(c.Floor), c.Lost, c.Retries, c.Dead, c.SettledCount(), uint64(c.AttemptCount()), uint64(c.AsideCount()))
	for from, end := range c.SettledAbove() {
		d.num(uint64(from), uint64(end))
	}
	for at, a := range c.Attempts() {
		d.num(uint64(at), a.Count, uint64(a.DueMs))
	}
	for at, p := range c.Aside() {
		d.num(uint64(at), p.Count, uint64(p.AtMs))
		d.text(p.Reason)
	}
}

func boolNum(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func (d digest) topic(t *Topic) bool {
	d.text(string(t.Name), t.CreatedBy)
	d.num(uint64(t.Incarnation), uint64(t.CreatedMs))
	d.num(uint64(t.Spec.Partitions), t.Spec.MaxAgeMs, t.Spec.MaxBytes, t.Spec.MaxRecords)
	for _, id := range t.Partitions {
		d.num(uint64(id))
	}
	return true
}

// producers writes them in the order of use, which is part of the state.
func (d digest) producers(ps *producers) {
	d.num(uint64(len(ps.byKey)), uint64(ps.windows))
	for p := ps.root.oldest(ofAll); p != &ps.root; p = p.links[ofAll].newer {
		d.text(p.key.principal, string(p.key.id[:]))
		d.num(uint64(p.usedMs), uint64(len(p.windows)))
		for _, part := range p.partitions() {
			d.window(part, p.windows[part])
		}
	}
}

func (d digest) window(part *partition, w *window) {
	d.num(uint64(part.id), w.epoch, w.next, uint64(len(w.ring)))
	for i := range w.ring {
		s := w.at(i)
		d.num(uint64(s.offset), uint64(s.timeMs), uint64(s.count))
	}
}

// partitions are those that p has a window on, by id.
func (p *producer) partitions() []*partition {
	list := make([]*partition, 0, len(p.windows))
	for part := range p.windows {
		list = append(list, part)
	}
	slices.SortFunc(list, func(a, b *partition) int { return cmp.Compare(a.id, b.id) })
	return list
}
