package state

import (
	"github.com/waxwing-mq/waxwing/protocol/codec"
)

// restoredTickets is what the chunk of tickets has yet to bring.
type restoredTickets struct {
	sealing, keys uint64
	lastNode      string
}

// ticket takes an item of the chunk of tickets.
func (r *restorer) ticket(c *codec.Cursor) error {
	if r.tickets == nil {
		return r.ticketsHead(c)
	}
	n := c.Array(ticketKeyItemFields)
	switch tag := c.UintMax(ticketKeyTag); {
	case c.Err() != nil:
		return nil
	case tag == sealKeyTag && n == sealKeyItemFields:
		return r.sealKey(c)
	case tag == ticketKeyTag && n == ticketKeyItemFields:
		return r.ticketKey(c)
	}
	c.Fail(codec.ErrCount)
	return nil
}

func (r *restorer) ticketsHead(c *codec.Cursor) error {
	r.tickets = &restoredTickets{}
	if !fieldsOf(c, ticketsHeadFields) {
		return nil
	}
	r.m.next.ticketNumber = c.Uint()
	r.tickets.sealing, r.tickets.keys = c.UintMax(membersMax), c.UintMax(ticketKeysMax)
	if c.Err() == nil && r.m.next.ticketNumber == 0 && r.tickets.sealing == 0 {
		return broken("a chunk of tickets with nothing in it")
	}
	return nil
}

func (r *restorer) sealKey(c *codec.Cursor) error {
	node := string(c.Str(nodeBytesMax))
	var key SealKey
	c.Fixed(key[:])
	if c.Err() != nil {
		return nil
	}
	m, there := r.members.Get([]byte(node))
	if !there || m.Removed || key == (SealKey{}) || node <= r.tickets.lastNode || r.tickets.sealing == 0 || len(r.m.next.tickets) > 0 {
		return broken("a key of node %q, which is not there, or its place is wrong", node)
	}
	r.tickets.lastNode = node
	r.tickets.sealing--
	m.SealKey = key
	r.members.Insert([]byte(node), m)
	return nil
}

func (r *restorer) ticketKey(c *codec.Cursor) error {
	k := TicketKey{Number: c.Uint(), AtMs: int64(c.UintMax(timeMsMax))}
	packed := c.Bin(TicketCopiesMax * (nodeBytesMax + sealedBytesMax + 64))
	if c.Err() != nil {
		return nil
	}
	var err error
	if k.Copies, err = readCopies(packed); err != nil {
		return broken("ticket key %d: %w", k.Number, err)
	}
	before := r.m.next.ticketNumber + 1
	if n := len(r.m.next.tickets); n > 0 {
		before = r.m.next.tickets[n-1].Number
	}
	if k.Number == 0 || k.Number >= before || len(k.Copies) == 0 || r.tickets.sealing > 0 || r.tickets.keys == 0 {
		return broken("ticket key %d with %d copies before number %d", k.Number, len(k.Copies), before)
	}
	r.tickets.keys--
	r.m.next.tickets = append(r.m.next.tickets, k)
	return nil
}

// end says what did not come.
func (t *restoredTickets) end() error {
	if t != nil && (t.sealing > 0 || t.keys > 0) {
		return broken("%d keys of nodes and %d ticket keys are missing", t.sealing, t.keys)
	}
	return nil
}
