package state_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// anyTopic draws a topic with every field.
func anyTopic(t *rapid.T) *state.Topic {
	max32, max64 := uint32(1<<32-1), uint64(1<<64-1)
	return &state.Topic{
		Name: topic.Name(rapid.StringMatching(`[a-z]{1,20}(\.[a-z]{1,20}){0,3}`).Draw(t, "name")), Incarnation: topic.Incarnation(rapid.Uint64().Draw(t, "incarnation")),
		CreatedMs: rapid.Int64Range(0, 253_402_300_799_999).Draw(t, "created"), CreatedBy: rapid.StringN(-1, -1, 2048).Draw(t, "by"),
		Spec: state.Spec{Partitions: rapid.Uint32Range(0, max32).Draw(t, "partitions"), MaxAgeMs: rapid.Uint64Range(0, max64).Draw(t, "age"),
			MaxBytes: rapid.Uint64().Draw(t, "bytes"), MaxRecords: rapid.Uint64().Draw(t, "records")},
		Partitions: rapid.SliceOfN(rapid.Map(rapid.Uint64(), func(v uint64) topic.PartitionID { return topic.PartitionID(v) }), 1, 50).Draw(t, "ids"),
	}
}

// TestResult: a result comes back as it was, every field of it.
func TestResult(t *testing.T) {
	if n := reflect.TypeFor[state.Result]().NumField(); n != 8 {
		t.Fatalf("a result has %d fields; does the encoding have them all?", n)
	}
	if n := reflect.TypeFor[state.Topic]().NumField(); n != 6 {
		t.Fatalf("a topic has %d fields; does the encoding have them all?", n)
	}
	rapid.Check(t, func(t *rapid.T) {
		want := state.Result{
			Status: state.Status(rapid.Uint8().Draw(t, "status")), Created: rapid.Bool().Draw(t, "created"), Offset: topic.Offset(rapid.Int64().Draw(t, "offset")),
			TimeMs: rapid.Int64().Draw(t, "time"), Incarnation: topic.Incarnation(rapid.Uint64().Draw(t, "incarnation")), Version: rapid.Uint64().Draw(t, "version"),
			Text: rapid.StringN(-1, -1, 4096).Draw(t, "text"),
		}
		if rapid.Bool().Draw(t, "with a topic") {
			want.Topic = anyTopic(t)
		}
		b := state.AppendResult([]byte("x"), &want)
		got, err := state.DecodeResult(b[1:])
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Fatalf("%v %s", err, d)
		}
		if _, err := state.DecodeResult(append(b, 0)[1:]); !errors.Is(err, state.ErrMalformed) {
			t.Fatalf("a byte more: %v", err)
		}
		for n := range b[1:] {
			if _, err := state.DecodeResult(b[1 : 1+n]); !errors.Is(err, state.ErrMalformed) {
				t.Fatalf("cut at byte %d: %v", n, err)
			}
		}
	})
}

// TestResultBounds: the largest result fits, and its words are cut at a character.
func TestResultBounds(t *testing.T) {
	large := state.Topic{Name: topic.Name(strings.Repeat("n", topic.MaxBytes)), Incarnation: 1<<64 - 1, CreatedMs: 253_402_300_799_999, CreatedBy: strings.Repeat("p", 2048),
		Spec: state.Spec{Partitions: 4096, MaxAgeMs: 1<<64 - 1, MaxBytes: 1<<64 - 1, MaxRecords: 1<<64 - 1}}
	for range 4096 {
		large.Partitions = append(large.Partitions, 1<<64-1)
	}
	b := state.AppendResult(nil, &state.Result{Status: 255, Offset: -1 << 62, TimeMs: -1 << 62, Incarnation: 1<<64 - 1, Version: 1<<64 - 1, Text: "x" + strings.Repeat("ü", 3000) + "\xff", Topic: &large})
	if len(b) > state.ResultBytesMax {
		t.Errorf("%d bytes, the limit is %d", len(b), state.ResultBytesMax)
	}
	r, err := state.DecodeResult(b)
	if err != nil || len(r.Text) != 4095 || !utf8.ValidString(r.Text) || len(r.Topic.Partitions) != 4096 {
		t.Errorf("%v, text of %d bytes", err, len(r.Text))
	}
	large.Partitions = append(large.Partitions, 1)
	if _, err := state.DecodeResult(state.AppendResult(nil, &state.Result{Topic: &large})); !errors.Is(err, state.ErrMalformed) {
		t.Errorf("a topic of 4,097 partitions: %v", err)
	}
	for name, b := range map[string][]byte{"a later version": {2, 0x98}, "version 0": {0, 0x98}, "nothing": nil} {
		if _, err := state.DecodeResult(b); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := state.DecodeResult([]byte{2}); !errors.Is(err, state.ErrVersion) {
		t.Errorf("a later version: %v", err)
	}
}

// FuzzResult (P-04): any bytes are refused, or read and written again the same.
func FuzzResult(f *testing.F) {
	seeds := [][]byte{state.AppendResult(nil, &state.Result{Offset: 7, TimeMs: 8}), state.AppendResult(nil, &state.Result{Status: state.StatusLimit, Text: "full"}),
		state.AppendResult(nil, &state.Result{Created: true, Topic: &state.Topic{Name: "a.b", Partitions: []topic.PartitionID{1, 300}}}), {1, 0x98}, nil}
	if len(seeds) != 5 {
		f.Fatalf("%d seeds", len(seeds))
	}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := state.DecodeResult(b)
		if err != nil {
			return
		}
		if again := state.AppendResult(nil, &r); !bytes.Equal(again, b) {
			t.Errorf("%x comes back as %x", b, again)
		}
	})
}
