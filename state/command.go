package state

import (
	"fmt"

	"github.com/waxwing-mq/waxwing/protocol/codec"
)

// A command:
//
//	+---------+------+--------------------------------+
//	| version | kind | msgpack array of the kind's    |
//	| 0x01    |      | fields, in the struct's order  |
//	+---------+------+--------------------------------+
//
// A kind never changes its fields: new fields are a new version or a new kind.
const commandVersion = 1

// kind says what a command does. Values are stable for ever.
type kind byte

const (
	kindInit         kind = 1
	kindPublish      kind = 2
	kindCreateTopic  kind = 3
	kindAlterTopic   kind = 4
	kindDeleteTopic  kind = 5
	kindSetPolicy    kind = 6
	kindRevoke       kind = 7
	kindRotate       kind = 8
	kindTrim         kind = 9
	kindSetMember    kind = 10
	kindRemoveMember kind = 11
	kindSetSealKey   kind = 12
	kindSetTicketKey kind = 13
	kindRecover      kind = 14
	kindCreateGroup  kind = 15
	kindAlterGroup   kind = 16
	kindResetGroup   kind = 17
	kindDeleteGroup  kind = 18
	kindSettle       kind = 19
)

// appendHead starts a command of n fields.
func appendHead(dst []byte, k kind, n int) []byte {
	return codec.AppendArray(append(dst, commandVersion, byte(k)), n)
}

// splitHead checks version and size and returns kind and fields.
func splitHead(cmd []byte) (kind, []byte, error) {
	switch {
	case len(cmd) < 2:
		return 0, nil, fmt.Errorf("%w: a command of %d bytes", ErrMalformed, len(cmd))
	case cmd[0] != commandVersion:
		return 0, nil, versionError("command", cmd[0])
	}
	return kind(cmd[1]), cmd[2:], nil
}

// Check reports whether cmd is a command that Apply can read. The leader asks before it
// proposes bytes that another node encoded, since a malformed entry stops every node.
func Check(cmd []byte) error {
	k, body, err := splitHead(cmd)
	if err != nil {
		return err
	}
	switch k {
	case kindInit:
		_, err = decodeInit(body)
	case kindPublish:
		var p publish
		err = p.decode(body)
	case kindCreateTopic:
		_, err = decodeCreateTopic(body)
	case kindAlterTopic:
		_, err = decodeAlterTopic(body)
	case kindDeleteTopic:
		_, err = decodeDeleteTopic(body)
	case kindSetPolicy:
		_, err = decodeSetPolicy(body)
	case kindRevoke:
		_, err = decodeRevoke(body)
	case kindRotate:
		_, err = decodeRotate(body)
	case kindTrim:
		_, err = decodeTrim(body)
	case kindSetMember:
		_, err = decodeSetMember(body)
	case kindRemoveMember:
		_, err = decodeRemoveMember(body)
	case kindSetSealKey:
		_, err = decodeSetSealKey(body)
	case kindSetTicketKey:
		_, err = decodeSetTicketKey(body)
	case kindRecover:
		_, err = decodeRecover(body)
	case kindCreateGroup:
		_, err = decodeCreateGroup(body)
	case kindAlterGroup:
		_, err = decodeAlterGroup(body)
	case kindResetGroup:
		_, err = decodeResetGroup(body)
	case kindDeleteGroup:
		_, err = decodeDeleteGroup(body)
	case kindSettle:
		_, err = decodeSettle(body)
	default:
		err = kindError(k)
	}
	return err
}

// FirstCommands is the highest kind of command of the first program that could be one of several nodes: every node knows
// the kinds up to here, also one that has told nothing yet.
const FirstCommands = uint64(kindRemoveMember)

// Kinds of commands that the leader proposes only once every node knows them.
const (
	CommandSetSealKey   = uint64(kindSetSealKey)
	CommandSetTicketKey = uint64(kindSetTicketKey)
)

// CommandRecover is the kind of Recover. Nobody proposes it: it is written into the log of a stopped node.
const CommandRecover = uint64(kindRecover)

