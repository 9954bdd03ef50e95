package batch_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/protocol/codec"
	"github.com/waxwing-mq/waxwing/topic"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func raw(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wireRecord and wireBatch are the vectors in words; bytes are hex.
type wireRecord struct {
	Name    string         `json:"name"`
	Key     *string        `json:"key"`
	Headers []batch.Header `json:"headers"` // in this order
	Body    string         `json:"body"`
	TTLMs   int64          `json:"ttl_ms"` // 0 = none
	Bytes   string         `json:"bytes"`
}

type wireBatch struct {
	Name          string      `json:"name"`
	Flags         batch.Flags `json:"flags"`
	Partition     uint64      `json:"partition_id"`
	Base          int64       `json:"base_offset"`
	Count         uint32      `json:"count"`
	TimeMs        int64       `json:"time_ms"`
	MinTTLMs      uint64      `json:"min_ttl_ms"`
	Publisher     string      `json:"publisher"`
	SPKI          string      `json:"spki"`
	PolicyVersion uint64      `json:"policy_version"`
	Producer      string      `json:"producer"`
	Epoch         uint64      `json:"epoch"`
	Sequence      uint64      `json:"sequence"`
	Origin        *wireOrigin `json:"origin"`
	Records       string      `json:"records"`
	Bytes         string      `json:"bytes"`
}

type wireOrigin struct {
	Topic     string `json:"topic"`
	Partition uint32 `json:"partition"`
	Offset    int64  `json:"offset"`
	TimeMs    int64  `json:"time_ms"`
	Publisher string `json:"publisher"`
	SPKI      string `json:"spki"`
	Reason    string `json:"reason"`
	Count     uint64 `json:"count"`
}

var records = []struct {
	name string
	r    batch.Record
}{
	{"empty", batch.Record{}},
	{"body", batch.Record{Body: []byte("hello")}},
	{"empty key", batch.Record{Key: []byte{}, Body: []byte{0, 255}}},
	{"key", batch.Record{Key: []byte("order-17"), Body: []byte(`{"total":12}`)}},
	{"headers", batch.Record{Headers: []batch.Header{{"trace", "abc"}, {"größe", ""}}, Body: []byte("x")}},
	{"time to live", batch.Record{Body: []byte("x"), TTL: time.Minute}},
	{"everything", batch.Record{Key: []byte("k"), Headers: []batch.Header{{"a", "1"}}, Body: bytes.Repeat([]byte("b"), 256), TTL: time.Millisecond}},
}

// golden compares v with a file of testdata, or writes it.
func golden(t *testing.T, file string, v any) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("the format changed (-update rewrites %s):\n%s", file, d)
	}
}

// TestRecordVectors holds the bytes of records: testdata/records.json.
func TestRecordVectors(t *testing.T) {
	var all []wireRecord
	for _, c := range records {
		v := wireRecord{Name: c.name, Headers: c.r.Headers, Body: hex.EncodeToString(c.r.Body), TTLMs: c.r.TTL.Milliseconds(), Bytes: hex.EncodeToString(blobOf(c.r))}
		if c.r.Key != nil {
			key := hex.EncodeToString(c.r.Key)
			v.Key = &key
		}
		all = append(all, v)
	}
	golden(t, "testdata/records.json", all)
}

// metas are headers of stored batches: a plain one, and one with every field.
func metas() map[string]batch.Meta {
	m := batch.Meta{Partition: 7, Base: 1000, Count: uint32(len(records)), TimeMs: 1_789_000_000_123, Publisher: "spiffe://example.org/client/orders", PolicyVersion: 4, Flags: batch.HasKeys | batch.HasTTL, MinTTLMs: 1}
	for i := range m.SPKI {
		m.SPKI[i] = byte(i)
	}
	for i := range m.Producer {
		m.Producer[i] = byte(0xa0 + i)
	}
	full := m
	full.Epoch, full.Sequence = 2, 1<<33
	full.Origin = &batch.Origin{Topic: "orders.eu", Partition: 3, Offset: 99, TimeMs: 1_788_000_000_000, Publisher: "spiffe://example.org/client/shop", SPKI: m.SPKI, Reason: "max_deliveries", Count: 5}
	return map[string]batch.Meta{"plain": m, "with origin": full}
}

