package protocol_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/protocol/codec"
)

// raw is the bytes of a hex text with spaces.
func raw(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// invalid is a body that every broker and client must refuse.
type invalid struct {
	Name string `json:"name"`
	Body string `json:"body"` // hex, without the length
	Code string `json:"code"` // malformed, or unsupported for an unknown kind
}

var invalids = []invalid{
	{"empty array", "90", "malformed"},
	{"kind only", "9106", "malformed"},
	{"not an array", "06", "malformed"},
	{"a map", "82a16101a16202", "malformed"},
	{"kind is a str", "93a1610100", "malformed"},
	{"kind over 255", "93cd01000100", "malformed"},
	{"negative id", "9306ff00", "malformed"},
	{"unknown kind 9", "920901", "unsupported"},
	{"unknown kind 255", "92ccff01", "unsupported"},
	{"PING without payload", "920601", "malformed"},
	{"PING with a str", "930601a161", "malformed"},
	{"PING with a negative payload", "930601ff", "malformed"},
	{"PING with a non-minimal payload", "930601cc01", "malformed"},
	{"PING with a float", "930601ca3f800000", "malformed"},
	{"PING with an extension", "930601d40100", "malformed"},
	{"PING and another byte", "930601" + "00" + "00", "malformed"},
	{"PING, unknown field with a bad str", "94060100a1ff", "malformed"},
	{"PING, unknown field with duplicate keys", "9406010082a161c0a161c0", "malformed"},
	{"PING, unknown field nested 8 deep", "94060100" + strings.Repeat("91", 8) + "c0", "malformed"},
	{"PING, 62 unknown fields too many", "dc0041" + "0601" + strings.Repeat("00", 63), "malformed"},
	{"array16 for 3 fields", "dc0003060100", "malformed"},
	{"TOPIC_GET with a bin as name", "942201c4016100", "malformed"},
	{"TOPIC_GET with 256 bytes of name", "942201da0100" + strings.Repeat("61", 256) + "00", "malformed"},
	{"UNSUBSCRIBE with nil", "931c01c0", "malformed"},
	{"HELLO with 17 versions", "950101dc0011" + strings.Repeat("01", 17) + "a090", "malformed"},
	{"HELLO claims 2^32-1 versions", "950101ddffffffffa090", "malformed"},
	{"CREDIT with a field missing", "941b000101", "malformed"},
	{"PUBLISH with a producer of 15 bytes", "9a1001a1740000c40f" + strings.Repeat("00", 15) + "000001c400", "malformed"},
	{"PUBLISH with a partition over 32 bits", "9a1001a174cf000000010000000000c410" + strings.Repeat("00", 16) + "000001c400", "malformed"},
	{"PUBLISH with records as str", "9a1001a1740000c410" + strings.Repeat("00", 16) + "000001a161", "malformed"},
	{"FORWARD claims 2^32-1 commands", "957201" + "0000" + "ddffffffff", "malformed"},
	{"FORWARD with 4097 commands", "957201" + "0000" + "dc1001" + strings.Repeat("c400", 4097), "malformed"},
	{"FORWARD with a command as str", "957201" + "0000" + "91a161", "malformed"},
	{"FORWARD claims a command of 2^32-1 bytes", "957201" + "0000" + "91c6ffffffff", "malformed"},
	{"FORWARDED with an answer without a result", "937301" + "91" + "94" + "0000a000", "malformed"},
	{"FORWARDED with an outcome over 255", "937301" + "91" + "95" + "cd0100" + "00a000c400", "malformed"},
	{"PUBLISH claims 2^32-1 bytes of records", "9a1001a1740000c410" + strings.Repeat("00", 16) + "000001c6ffffffff", "malformed"},
}

// TestInvalid is P-06 for whole frames: testdata/invalid.json.
func TestInvalid(t *testing.T) {
	golden(t, "testdata/invalid.json", invalids)
	for _, c := range invalids {
		b := raw(t, c.Body)
		_, m, err := protocol.Decode(b)
		_, unknown := errors.AsType[*protocol.UnknownKindError](err)
		if m != nil || unknown != (c.Code == "unsupported") || errors.Is(err, protocol.ErrMalformed) != (c.Code == "malformed") {
			t.Errorf("%s: %T, %v", c.Name, m, err)
		}
		var p protocol.Publish
		if _, err := protocol.DecodePublish(b, &p); !errors.Is(err, protocol.ErrMalformed) {
			t.Errorf("%s as PUBLISH: %v", c.Name, err)
		}
	}
}

// TestErrorsKeepTheID checks that a fault behind the head still tells which request it answers.
func TestErrorsKeepTheID(t *testing.T) {
	if id, _, err := protocol.Decode(raw(t, "930607a161")); id != 7 || err == nil {
		t.Errorf("id %d, %v", id, err)
	}
	_, _, err := protocol.Decode(raw(t, "92 09 08"))
	if e, ok := errors.AsType[*protocol.UnknownKindError](err); !ok || e.Kind != 9 || e.ID != 8 {
		t.Errorf("%v", err)
	}
	if k, id, err := protocol.Peek(raw(t, "92 09 08")); k != 9 || id != 8 || err != nil {
		t.Errorf("peek: %v %d %v", k, id, err)
	}
}

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestLengthBombs is P-02: at every place of every kind, a few bytes that claim much.
func TestLengthBombs(t *testing.T) {
	for _, k := range protocol.Kinds() {
		b := body(sample(k), 7)
		for _, bomb := range []string{"daffff", "dbffffffff", "c5ffff", "c6ffffffff", "dcffff", "ddffffffff", "deffff", "dfffffffff"} {
			got := allocated(func() {
				for at := range b {
					bad := append(slices.Clone(b[:at]), raw(t, bomb)...)
					_, _, _ = protocol.Decode(bad) // inside a blob it is just bytes
					decodeHot(bad)
				}
			})
			if got > 1<<20+uint64(len(b))<<12 { // a refusal costs its words
				t.Errorf("%v: %s at each of %d places: %d bytes allocated", k, bomb, len(b), got)
			}
		}
	}
}

// decodeHot tries the decoders that do not scan first.
func decodeHot(b []byte) {
	_, _ = protocol.DecodePublish(b, new(protocol.Publish))
	_, _ = protocol.DecodePublished(b, new(protocol.Published))
	_, _ = protocol.DecodeDeliver(b, new(protocol.Deliver))
}

// TestNesting is P-03: a field that a later version may add can nest, but not deep.
func TestNesting(t *testing.T) {
	for _, k := range protocol.Kinds() {
		for depth, ok := range map[int]bool{0: true, 7: true, 8: false, 1 << 20: false} {
			b := withField(t, body(sample(k), 7), append(bytes.Repeat([]byte{0x91}, depth), 0xc0))
			if _, _, err := protocol.Decode(b); (err == nil) != ok {
				t.Errorf("%v: depth %d: %v", k, depth, err)
			}
		}
	}
}

// withField is body with one more field.
func withField(t testing.TB, body, field []byte) []byte {
	t.Helper()
	c := codec.NewCursor(body)
	n := c.Array(64)
	if c.Err() != nil {
		t.Fatal(c.Err())
	}
	return append(append(codec.AppendArray(nil, n+1), c.Rest()...), field...)
}

// TestLaterVersions checks the version rule: what a later version adds at the end is ignored, what this version
// needs must be there.
func TestLaterVersions(t *testing.T) {
	for _, k := range protocol.Kinds() {
		want := sample(k)
		b := body(want, 7)
		for _, field := range []string{"c0", "a3616263", "82a161 93010203 a162 ca3f800000", "c403010203"} {
			_, got, err := protocol.Decode(withField(t, b, raw(t, field)))
			if d := cmp.Diff(want, got); err != nil || d != "" {
				t.Errorf("%v with another field: %v %s", k, err, d)
			}
		}
		for _, field := range []string{"a1ff", "cc01", "d40100", "82a16101a16101"} {
			bad := withField(t, b, raw(t, field))
			if _, _, err := protocol.Decode(bad); !errors.Is(err, protocol.ErrMalformed) {
				t.Errorf("%v with a bad other field %s: %v", k, field, err)
			}
		}
		for n := range b { // cut at every byte (P-07)
			if _, _, err := protocol.Decode(b[:n]); err == nil {
				t.Errorf("%v passes when cut at byte %d", k, n)
			}
		}
	}
	hotVersions(t)
}

// hotVersions is the same rule for the decoders without a scan.
func hotVersions(t *testing.T) {
	t.Helper()
	want := sample(protocol.KindPublish).(*protocol.Publish)
	b := body(want, 7)
	var got protocol.Publish
	if _, err := protocol.DecodePublish(withField(t, b, raw(t, "81a16101")), &got); err != nil || !cmp.Equal(*want, got) {
		t.Errorf("PUBLISH with another field: %v", err)
	}
	for _, field := range []string{"a1ff", "cc01", "d40100", "82a16101a16101"} {
		if _, err := protocol.DecodePublish(withField(t, b, raw(t, field)), &got); err == nil {
			t.Errorf("PUBLISH with a bad other field %s", field)
		}
	}
	fewer := slices.Clone(b)
	fewer[0]-- // the head of the array counts one less than there are
	if _, err := protocol.DecodePublish(fewer, &got); !errors.Is(err, codec.ErrCount) {
		t.Errorf("PUBLISH that counts a field too few: %v", err)
	}
	if _, err := protocol.DecodePublish(append(b, 0xc0), &got); err == nil {
		t.Error("PUBLISH and another byte")
	}
	if _, err := protocol.DecodeDeliver(b, new(protocol.Deliver)); err == nil {
		t.Error("PUBLISH read as DELIVER")
	}
}

// TestNestedLaterVersion checks the rule for the arrays inside a message.
func TestNestedLaterVersion(t *testing.T) {
	m := protocol.TopicCreate{Name: "a", Spec: protocol.TopicSpec{Partitions: 3}}
	b := body(&m, 7)
	longer := bytes.Replace(b, raw(t, "94 03 00 00 00"), raw(t, "95 03 00 00 00 a3616263"), 1)
	_, got, err := protocol.Decode(longer)
	if d := cmp.Diff(protocol.Message(&m), got); err != nil || d != "" || bytes.Equal(b, longer) {
		t.Errorf("%v %s", err, d)
	}
	shorter := bytes.Replace(b, raw(t, "94 03 00 00 00"), raw(t, "93 03 00 00"), 1)
	if _, _, err := protocol.Decode(shorter); !errors.Is(err, protocol.ErrMalformed) {
		t.Errorf("a spec without its last field: %v", err)
	}
}

// TestClientSetsNoFacts is P-09: PUBLISH has no field for what the broker alone may say, and what
// a client adds is dropped.
func TestClientSetsNoFacts(t *testing.T) {
	var names []string
	for f := range reflect.TypeFor[protocol.Publish]().Fields() {
		names = append(names, f.Name)
	}
	want := []string{"Topic", "Partition", "Incarnation", "Producer", "Epoch", "Sequence", "Count", "Records"}
	if d := cmp.Diff(want, names); d != "" {
		t.Errorf("PUBLISH has other fields; may a client set them?\n%s", d)
	}
	m := protocol.Publish{Topic: "t", Count: 1, Records: []byte("r")}
	b := withField(t, body(&m, 7), codec.AppendStr(nil, "spiffe://td/client/victim"))
	if _, got, err := protocol.Decode(b); err != nil || !cmp.Equal(protocol.Message(&m), got) {
		t.Errorf("%v, %v", got, err)
	}
}

// TestIdentifiersAreNotCut checks that a name that is too long is refused and never becomes another
// name, and that words for people are cut at a character.
func TestIdentifiersAreNotCut(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, m := range []protocol.Message{&protocol.TopicGet{Name: long}, &protocol.Publish{Topic: long}, &protocol.Subscribe{Patterns: []string{long}}, &protocol.Revoke{Entry: protocol.Revocation{Value: strings.Repeat("x", 3000)}}} {
		if _, _, err := protocol.Decode(body(m, 1)); !errors.Is(err, codec.ErrCount) {
			t.Errorf("%T: %v", m, err)
		}
	}
	for _, text := range []string{strings.Repeat("ü", 3000), "x" + strings.Repeat("ü", 3000), strings.Repeat("a\xff", 3000), strings.Repeat("\U0001F426", 1025)} {
		_, got, err := protocol.Decode(body(&protocol.Error{Text: text}, 1))
		if err != nil {
			t.Fatal(err)
		}
		if n := len(got.(*protocol.Error).Text); n < 4093 || n > 4096 {
			t.Errorf("text of %d bytes", n)
		}
	}
}

// TestLateFields: programs of before do not send the last field of the greetings between nodes.
func TestLateFields(t *testing.T) {
	for _, k := range []protocol.Kind{protocol.KindPeerHello, protocol.KindPeerWelcome} {
		m := sample(k)
		fields := reflect.ValueOf(m).Elem()
		key, fresh := fields.FieldByName("SealKey"), fields.FieldByName("Fresh")
		before, ok := withoutLast(body(m, 7), codec.AppendBin(nil, key.Bytes()))
		key.SetBytes(nil)
		if _, got, err := protocol.Decode(before); !ok || err != nil || !cmp.Equal(m, got) {
			t.Errorf("%v without the field: %v, %+v", k, err, got)
		}
		short, ok := withoutLast(before, codec.AppendStr(nil, fresh.String()))
		if _, _, err := protocol.Decode(short); !ok || !errors.Is(err, codec.ErrCount) {
			t.Errorf("%v without a field that was always there: %v", k, err)
		}
	}
}

// withoutLast takes the last field off a body of at most 15.
func withoutLast(b, last []byte) ([]byte, bool) {
	b, ok := bytes.CutSuffix(slices.Clone(b), last)
	b[0]--
	return b, ok && b[0]&0xf0 == 0x90
}