// CommandKind is the kind of an encoded command, as Member.Commands counts; 0 = it has none.
func CommandKind(cmd []byte) uint64 {
	if len(cmd) < 2 {
		return 0
	}
	return uint64(cmd[1])
}

// IsPublish says whether a command, which passed Check, is a publish.
func IsPublish(cmd []byte) bool { return kind(cmd[1]) == kindPublish }

// command applies one command.
func (m *Machine) command(cmd []byte, e *Effects) (Result, error) {
	k, body, err := splitHead(cmd)
	if err != nil {
		return Result{}, err
	}
	switch k {
	case kindInit:
		return apply(body, decodeInit, m.onInit, e)
	case kindPublish:
		return m.publish(body, e)
	case kindCreateTopic:
		return apply(body, decodeCreateTopic, m.onCreateTopic, e)
	case kindAlterTopic:
		return apply(body, decodeAlterTopic, m.onAlterTopic, e)
	case kindDeleteTopic:
		return apply(body, decodeDeleteTopic, m.onDeleteTopic, e)
	case kindSetPolicy:
		return apply(body, decodeSetPolicy, m.onSetPolicy, e)
	case kindRevoke:
		return apply(body, decodeRevoke, m.onRevoke, e)
	case kindRotate:
		return apply(body, decodeRotate, m.onRotate, e)
	case kindTrim:
		return apply(body, decodeTrim, m.onTrim, e)
	case kindSetMember:
		return apply(body, decodeSetMember, m.onSetMember, e)
	case kindRemoveMember:
		return apply(body, decodeRemoveMember, m.onRemoveMember, e)
	case kindSetSealKey:
		return apply(body, decodeSetSealKey, m.onSetSealKey, e)
	case kindSetTicketKey:
		return apply(body, decodeSetTicketKey, m.onSetTicketKey, e)
	case kindRecover:
		return apply(body, decodeRecover, m.onRecover, e)
	case kindCreateGroup:
		return apply(body, decodeCreateGroup, m.onCreateGroup, e)
	case kindAlterGroup:
		return apply(body, decodeAlterGroup, m.onAlterGroup, e)
	case kindResetGroup:
		return apply(body, decodeResetGroup, m.onResetGroup, e)
	case kindDeleteGroup:
		return apply(body, decodeDeleteGroup, m.onDeleteGroup, e)
	case kindSettle:
		return apply(body, decodeSettle, m.onSettle, e)
	}
	return Result{}, kindError(k)
}

// apply decodes the fields and hands them to the handler.
func apply[C any](body []byte, decode func([]byte) (C, error), on func(*C, *Effects) Result, e *Effects) (Result, error) {
	c, err := decode(body)
	if err != nil {
		return Result{}, err
	}
	return on(&c, e), nil
}

func kindError(k kind) error {
	if k == 0 {
		return fmt.Errorf("%w: command kind 0", ErrMalformed)
	}
	return fmt.Errorf("command kind %d is unknown: %w", k, ErrVersion)
}

// fields reads the msgpack array of a command. Its errors are sticky.
type fields struct {
	codec.Cursor
	kind kind
}

// openFields scans a command's fields strictly and starts reading them.
func openFields(body []byte, k kind, n int) (fields, error) {
	if err := codec.Scan(body, 2); err != nil {
		return fields{}, fmt.Errorf("%w: command kind %d: %w", ErrMalformed, k, err)
	}
	f := fields{Cursor: codec.NewCursor(body), kind: k}
	if got := f.Array(n); f.Err() == nil && got != n {
		return fields{}, fmt.Errorf("%w: command kind %d has %d fields, wants %d", ErrMalformed, k, got, n)
	}
	return f, nil
}

// text copies a string of at most max bytes out of the entry.
func (f *fields) text(max int) string { return string(f.Str(max)) }

// close reports the first error. Bytes behind the last field are found by the scan.
func (f *fields) close() error {
	if err := f.Err(); err != nil {
		return fmt.Errorf("%w: command kind %d: %w", ErrMalformed, f.kind, err)
	}
	return nil
}
