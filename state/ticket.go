package state

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/waxwing-mq/waxwing/protocol/codec"
)

// Ticket keys let one forge TLS sessions, so the state has them only sealed: a copy for each node, which that node alone
// can open. Package identity seals and opens; here they are bytes.

// TicketKeyTTL is the log time after which a ticket key is gone.
const TicketKeyTTL = 24 * time.Hour

// Limits of ticket keys.
const (
	TicketCopiesMax = 64 // nodes that get a copy
	ticketKeysMax   = 4
	sealedBytesMax  = 256
)

// SealKey is the public key to which secrets for a node are sealed (X25519). Zero = none was told.
type SealKey [32]byte

// TicketKey is a key of the client port's session tickets.
type TicketKey struct {
	Number uint64 // from 1; never used again
	AtMs   int64  // log time of its entry, unix ms
	Copies []TicketCopy
}

// TicketCopy is a ticket key sealed for one node.
type TicketCopy struct {
	Node   string
	To     SealKey // to which it was sealed
	Sealed []byte  // read-only
}

// Copy is the copy for a node.
func (k *TicketKey) Copy(node string) (TicketCopy, bool) {
	i := slices.IndexFunc(k.Copies, func(c TicketCopy) bool { return c.Node == node })
	if i < 0 {
		return TicketCopy{}, false
	}
	return k.Copies[i], true
}

// SetSealKey tells the public key of a node. Repeating it changes nothing.
type SetSealKey struct {
	Node string
	Key  SealKey
}

// SetTicketKey adds a ticket key, if Number is one above View.TicketNumber and every copy is sealed to what its node has told;
// else it is a conflict. Keys that are older than TicketKeyTTL go.
type SetTicketKey struct {
	Number uint64
	Copies []TicketCopy
}

const (
	setSealKeyFields   = 2
	setTicketKeyFields = 2
)

// AppendSetSealKey encodes c.
func AppendSetSealKey(dst []byte, c *SetSealKey) []byte {
	return codec.AppendBin(codec.AppendStr(appendHead(dst, kindSetSealKey, setSealKeyFields), c.Node), c.Key[:])
}

func decodeSetSealKey(body []byte) (SetSealKey, error) {
	f, err := openFields(body, kindSetSealKey, setSealKeyFields)
	if err != nil {
		return SetSealKey{}, err
	}
	c := SetSealKey{Node: f.text(nodeBytesMax)}
	f.Fixed(c.Key[:])
	return c, f.close()
}

// AppendSetTicketKey encodes c: the copies are one bin.
func AppendSetTicketKey(dst []byte, c *SetTicketKey) []byte {
	dst = codec.AppendUint(appendHead(dst, kindSetTicketKey, setTicketKeyFields), c.Number)
	return codec.AppendBin(dst, appendCopies(nil, c.Copies))
}

func decodeSetTicketKey(body []byte) (SetTicketKey, error) {
	f, err := openFields(body, kindSetTicketKey, setTicketKeyFields)
	if err != nil {
		return SetTicketKey{}, err
	}
	c := SetTicketKey{Number: f.Uint()}
	packed := f.Bin(len(body))
	if err := f.close(); err != nil {
		return SetTicketKey{}, err
	}
	if c.Copies, err = readCopies(packed); err != nil {
		return SetTicketKey{}, fmt.Errorf("%w: command kind %d: %w", ErrMalformed, kindSetTicketKey, err)
	}
	return c, nil
}

// appendCopies packs copies: node, to, sealed; node, to, sealed; ...
func appendCopies(dst []byte, copies []TicketCopy) []byte {
	for i := range copies {
		c := &copies[i]
		dst = codec.AppendStr(dst, c.Node)
		dst = codec.AppendBin(dst, c.To[:])
		dst = codec.AppendBin(dst, c.Sealed)
	}
	return dst
}

func readCopies(packed []byte) (copies []TicketCopy, err error) {
	in := codec.NewCursor(packed)
	for in.More() {
		if len(copies) == TicketCopiesMax {
			return nil, fmt.Errorf("more than %d copies of a ticket key", TicketCopiesMax)
		}
		c := TicketCopy{Node: string(in.Str(nodeBytesMax))}
		in.Fixed(c.To[:])
		c.Sealed = bytes.Clone(in.Bin(sealedBytesMax))
		copies = append(copies, c)
	}
	return copies, in.Err()
}

func (m *Machine) onSetSealKey(c *SetSealKey, e *Effects) Result {
	old, there := m.next.members.Get([]byte(c.Node))
	switch {
	case !there:
		return Result{Status: StatusNotFound, Text: fmt.Sprintf("node %q is not known", c.Node)}
	case old.Removed:
		return Result{Status: StatusConflict, Text: fmt.Sprintf("node %s was removed", c.Node)}
	case c.Key == SealKey{}:
		return Result{Status: StatusInvalid, Text: "the key is zero"}
	case old.SealKey == c.Key:
		return Result{Status: StatusOK}
	}
	old.SealKey = c.Key
	m.putMember(old, e)
	return Result{Status: StatusOK}
}

func (m *Machine) onSetTicketKey(c *SetTicketKey, e *Effects) Result {
	r := Result{Version: m.next.ticketNumber}
	switch {
	case c.Number != m.next.ticketNumber+1:
		r.Status, r.Text = StatusConflict, fmt.Sprintf("the last ticket key has number %d", m.next.ticketNumber)
		return r
	case len(c.Copies) == 0:
		r.Status, r.Text = StatusInvalid, "nobody can open the ticket key"
		return r
	}
	for i := range c.Copies {
		sealed := &c.Copies[i]
		if member, _ := m.next.members.Get([]byte(sealed.Node)); member.Removed || member.SealKey == (SealKey{}) || member.SealKey != sealed.To {
			r.Status, r.Text = StatusConflict, fmt.Sprintf("node %q has no such key", sealed.Node)
			return r
		}
	}
	keys := []TicketKey{{Number: c.Number, AtMs: m.next.timeMs, Copies: c.Copies}}
	for _, k := range m.next.tickets {
		if len(keys) < ticketKeysMax && m.next.timeMs-k.AtMs < TicketKeyTTL.Milliseconds() {
			keys = append(keys, k)
		}
	}
	m.next.ticketNumber, m.next.tickets = c.Number, keys
	e.Change |= ChangedTickets
	r.Version = c.Number
	return r
}

// dropTickets forgets all ticket keys, and makes void what a leader may be proposing.
func (m *Machine) dropTickets(e *Effects) {
	if m.next.ticketNumber == 0 {
		return
	}
	m.next.ticketNumber++
	m.next.tickets = nil
	e.Change |= ChangedTickets
}

// TicketNumber is the number of the last ticket key, or of the removal of a node since, which ended all keys; 0 = there was
// never one.
func (v *View) TicketNumber() uint64 { return v.ticketNumber }

// TicketKeys are the ticket keys in force, the newest first. Nobody may change them.
func (v *View) TicketKeys() []TicketKey { return v.tickets }
