package batch_test

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/protocol/codec"
)

func small() batch.Limits {
	return batch.Limits{RecordBytes: 100, KeyBytes: 8, HeaderBytes: 20, HeaderCount: 3, Records: 4, Bytes: 300}
}

func headers(n, bytesEach int) (hs []batch.Header) {
	for i := range n {
		hs = append(hs, batch.Header{Name: strconv.Itoa(i), Value: strings.Repeat("v", bytesEach-1)})
	}
	return hs
}

// TestLimits is P-09 for sizes and counts: each limit holds to the byte, for the broker (Scan) and for the client
// (Check), with an error that names it.
func TestLimits(t *testing.T) {
	body := func(n int) batch.Record { return batch.Record{Body: make([]byte, n)} }
	for _, c := range []struct {
		name, what string
		rs         []batch.Record
	}{
		{"key of 8", "", []batch.Record{{Key: make([]byte, 8)}}},
		{"key of 9", "key bytes", []batch.Record{{Key: make([]byte, 9)}}},
		{"3 headers", "", []batch.Record{{Headers: headers(3, 2)}}},
		{"4 headers", "headers", []batch.Record{{Headers: headers(4, 2)}}},
		{"20 header bytes", "", []batch.Record{{Headers: headers(2, 10)}}},
		{"22 header bytes", "header bytes", []batch.Record{{Headers: headers(2, 11)}}},
		{"record of 100", "", []batch.Record{body(94)}}, // array, nil, nil, bin8 head of 2, body, nil
		{"record of 101", "record bytes", []batch.Record{body(95)}},
		{"4 records", "", []batch.Record{body(1), body(1), body(1), body(1)}},
		{"5 records", "batch records", []batch.Record{body(1), body(1), body(1), body(1), body(1)}},
		{"300 bytes", "", []batch.Record{body(94), body(94), body(94)}},
		{"306 bytes", "batch bytes", []batch.Record{body(94), body(94), body(94), {}}},
	} {
		_, err := batch.Scan(blobOf(c.rs...), small())
		checkLimit(t, c.name+", scan", err, c.what)
		if len(c.rs) > 1 {
			continue
		}
		lim := small()
		checkLimit(t, c.name+", check", batch.Check(&c.rs[0], &lim), c.what)
	}
}

func checkLimit(t *testing.T, name string, err error, what string) {
	t.Helper()
	if what == "" {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return
	}
	e, ok := errors.AsType[*batch.LimitError](err)
	if !ok || e.What != what || e.Got <= e.Max || !strings.Contains(e.Error(), what) {
		t.Errorf("%s: %v, want the limit of %s", name, err, what)
	}
}

// TestCheckFaults is what a client refuses before it sends.
func TestCheckFaults(t *testing.T) {
	lim := batch.DefaultLimits()
	for _, c := range []struct {
		r    batch.Record
		want error
	}{
		{batch.Record{Headers: []batch.Header{{"a", "\xff"}}}, codec.ErrUTF8},
		{batch.Record{Headers: []batch.Header{{"\xff", ""}}}, codec.ErrUTF8},
		{batch.Record{Headers: []batch.Header{{"a", "1"}, {"b", "1"}, {"a", "2"}}}, codec.ErrDuplicate},
	} {
		if err := batch.Check(&c.r, &lim); !errors.Is(err, c.want) {
			t.Errorf("%v: %v", c.r.Headers, err)
		}
		if _, err := batch.Scan(blobOf(c.r), lim); !errors.Is(err, c.want) {
			t.Errorf("scan of %v: %v", c.r.Headers, err)
		}
	}
}

// TestLargestRecord checks that the default limits take one record of a whole batch, and no byte more.
func TestLargestRecord(t *testing.T) {
	lim := batch.DefaultLimits()
	for extra, ok := range map[int]bool{0: true, 1: false} {
		r := batch.Record{Body: make([]byte, 1<<20-9+extra)} // array, nil, nil, bin32 head of 5, body, nil
		_, err := batch.Scan(blobOf(r), lim)
		if (err == nil) != ok || (batch.Check(&r, &lim) == nil) != ok {
			t.Errorf("record of %d: %v", len(blobOf(r)), err)
		}
	}
}

// TestRecordLen checks that the bound is one, and near.
func TestRecordLen(t *testing.T) {
	for _, r := range []batch.Record{{}, {Key: []byte{}}, {Key: []byte("k"), Body: make([]byte, 256)}, {Headers: headers(20, 300), Body: make([]byte, 70000), TTL: time.Hour}} {
		if got, want := batch.RecordLen(&r), len(blobOf(r)); got < want || got > want+32+10*len(r.Headers) {
			t.Errorf("%d for a record of %d", got, want)
		}
	}
}

// TestTimeToLive checks how a time to live is rounded, and that Scan takes none that a reader cannot hold.
func TestTimeToLive(t *testing.T) {
	const longest = 9223372036854 * time.Millisecond
	for d, want := range map[time.Duration]time.Duration{0: 0, -1: 0, 1: time.Millisecond, time.Millisecond: time.Millisecond, 1500 * time.Microsecond: 2 * time.Millisecond, longest: longest, 1<<63 - 1: longest} {
		c := batch.Records(blobOf(batch.Record{TTL: d}))
		var r batch.Record
		if !c.Next(&r) || r.TTL != want {
			t.Errorf("%v becomes %v, want %v: %v", d, r.TTL, want, c.Err())
		}
	}
	for _, text := range []string{"94c0c0c400cf000008637bd05af7", "94c0c0c400cfffffffffffffffff", "94c0c0c40000"} {
		if _, err := batch.Scan(raw(t, text), batch.DefaultLimits()); !errors.Is(err, codec.ErrRange) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestKeyIsAKey checks that an empty key stays one.
func TestKeyIsAKey(t *testing.T) {
	var r batch.Record
	c := batch.Records(blobOf(batch.Record{Key: []byte{}}, batch.Record{}))
	if c.Next(&r); r.Key == nil {
		t.Error("an empty key became none")
	}
	if c.Next(&r); r.Key != nil {
		t.Error("no key became an empty one")
	}
}

// TestReusedRecord checks that nothing of a record stays in the next.
func TestReusedRecord(t *testing.T) {
	blob := blobOf(batch.Record{Key: []byte("k"), Headers: []batch.Header{{"a", "1"}, {"b", "2"}}, Body: []byte("x"), TTL: time.Second}, batch.Record{}, batch.Record{Headers: []batch.Header{{"c", "3"}}})
	c := batch.Records(blob)
	var r batch.Record
	c.Next(&r)
	if c.Next(&r); r.Key != nil || len(r.Headers) != 0 || len(r.Body) != 0 || r.TTL != 0 {
		t.Errorf("%+v", r)
	}
	if c.Next(&r); len(r.Headers) != 1 || r.Headers[0] != (batch.Header{Name: "c", Value: "3"}) {
		t.Errorf("%+v", r)
	}
	if !bytes.Equal(r.Body, nil) {
		t.Errorf("%+v", r)
	}
}
