package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"
)

// table is rows of text with a head. On a terminal it is aligned, in a pipe fields are
// separated by tabs and there is no head.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// show prints value as JSON with -o json, else the table that tabulate makes.
func (a *app) show(value any, tabulate func() *table) error {
	if a.flags.output == "json" {
		return a.json(value)
	}
	t := tabulate()
	if !isTerminal(a.stdout) && a.flags.output != "table" {
		for _, r := range t.rows {
			if _, err := fmt.Fprintln(a.stdout, strings.Join(clean(r), "\t")); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	if len(t.head) > 0 {
		fmt.Fprintln(w, strings.Join(t.head, "\t"))
	}
	for _, r := range t.rows {
		fmt.Fprintln(w, strings.Join(clean(r), "\t"))
	}
	return w.Flush()
}

// clean keeps control characters of foreign text out of the terminal.
func clean(cells []string) []string {
	out := make([]string, len(cells))
	for i, c := range cells {
		out[i] = printable(c)
	}
	return out
}

// printable escapes what is not printable.
func printable(s string) string {
	for _, r := range s {
		if !strconv.IsPrint(r) {
			q := strconv.Quote(s)
			return q[1 : len(q)-1]
		}
	}
	return s
}

// json prints one indented value.
func (a *app) json(value any) error {
	e := json.NewEncoder(a.stdout)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(value)
}

// say prints chatter on the error stream, unless -q.
func (a *app) say(format string, values ...any) {
	if !a.flags.quiet {
		fmt.Fprintf(a.stderr, format+"\n", values...)
	}
}

// isTerminal reports whether a stream is one.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// confirm asks a question whose default is no.
func (a *app) confirm(question string) error {
	switch {
	case a.flags.yes:
		return nil
	case a.flags.noInput || !isTerminal(a.stdin):
		return usage("%s: not confirmed; say -y if you mean it", question)
	}
	fmt.Fprintf(a.stderr, "%s [y/N] ", question)
	answer, err := bufio.NewReader(a.stdin).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer == "y" || answer == "yes" {
		return nil
	}
	return &exitError{exitFailure, errNotConfirmed}
}

// stamp prints a time.
func stamp(t time.Time) string {
	if t.IsZero() || t.UnixMilli() == 0 {
		return "-"
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

// orDash shows that a field is empty.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// orDashInt shows that there is no number.
func orDashInt(n uint64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatUint(n, 10)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
