package main

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/waxwing-mq/waxwing/client"
)

// printer shows messages.
type printer struct {
	out     *bufio.Writer
	live    bool // a person watches: show each at once
	form    string
	headers bool
	color   bool
	json    *json.Encoder
}

func (a *app) newPrinter(headers bool) *printer {
	out := bufio.NewWriterSize(a.stdout, 64<<10)
	p := &printer{out: out, live: true, form: a.flags.output, headers: headers, json: json.NewEncoder(out)}
	p.json.SetEscapeHTML(false)
	p.color = a.flags.color == "always" || a.flags.color == "auto" && isTerminal(a.stdout) && a.env("NO_COLOR") == ""
	return p
}

// print shows one message. Whoever reads the other end of a pipe gets it at once.
func (p *printer) print(m *client.Message) error {
	var err error
	switch p.form {
	case "raw":
		_, err = p.out.Write(append(m.Body, '\n'))
	case "json", "jsonl":
		err = p.json.Encode(messageJSON(m))
	default:
		err = p.pretty(m)
	}
	if err == nil && p.live {
		err = p.out.Flush()
	}
	return err
}

func (p *printer) flush() { _ = p.out.Flush() }

// pretty shows a message for a person: one line of facts, then the body. Control characters
// are escaped, so that a record cannot drive the terminal.
func (p *printer) pretty(m *client.Message) error {
	dim, plain := "", ""
	if p.color {
		dim, plain = "\x1b[2m", "\x1b[0m"
	}
	fmt.Fprintf(p.out, "%s%s/%d@%d %s", dim, m.Topic, m.Partition, m.Offset, stamp(m.Time))
	if m.Key != nil {
		fmt.Fprintf(p.out, " key=%s", printable(string(m.Key)))
	}
	fmt.Fprintf(p.out, " from %s%s\n", printable(m.Publisher), plain)
	if p.headers {
		for _, h := range m.Headers {
			fmt.Fprintf(p.out, "%s%s: %s%s\n", dim, printable(h.Name), printable(h.Value), plain)
		}
	}
	_, err := io.WriteString(p.out, printable(strings.TrimSuffix(string(m.Body), "\n"))+"\n")
	return err
}

// recordJSON is a line of -o jsonl; pub --jsonl takes it back.
type recordJSON struct {
	Topic      string            `json:"topic"`
	Partition  uint32            `json:"partition"`
	Offset     int64             `json:"offset"`
	Time       string            `json:"time"`
	Key        *string           `json:"key,omitempty"`
	KeyBase64  *string           `json:"key_base64,omitempty"`
	Headers    map[string]string `json:"headers,omitempty"`
	Body       *string           `json:"body,omitempty"`
	BodyBase64 *string           `json:"body_base64,omitempty"`
	Publisher  string            `json:"publisher"`
	SPKI       string            `json:"publisher_spki"`
	Policy     uint64            `json:"policy_version"`
}

func messageJSON(m *client.Message) *recordJSON {
	j := &recordJSON{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Time: stamp(m.Time), Publisher: m.Publisher, SPKI: hex.EncodeToString(m.PublisherSPKI[:]), Policy: m.PolicyVersion}
	j.Body, j.BodyBase64 = textOrEncoded(m.Body)
	if m.Key != nil {
		j.Key, j.KeyBase64 = textOrEncoded(m.Key)
	}
	if len(m.Headers) > 0 {
		j.Headers = map[string]string{}
		for _, h := range m.Headers {
			j.Headers[h.Name] = h.Value
		}
	}
	return j
}

// textOrEncoded gives bytes as text if they are UTF-8, else as base64.
func textOrEncoded(b []byte) (text, encoded *string) {
	if utf8.Valid(b) {
		s := string(b)
		return &s, nil
	}
	s := base64.StdEncoding.EncodeToString(b)
	return nil, &s
}
