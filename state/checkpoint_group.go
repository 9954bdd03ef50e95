package state

import (
	"github.com/waxwing-mq/waxwing/protocol/codec"
)

// Tags of items in chunks of groups, behind their first.
const (
	groupTag   = 0
	cursorTag  = 1
	settledTag = 2 // of the last cursor: pairs of a gap and a length
	attemptTag = 3 // of the last cursor: offset, count, due
	asideTag   = 4 // of the last cursor
)

const (
	groupsHeadFields  = 3
	groupItemFields   = 14
	cursorItemFields  = 7
	settledItemFields = 2
	attemptItemFields = 4
	asideItemFields   = 5
)

// settledItemBytes is where an item of settled ranges ends.
const settledItemBytes = 64 << 10

// groups writes no chunk as long as there never was a group, which is what older programs can read.
func (c *Checkpoint) groups(w *chunkWriter) {
	v := c.view
	if v.nextGroup == 1 {
		return
	}
	w.begin(chunkGroups)
	b := codec.AppendArray(w.buf, groupsHeadFields)
	for _, n := range []uint64{uint64(v.nextGroup), uint64(v.groups.Len()), uint64(v.cursors.Len())} {
		b = codec.AppendUint(b, n)
	}
	w.buf = b
	v.Groups("", func(g *Group) bool {
		w.buf = appendGroupItem(w.buf, g)
		return w.split()
	})
	it := v.cursors.Root().Iterator()
	for key, cur, ok := it.Next(); ok && !w.ended; key, cur, ok = it.Next() {
		cur.items(w, readCursorKey(key))
	}
}

func appendGroupItem(dst []byte, g *Group) []byte {
	dst = codec.AppendArray(dst, groupItemFields)
	dst = codec.AppendUint(dst, groupTag)
	dst = codec.AppendStr(dst, string(g.Name))
	dst = codec.AppendUint(codec.AppendUint(dst, uint64(g.ID)), uint64(g.CreatedMs))
	dst = codec.AppendStr(dst, g.CreatedBy)
	dst = codec.AppendUint(codec.AppendBool(dst, g.Paused), g.Resets)
	return appendGroupSpec(dst, &g.Spec)
}

// items writes the cursor and what belongs to it.
func (c *Cursor) items(w *chunkWriter, key cursorKey) {
	b := codec.AppendUint(codec.AppendArray(w.buf, cursorItemFields), cursorTag)
	for _, n := range []uint64{uint64(key.partition), uint64(key.group), uint64(c.Floor), c.Lost, c.Retries, c.Dead} {
		b = codec.AppendUint(b, n)
	}
	w.buf = b
	w.split()
	c.settledItems(w)
	for at, a := range c.Attempts() {
		b := codec.AppendUint(codec.AppendArray(w.buf, attemptItemFields), attemptTag)
		w.buf = codec.AppendUint(codec.AppendUint(codec.AppendUint(b, uint64(at)), a.Count), uint64(a.DueMs))
		w.split()
	}
	for at, p := range c.Aside() {
		b := codec.AppendUint(codec.AppendArray(w.buf, asideItemFields), asideTag)
		b = codec.AppendUint(codec.AppendUint(codec.AppendUint(b, uint64(at)), p.Count), uint64(p.AtMs))
		w.buf = codec.AppendStr(b, p.Reason)
		w.split()
	}
}

// settledItems writes ranges and not the bitmap, whose bytes depend on how it came to be.
func (c *Cursor) settledItems(w *chunkWriter) {
	var packed []byte
	flush := func() {
		if len(packed) > 0 {
			b := codec.AppendUint(codec.AppendArray(w.buf, settledItemFields), settledTag)
			w.buf = codec.AppendBin(b, packed)
			packed = packed[:0]
			w.split()
		}
	}
	last := c.Floor
	for from, end := range c.SettledAbove() {
		packed = codec.AppendUint(codec.AppendUint(packed, uint64(from-last)), uint64(end-from))
		if last = end; len(packed) >= settledItemBytes {
			flush()
		}
	}
	flush()
}
