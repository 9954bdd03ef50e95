package identity

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Printable makes a text that a peer chose fit for a log line or an answer: at most `most` bytes of it, and everything
// escaped that does not print. That includes line breaks, terminal codes and characters that turn the direction of
// text or hide.
func Printable(s string, most int) string {
	if len(s) > most {
		for most > 0 && !utf8.RuneStart(s[most]) {
			most--
		}
		s = s[:most] + "..."
	}
	if strings.ContainsFunc(s, hidden) || !utf8.ValidString(s) {
		return strconv.QuoteToASCII(s)
	}
	return s
}

func hidden(r rune) bool { return !strconv.IsPrint(r) }
