package main

import (
	"io"
	"log/slog"
	"reflect"

	"github.com/lmittmann/tint"

	"github.com/waxwing-mq/waxwing/identity"
)

// newLogger writes JSON, or text for people on a terminal.
func newLogger(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	if format == "text" || format == "auto" && isTerminal(w) {
		return slog.New(tint.NewTextHandler(w, &tint.Options{Level: level, NoColor: !isTerminal(w), ReplaceAttr: plainAttr}))
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: plainAttr}))
}

// attrBytesMax bounds one value of a log line.
const attrBytesMax = 8 << 10

// plainAttr keeps what does not print out of every value: the handlers escape line breaks, but JSON lets characters through
// that turn the direction of text, and the one for terminals lets escape codes through. Many values come from peers.
func plainAttr(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value; v.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(identity.Printable(v.String(), attrBytesMax))
	case slog.KindAny:
		switch x := v.Any().(type) {
		case error:
			a.Value = slog.StringValue(identity.Printable(x.Error(), attrBytesMax))
		case nil, *slog.Source:
		default:
			if r := reflect.ValueOf(x); r.Kind() == reflect.String {
				a.Value = slog.StringValue(identity.Printable(r.String(), attrBytesMax))
			}
		}
	}
	return a
}
