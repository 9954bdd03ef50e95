package protocol_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waxwing-mq/waxwing/protocol"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// vector is one golden frame: a message in words, and its bytes.
type vector struct {
	Name   string  `json:"name"`
	Kind   uint8   `json:"kind"`
	ID     uint64  `json:"id"`
	Fields []field `json:"fields"` // in the order of the wire, behind kind and id
	Frame  string  `json:"frame"`  // hex, with the length
}

// field is a value in words: uint and int as numbers (up to 64 bits), bin as hex, list and
// array as lists of fields. Values in a list have no name.
type field struct {
	Name  string `json:"name,omitempty"`
	Type  string `json:"type"`
	Value any    `json:"value"`
}

var capital = regexp.MustCompile(`([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])`)

// wireName turns PolicyVer into policy_ver.
func wireName(s string) string {
	return strings.ToLower(capital.ReplaceAllString(s, "${1}${3}_${2}${4}"))
}

// describe puts a value in words.
func describe(name string, v reflect.Value) field {
	switch v.Kind() {
	case reflect.Struct:
		return field{name, "array", describeFields(v)}
	case reflect.String:
		return field{name, "str", v.String()}
	case reflect.Bool:
		return field{name, "bool", v.Bool()}
	case reflect.Int64:
		return field{name, "int", v.Int()}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			b := make([]byte, v.Len())
			reflect.Copy(reflect.ValueOf(b), v)
			return field{name, "bin", hex.EncodeToString(b)}
		}
		list := []field{}
		for i := range v.Len() {
			list = append(list, describe("", v.Index(i)))
		}
		return field{name, "list", list}
	}
	return field{name, "uint", v.Uint()}
}

func describeFields(v reflect.Value) []field {
	fs := []field{}
	for i := range v.NumField() {
		fs = append(fs, describe(wireName(v.Type().Field(i).Name), v.Field(i)))
	}
	return fs
}

// golden compares v with a file of testdata, or writes it.
func golden(t *testing.T, file string, v any) {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("the wire changed (-update rewrites %s):\n%s", file, d)
	}
}

// TestVectors holds the bytes of every kind: testdata/frames.json. A change here is a change of the protocol.
func TestVectors(t *testing.T) {
	var all []vector
	for _, f := range fills() {
		for _, k := range protocol.Kinds() {
			m := f.message(k)
			id := uint64(1000) + uint64(k)
			if k == protocol.KindDeliver || k == protocol.KindEvent || k == protocol.KindCredit {
				id = 0
			}
			frame := m.AppendFrame(nil, id)
			gotID, got, err := protocol.Decode(frame[4:])
			if err != nil || gotID != id {
				t.Fatalf("%s %v: id %d, %v", f.name, k, gotID, err)
			}
			if d := cmp.Diff(m, got); d != "" {
				t.Errorf("%s %v: %s", f.name, k, d)
			}
			all = append(all, vector{k.String() + " " + f.name, uint8(k), id, describeFields(reflect.ValueOf(m).Elem()), hex.EncodeToString(frame)})
		}
	}
	golden(t, "testdata/frames.json", all)
}

// TestNames holds the numbers and names of kinds and codes.
func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range protocol.Kinds() {
		if seen[k.String()] || protocol.New(k).Kind() != k {
			t.Errorf("%v: name or kind is there twice", k)
		}
		seen[k.String()] = true
	}
	for _, c := range protocol.Codes() {
		if got, err := protocol.ParseCode(c.String()); err != nil || got != c {
			t.Errorf("%v: %v, %v", c, got, err)
		}
	}
	if _, err := protocol.ParseCode("nonsense"); err == nil {
		t.Error("a code named nonsense")
	}
	if protocol.Kind(200).String() != "KIND_200" || protocol.Code(900).String() != "code_900" || protocol.Outcome(9).String() != "outcome_9" || protocol.OutcomeUnknown.String() != "unknown" {
		t.Error("unknown values have no text")
	}
	if protocol.New(200) != nil || protocol.New(0) != nil {
		t.Error("a message of an unknown kind")
	}
}