// TestBatchVectors holds the bytes of stored batches: testdata/batches.json.
func TestBatchVectors(t *testing.T) {
	var blob []byte
	for _, c := range records {
		blob = append(blob, blobOf(c.r)...)
	}
	var all []wireBatch
	for _, name := range []string{"plain", "with origin"} {
		m := metas()[name]
		stored := batch.Append(nil, &m, blob)
		var b batch.Batch
		if rest, err := batch.Parse(stored, &b); err != nil || len(rest) != 0 || !cmp.Equal(m, b.Meta) || m.End() != 1000+topic.Offset(m.Count) || m.Time().UnixMilli() != m.TimeMs {
			t.Fatalf("%s: %v %+v", name, err, b.Meta)
		}
		if n := len(stored) - len(blob); n > batch.Overhead(&m) {
			t.Errorf("%s: %d bytes of header, Overhead says %d", name, n, batch.Overhead(&m))
		}
		all = append(all, inWords(name, &b))
	}
	golden(t, "testdata/batches.json", all)
}

func inWords(name string, b *batch.Batch) wireBatch {
	v := wireBatch{
		Name: name, Flags: b.Flags, Partition: uint64(b.Partition), Base: int64(b.Base), Count: b.Count, TimeMs: b.TimeMs, MinTTLMs: b.MinTTLMs,
		Publisher: b.Publisher, SPKI: hex.EncodeToString(b.SPKI[:]), PolicyVersion: b.PolicyVersion, Producer: hex.EncodeToString(b.Producer[:]),
		Epoch: b.Epoch, Sequence: b.Sequence, Records: hex.EncodeToString(b.Records), Bytes: hex.EncodeToString(b.Raw),
	}
	if o := b.Origin; o != nil {
		v.Origin = &wireOrigin{o.Topic, o.Partition, int64(o.Offset), o.TimeMs, o.Publisher, hex.EncodeToString(o.SPKI[:]), o.Reason, o.Count}
	}
	return v
}

// refused are blobs that no broker takes.
var refused = []struct {
	name, blob string
	want       error
}{
	{"nothing", "", codec.ErrShort},
	{"nil", "c0", codec.ErrType},
	{"3 fields", "93c0c0c400", codec.ErrCount},
	{"5 fields: a client sets a fact", "95c0c0c400c0a161", codec.ErrCount},
	{"key is a str", "94a161c0c400c0", codec.ErrType},
	{"no body", "94c0c0c0c0", codec.ErrType},
	{"body is a str", "94c0c0a161c0", codec.ErrType},
	{"empty headers", "94c080c400c0", codec.ErrCount},
	{"headers are an array", "94c09161c400c0", codec.ErrType},
	{"header name is a bin", "94c081c40161a161c400c0", codec.ErrType},
	{"header value is an integer", "94c081a16101c400c0", codec.ErrType},
	{"header value is nil", "94c081a161c0c400c0", codec.ErrType},
	{"header name twice", "94c082a161a162a161a163c400c0", codec.ErrDuplicate},
	{"header is no UTF-8", "94c081a161a1ffc400c0", codec.ErrUTF8},
	{"time to live of 0", "94c0c0c40000", codec.ErrRange},
	{"negative time to live", "94c0c0c400ff", codec.ErrRange},
	{"time to live of 2^64-1", "94c0c0c400cfffffffffffffffff", codec.ErrRange},
	{"time to live is a float", "94c0c0c400ca3f800000", codec.ErrType},
	{"non-minimal body", "94c0c0c5000161c0", codec.ErrMinimal},
	{"lying long body", "94c0c0c6000fffff61", codec.ErrShort},
	{"bin16 for 255 bytes", "94c0c0c500ff6100", codec.ErrMinimal},
	{"body behind the end", "94c0c0c4ff61", codec.ErrShort},
	{"map32 of headers", "94c0dfffffffffc400c0", codec.ErrCount},
	{"half a second record", "94c0c0c40161c0" + "94c0c0", codec.ErrCount},
	{"zero bytes behind", "94c0c0c40161c0" + "00", codec.ErrType},
	{"extension", "94c0c0d40100c0", codec.ErrExt},
}

// TestRefused is P-06 and P-09 for records: testdata/refused.json.
func TestRefused(t *testing.T) {
	type vector struct {
		Name string `json:"name"`
		Blob string `json:"blob"`
	}
	var all []vector
	for _, c := range refused {
		_, err := batch.Scan(raw(t, c.blob), batch.DefaultLimits())
		_, typed := errors.AsType[*batch.FormatError](err)
		if !typed || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		all = append(all, vector{c.name, c.blob})
	}
	golden(t, "testdata/refused.json", all)
}

// TestStoredBatchIsNoRecord is P-09: a client cannot pass off a batch with a header of its own.
func TestStoredBatchIsNoRecord(t *testing.T) {
	m := metas()["plain"]
	stored := batch.Append(nil, &m, blobOf(batch.Record{}))
	for name, blob := range map[string][]byte{"a stored batch": stored, "its header array": stored[9:]} {
		if _, err := batch.Scan(blob, batch.DefaultLimits()); err == nil {
			t.Errorf("%s passes as records", name)
		}
	}
}
