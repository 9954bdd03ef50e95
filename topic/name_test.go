package topic_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/topic"
)

// segments joins n copies of seg.
func segments(seg string, n int) string {
	return strings.TrimSuffix(strings.Repeat(seg+".", n), ".")
}

func TestParseName(t *testing.T) {
	for name, s := range map[string]string{
		"one character": "a",
		"every class":   "Az09_-.x",
		"16 segments":   segments("s", 16),
		"255 bytes":     strings.Repeat("x", 255),
	} {
		if n, err := topic.ParseName(s); err != nil || string(n) != s {
			t.Errorf("%s: %q, %v", name, n, err)
		}
		if p, err := topic.ParsePattern(s); err != nil || p.String() != s {
			t.Errorf("%s as pattern: %q, %v", name, p, err)
		}
	}
}

// TestNoPatternCharacters is A-07: nothing that means something to a pattern, a path, another
// broker or a terminal can be part of a name, and wildcards in a pattern stand alone.
func TestNoPatternCharacters(t *testing.T) {
	for c := range 256 {
		for _, s := range []string{string([]byte{byte(c)}), "a" + string([]byte{byte(c)}) + "b", string(rune(c))} {
			legal := strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", rune(c))
			joined := c == '.' && len(s) == 3
			if _, err := topic.ParseName(s); (err == nil) != (legal || joined) {
				t.Errorf("name %q: %v", s, err)
			}
			wild := len(s) == 1 && (c == '*' || c == '>')
			if _, err := topic.ParsePattern(s); (err == nil) != (legal || joined || wild) {
				t.Errorf("pattern %q: %v", s, err)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	both := []string{
		"", ".", "a.", ".a", "a..b", "a/b", "a b", "a#", "#", "+", "a.+", "$SYS.a", "~", "ü", "\u0430", "a\u202eb", "a\x00", "a\n",
		"a*", "*a", "a.*b", ">a", "a>", "a.b>", "**", ">>", "{name}", "%2e", "..", "a.\xff",
		segments("s", 17), strings.Repeat("x", 256), segments(strings.Repeat("x", 50), 6),
	}
	for _, s := range both {
		if _, err := topic.ParsePattern(s); !isSyntax(err, "pattern") {
			t.Errorf("pattern %q: %v", s, err)
		}
	}
	for _, s := range append(both, "*", ">", "a.*", "a.>", ">.a", "a.>.b") {
		if _, err := topic.ParseName(s); !isSyntax(err, "name") {
			t.Errorf("name %q: %v", s, err)
		}
	}
}

// isSyntax reports whether err is the typed error, and short whatever the input was.
func isSyntax(err error, what string) bool {
	e, ok := errors.AsType[*topic.SyntaxError](err)
	return ok && e.What == what && len(e.Error()) < 1500
}

// FuzzName checks that what parses is inside the grammar, is a pattern of itself, and matches itself only.
func FuzzName(f *testing.F) {
	for _, s := range []string{"a", "a.b", "A-z_0", "", ".", "a..b", "*", "a.>", "ü", "a\x00b", segments("s", 17)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := topic.ParseName(s)
		if err != nil {
			return
		}
		p, err := topic.ParsePattern(s)
		if err != nil || !p.Match(n) || string(n) != s {
			t.Fatalf("%q: name %q, pattern %q, %v", s, n, p, err)
		}
		if strings.ContainsAny(s, "*>+#$/{}% \n\x00") || len(s) > topic.MaxBytes || strings.Count(s, ".") >= topic.MaxSegments {
			t.Fatalf("%q passed", s)
		}
		if lit, ok := p.Literal(); !ok || lit != n {
			t.Fatalf("%q: literal %q %v", s, lit, ok)
		}
	})
}
