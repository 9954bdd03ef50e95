package protocol_test

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/protocol"
)

// row is a field in a table of PROTOCOL.md.
type row struct{ name, kind string }

var (
	heading  = regexp.MustCompile(`^### (?:(\d+) )?(\w+)$`)
	tableRow = regexp.MustCompile(`^\| ([a-z_]+) \| ([^|]+) \|`)
	size     = regexp.MustCompile(`^(str|text|bin) ([≤=]) (\d+)$`)
	listOf   = regexp.MustCompile(`^list ≤ (\d+) of (.+)$`)
)

// document reads the field tables of PROTOCOL.md, by heading ("16 PUBLISH", "TopicSpec").
func document(t *testing.T) map[string][]row {
	t.Helper()
	text, err := os.ReadFile("../PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	tables, at := map[string][]row{}, ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if h := heading.FindStringSubmatch(line); h != nil {
			at = strings.TrimSpace(h[1] + " " + h[2])
			tables[at] = nil
		}
		if r := tableRow.FindStringSubmatch(line); r != nil && r[1] != "field" && r[2] != "name" {
			tables[at] = append(tables[at], row{r[1], strings.TrimSpace(r[2])})
		}
	}
	return tables
}

// TestDocument holds the tables of PROTOCOL.md to the code: every kind, every field, its type and its limit.
func TestDocument(t *testing.T) {
	tables := document(t)
	for _, k := range protocol.Kinds() {
		title := fmt.Sprintf("%d %v", k, k)
		if _, ok := tables[title]; !ok {
			t.Errorf("PROTOCOL.md has no section %q", title)
		}
		d := documented{t, tables, k}
		m := protocol.New(k)
		d.fields(title, reflect.ValueOf(m).Elem(), func() protocol.Message { return m })
	}
}

// documented compares the messages of one kind with the tables.
type documented struct {
	t      *testing.T
	tables map[string][]row
	kind   protocol.Kind
}

// fields compares the fields of v, a part of the message that whole returns.
func (d documented) fields(title string, v reflect.Value, whole func() protocol.Message) {
	rows := d.tables[title]
	if len(rows) != v.NumField() {
		d.t.Errorf("%s: %d fields in the table, %d in %v", title, len(rows), v.NumField(), v.Type())
		return
	}
	for i, r := range rows {
		f := v.Type().Field(i)
		if r.name != wireName(f.Name) {
			d.t.Errorf("%s: field %d is %s in the table, %s in the code", title, i, r.name, f.Name)
		}
		d.value(title+"."+r.name, r.kind, v.Field(i), whole)
	}
}

// value compares the type of one field, and tries its limit.
func (d documented) value(place, kind string, v reflect.Value, whole func() protocol.Message) {
	list := listOf.FindStringSubmatch(kind)
	blob := strings.HasPrefix(kind, "bin")
	ok := false
	switch v.Kind() {
	case reflect.Struct:
		name := v.Type().Name()
		if ok = kind == "array "+name || kind == name; ok {
			d.fields(name, v, whole)
		}
	case reflect.Slice, reflect.Array:
		if ok = blob || list != nil; list != nil {
			d.list(place, list, v, whole)
		}
		if s := size.FindStringSubmatch(kind); s != nil && s[2] == "=" {
			ok = strconv.Itoa(v.Len()) == s[3]
		}
	case reflect.String:
		s := size.FindStringSubmatch(kind)
		if ok = s != nil; ok {
			d.limit(place, s, v, whole)
		}
	case reflect.Int64:
		ok = kind == "i64"
	case reflect.Bool:
		ok = kind == "bool"
	default:
		ok = kind == fmt.Sprintf("u%d", v.Type().Bits())
	}
	if !ok {
		d.t.Errorf("%s is %q in the table, %v in the code", place, kind, v.Type())
	}
}

// limit tries a str or text of the longest length, and of one byte more.
func (d documented) limit(place string, s []string, v reflect.Value, whole func() protocol.Message) {
	most, _ := strconv.Atoi(s[3])
	defer v.SetString("")
	for _, n := range []int{most, most + 1} {
		v.SetString(strings.Repeat("a", n))
		_, _, err := protocol.Decode(body(whole(), 1))
		if want := n == most || s[1] == "text"; (err == nil) != want {
			d.t.Errorf("%s: %d bytes: %v", place, n, err)
		}
	}
}

// list tries the longest list, one more, and the values in it.
func (d documented) list(place string, l []string, v reflect.Value, whole func() protocol.Message) {
	most, _ := strconv.Atoi(l[1])
	defer v.SetZero()
	for _, n := range []int{most, most + 1} {
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		if _, _, err := protocol.Decode(body(whole(), 1)); (err == nil) != (n == most) {
			d.t.Errorf("%s: %d values: %v", place, n, err)
		}
	}
	v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	d.value(place, l[2], v.Index(0), whole)
}

var example = regexp.MustCompile("(?s)```frame (\\w+)\n(.*?)```")

// TestExamples decodes the example frames of PROTOCOL.md.
func TestExamples(t *testing.T) {
	text, err := os.ReadFile("../PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := example.FindAllStringSubmatch(string(text), -1)
	if len(examples) < 5 {
		t.Fatalf("%d examples", len(examples))
	}
	for _, e := range examples {
		bytesOnly := regexp.MustCompile(`#.*|\s`).ReplaceAllString(e[2], "")
		frame := raw(t, bytesOnly)
		id, m, err := protocol.Decode(frame[4:])
		if err != nil || m.Kind().String() != e[1] {
			t.Errorf("%s: %v", e[1], err)
			continue
		}
		if again := m.AppendFrame(nil, id); !bytes.Equal(again, frame) {
			t.Errorf("%s: is %x, comes back as %x", e[1], frame, again)
		}
	}
}

var codeHeading = regexp.MustCompile(`(?m)^## (\d+) (\w+)$`)

// TestErrorsDocument checks that docs/errors.md has a page for every code, and none for another.
func TestErrorsDocument(t *testing.T) {
	text, err := os.ReadFile("../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, h := range codeHeading.FindAllStringSubmatch(string(text), -1) {
		got = append(got, h[1]+" "+h[2])
	}
	for _, c := range protocol.Codes() {
		want = append(want, fmt.Sprintf("%d %v", c, c))
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("docs/errors.md has %v, the code %v", got, want)
	}
}
