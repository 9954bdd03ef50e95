package state

import (
	"math"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/waxwing-mq/waxwing/protocol/codec"
	"github.com/waxwing-mq/waxwing/topic"
)

// restoredGroups is what the chunks of groups have yet to bring.
type restoredGroups struct {
	groups, cursors uint64
	lastName        string
	ids             map[GroupID]*Group
	lastKey         cursorKey
	cursor          *Cursor // of the last item; nil = none yet
	settled         topic.Offset
}

// group takes an item of the chunks of groups.
func (r *restorer) group(c *codec.Cursor) error {
	if r.groups == nil {
		return r.groupsHead(c)
	}
	n := c.Array(groupItemFields)
	switch tag := c.UintMax(asideTag); {
	case c.Err() != nil:
		return nil
	case tag == groupTag && n == groupItemFields:
		return r.newGroup(c)
	case tag == cursorTag && n == cursorItemFields:
		return r.newCursor(c)
	case r.groups.cursor == nil:
		return broken("item %d of a cursor without a cursor", tag)
	case tag == settledTag && n == settledItemFields:
		return r.settled(c)
	case tag == attemptTag && n == attemptItemFields:
		return r.attempt(c)
	case tag == asideTag && n == asideItemFields:
		return r.putAside(c)
	}
	c.Fail(codec.ErrCount)
	return nil
}

func (r *restorer) groupsHead(c *codec.Cursor) error {
	r.groups = &restoredGroups{ids: map[GroupID]*Group{}}
	if !fieldsOf(c, groupsHeadFields) {
		return nil
	}
	r.m.next.nextGroup, r.groups.groups, r.groups.cursors = GroupID(c.Uint()), c.Uint(), c.Uint()
	if c.Err() == nil && r.m.next.nextGroup < 2 {
		return broken("a chunk of groups, and there never was one")
	}
	return nil
}

func (r *restorer) newGroup(c *codec.Cursor) error {
	g := &Group{Name: topic.Name(c.Str(topic.MaxBytes)), ID: GroupID(c.Uint()), CreatedMs: int64(c.UintMax(timeMsMax)), CreatedBy: string(c.Str(principalBytesMax)),
		Paused: c.Bool(), Resets: c.Uint()}
	if g.Spec = readGroupSpec(c); c.Err() != nil {
		return nil
	}
	if _, err := topic.ParseName(string(g.Name)); err != nil {
		return broken("%w", err)
	}
	if fault := g.Spec.fault(); fault != "" {
		return broken("group %q: %s", g.Name, fault)
	}
	at := r.groups
	if string(g.Name) <= at.lastName || g.ID == 0 || g.ID >= r.m.next.nextGroup || at.ids[g.ID] != nil || at.groups == 0 || at.cursor != nil {
		return broken("group %q with id %d: its place is wrong, or it is there already", g.Name, g.ID)
	}
	at.groups--
	at.lastName, at.ids[g.ID] = string(g.Name), g
	r.m.next.groups, _, _ = r.m.next.groups.Insert([]byte(g.Name), g)
	return nil
}

func (r *restorer) newCursor(c *codec.Cursor) error {
	key := cursorKey{topic.PartitionID(c.Uint()), GroupID(c.Uint())}
	cur := &Cursor{Floor: readOffset(c), Lost: c.Uint(), Retries: c.Uint(), Dead: c.Uint()}
	if c.Err() != nil {
		return nil
	}
	at, part := r.groups, r.m.parts[key.partition]
	g := at.ids[key.group]
	if part == nil || g == nil || !g.Spec.Matches(part.name) || cur.Floor > part.next || at.cursors == 0 || !at.lastKey.before(key) {
		return broken("group %d at record %d of partition %d: one of them is not there, or its place is wrong", key.group, cur.Floor, key.partition)
	}
	at.cursors--
	at.lastKey, at.cursor, at.settled = key, cur, cur.Floor
	r.cursors.Insert(key.bytes(), cur)
	return nil
}

// settled takes ranges. They do not touch the floor or each other: equal states make equal chunks.
func (r *restorer) settled(c *codec.Cursor) error {
	pairs := codec.NewCursor(c.Bin(2 * settledItemBytes))
	at, next := r.groups, r.m.parts[r.groups.lastKey.partition].next
	if c.Err() == nil && !pairs.More() {
		return broken("no range of settled records")
	}
	for pairs.More() {
		from := at.settled + topic.Offset(pairs.UintMax(aheadMax))
		end := from + topic.Offset(pairs.UintMax(aheadMax))
		if err := pairs.Err(); err != nil {
			return broken("settled records: %w", err)
		}
		if from == at.settled || end == from || end > next || end-at.cursor.Floor > aheadMax {
			return broken("records %d to %d of partition %d cannot be settled behind %d", from, end, at.lastKey.partition, at.settled)
		}
		at.cursor.settle(from, end)
		at.settled = end
	}
	return nil
}

func (r *restorer) attempt(c *codec.Cursor) error {
	at, a := readOffset(c), Attempt{Count: c.Uint(), DueMs: int64(c.UintMax(timeMsMax + durationMsMax))}
	if c.Err() != nil {
		return nil
	}
	cur := r.groups.cursor
	if a.Count == 0 || cur.Settled(at) || at >= r.m.parts[r.groups.lastKey.partition].next || !behind(cur.attempts, at) {
		return broken("record %d was not delivered, or its place is wrong", at)
	}
	cur.attempts = with(cur.attempts, at, a)
	return nil
}

func (r *restorer) putAside(c *codec.Cursor) error {
	at, p := readOffset(c), PutAside{Count: c.Uint(), AtMs: int64(c.UintMax(timeMsMax)), Reason: string(c.Str(reasonBytesMax))}
	if c.Err() != nil {
		return nil
	}
	cur := r.groups.cursor
	if !cur.Settled(at) || !behind(cur.aside, at) {
		return broken("record %d was not put aside, or its place is wrong", at)
	}
	cur.aside = with(cur.aside, at, p)
	return nil
}

// end says what did not come.
func (g *restoredGroups) end() error {
	if g != nil && (g.groups > 0 || g.cursors > 0) {
		return broken("%d groups and %d of their positions are missing", g.groups, g.cursors)
	}
	return nil
}

func readOffset(c *codec.Cursor) topic.Offset { return topic.Offset(c.UintMax(math.MaxInt64)) }

// behind says whether at may stand behind everything in t.
func behind[T any](t *iradix.Tree[T], at topic.Offset) bool {
	if size(t) == 0 {
		return true
	}
	key, _, _ := t.Root().Maximum()
	return keyOffset(key) < at
}
