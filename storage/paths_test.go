package storage_test

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

// TestReadsAcrossTheLog lays one partition over a sealed, a sealing and the active segment and the tail in memory, and
// reads it from every offset and at every time. Each place is proven to hold its part and no other.
func TestReadsAcrossTheLog(t *testing.T) {
	const p, quarter = 1, 40 // records in each place
	l := open(t, storage.Options{TailBytes: 1})
	m := model{}
	add := func() {
		t.Helper()
		for range quarter / 2 {
			n := len(m[p])
			b := stored(p, l.End(p), 2, int64(n/3*10), 200+n) // three batches share a time
			m[p] = append(m[p], b)
			if err := l.Append([]storage.Batch{b}); err != nil {
				t.Fatal(err)
			}
		}
	}
	write := func() {
		t.Helper()
		if err := l.WriteCut(); err != nil {
			t.Fatal(err)
		}
	}
	add()
	cut(t, l, 1, 100)
	flush(t, l)
	add()
	cut(t, l, 2, 200)
	add()
	write()
	add()

	var places []string
	for _, s := range l.Status() {
		for _, e := range s.Extents {
			places = append(places, fmt.Sprintf("%s %d-%d", s.State, e.Base, e.Next))
		}
	}
	if want := []string{"sealed 0-40", "sealing 40-80", "active 80-120"}; !slices.Equal(places, want) || l.End(p) != 4*quarter {
		t.Fatalf("%q, want %q and the rest in memory; the end is %d", places, want, l.End(p))
	}
	if l.TailBytes() == 0 || l.TailBytes() >= 2*quarter*int64(len(m[p][0].Raw)) {
		t.Fatalf("%d bytes in memory: more than the last quarter", l.TailBytes())
	}
	check := func() {
		t.Helper()
		for from := topic.Offset(0); from <= 4*quarter; from++ {
			for _, most := range []int{1, 3000, 1 << 20} {
				m.checkRead(t, l, p, from, most)
			}
		}
		for at := int64(-5); at < 300; at++ {
			m.checkTime(t, l, p, at)
		}
		var want []byte
		for _, b := range m[p] {
			want = append(want, b.Raw...)
		}
		if got, err := readAll(l, p, 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("from one end to the other: %d bytes, want %d; %v", len(got), len(want), err)
		}
	}
	check()
	flush(t, l) // and once more when what was in between has moved on
	check()
}

// TestOpenSegmentsAreBounded reads more segments than may stay open, in turn and at once: the bytes are right, and no more
// are open than that.
func TestOpenSegmentsAreBounded(t *testing.T) {
	const most, n = 3, 10
	dir := t.TempDir()
	l := open(t, storage.Options{Dir: dir, TailBytes: 1})
	want := segmentsOf(t, l, n, 5, 300, 1)[1]
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, storage.Options{Dir: dir, TailBytes: 1})
	l.KeepOpen(most)
	if err := l.Place(1, 0, n*10); err != nil {
		t.Fatal(err)
	}
	at := func(batch int) {
		out, _, _, err := l.Read(1, topic.Offset(2*batch), 1, nil)
		if err != nil || !bytes.Equal(out, want[batch]) {
			t.Errorf("batch %d: %v", batch, err)
		}
	}
	for round := range 3 {
		for batch := range want {
			at((batch*7 + round) % len(want))
			if got := l.Open(); got > most {
				t.Fatalf("%d segments are open, %d may be", got, most)
			}
		}
	}
	var readers sync.WaitGroup
	for r := range 6 {
		readers.Go(func() {
			for batch := range 4 * len(want) {
				at((batch*(r+3) + r) % len(want))
			}
		})
	}
	readers.Wait()
	at(0)
	at(len(want) - 1)
	if got := l.Open(); got > most+1 || got == 0 { // whoever was inside when others looked is closed at the next look
		t.Errorf("%d segments are open afterwards, %d may be", got, most)
	}
}
