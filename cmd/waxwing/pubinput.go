package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/waxwing-mq/waxwing/client"
)

// lineBytesMax is the longest line of input: a record of the default limit as base64, and more.
const lineBytesMax = 4 << 20

// item is one record to publish.
type item struct {
	number    int // of the record or line, from 1
	record    client.Record
	partition int // -1 = by key
}

// input yields the records of a pub command.
type input struct {
	read   func() (*item, error)
	source io.Closer
}

// openInput chooses the source: argument, file or standard input, whole or by line.
func (a *app) openInput(o *pubOptions, base client.Record, body []string) (*input, error) {
	in := &input{}
	var r io.Reader = a.stdin
	if o.file != "" && o.file != "-" {
		f, err := os.Open(o.file)
		if err != nil {
			return nil, usage("pub: %w", err)
		}
		r, in.source = f, f
	}
	switch {
	case o.lines:
		in.read = byLine(r, func(n int, line []byte) (*item, error) {
			record := base
			record.Body = line
			return &item{n, record, o.partition}, nil
		})
	case o.jsonl:
		in.read = byLine(r, func(n int, line []byte) (*item, error) { return jsonItem(n, line, base, o.partition) })
	default:
		whole, err := wholeBody(r, body)
		if err != nil {
			return nil, err
		}
		base.Body = whole
		in.read = repeated(base, o.count, o.partition)
	}
	return in, nil
}

// wholeBody is the argument, or all of the input.
func wholeBody(r io.Reader, body []string) ([]byte, error) {
	if len(body) > 0 && body[0] != "-" {
		return []byte(body[0]), nil
	}
	b, err := io.ReadAll(io.LimitReader(r, lineBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	if len(b) > lineBytesMax {
		return nil, usage("pub: the body has more than %d bytes", lineBytesMax)
	}
	return b, nil
}

// repeated yields one record n times.
func repeated(r client.Record, n, partition int) func() (*item, error) {
	i := 0
	return func() (*item, error) {
		if i == n {
			return nil, nil
		}
		i++
		return &item{i, r, partition}, nil
	}
}

// byLine yields an item per line, as lines arrive.
func byLine(r io.Reader, make func(n int, line []byte) (*item, error)) func() (*item, error) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, lineBytesMax)
	n := 0
	return func() (*item, error) {
		if !scanner.Scan() {
			if errors.Is(scanner.Err(), bufio.ErrTooLong) {
				return nil, usage("pub: line %d has more than %d bytes", n+1, lineBytesMax)
			}
			return nil, scanner.Err()
		}
		n++
		return make(n, bytes.Clone(scanner.Bytes()))
	}
}

// jsonRecord is a line of --jsonl. What sub -o jsonl prints can be published again.
type jsonRecord struct {
	Key        *string           `json:"key"`
	KeyBase64  *string           `json:"key_base64"`
	Headers    map[string]string `json:"headers"`
	Body       *string           `json:"body"`
	BodyBase64 *string           `json:"body_base64"`
	TTL        string            `json:"ttl"`
	Partition  *int              `json:"partition"`

	// Printed by sub, and of no meaning here.
	Topic     string `json:"topic"`
	Offset    int64  `json:"offset"`
	Time      string `json:"time"`
	Publisher string `json:"publisher"`
	SPKI      string `json:"publisher_spki"`
	Policy    uint64 `json:"policy_version"`
}

// jsonItem reads one line of --jsonl over what the flags say.
func jsonItem(n int, line []byte, base client.Record, partition int) (*item, error) {
	where := fmt.Sprintf("line %d", n)
	var j jsonRecord
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return nil, usage("pub: %s: %w", where, err)
	}
	r := base
	var err error
	if r.Body, err = textOrBase64(j.Body, j.BodyBase64, nil); err != nil {
		return nil, usage("pub: %s: body: %w", where, err)
	}
	if r.Key, err = textOrBase64(j.Key, j.KeyBase64, base.Key); err != nil {
		return nil, usage("pub: %s: key: %w", where, err)
	}
	for _, name := range slices.Sorted(maps.Keys(j.Headers)) {
		r.Headers = append(slices.Clip(r.Headers), client.Header{Name: name, Value: j.Headers[name]})
	}
	if j.TTL != "" {
		if r.TTL, err = time.ParseDuration(j.TTL); err != nil {
			return nil, usage("pub: %s: ttl: %w", where, err)
		}
	}
	if j.Partition != nil && partition < 0 {
		partition = *j.Partition
	}
	return &item{n, r, partition}, nil
}

func textOrBase64(text, encoded *string, none []byte) ([]byte, error) {
	switch {
	case text != nil && encoded != nil:
		return nil, errors.New("give it as text or as base64, not both")
	case text != nil:
		return []byte(*text), nil
	case encoded != nil:
		return base64.StdEncoding.DecodeString(*encoded)
	}
	return none, nil
}

// parseHeader reads NAME=VALUE.
func parseHeader(text string) (client.Header, error) {
	name, val, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return client.Header{}, usage("-H %q: write NAME=VALUE", text)
	}
	return client.Header{Name: name, Value: val}, nil
}

// next returns the next item, or nil at the end. A read from a terminal or pipe that blocks is left
// behind when ctx ends: the process is about to end, too.
func (in *input) next(ctx context.Context) (*item, error) {
	type result struct {
		item *item
		err  error
	}
	if in.source == nil { // standard input may block
		got := make(chan result, 1)
		go func() {
			i, err := in.read()
			got <- result{i, err}
		}()
		select {
		case r := <-got:
			return r.item, r.err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return in.read()
}

func (in *input) close() {
	if in.source != nil {
		in.source.Close()
	}
}

// pace keeps to --rate; nil keeps to none.
type pace struct{ limiter *rate.Limiter }

func newPace(perSecond float64) *pace {
	if perSecond <= 0 {
		return nil
	}
	return &pace{rate.NewLimiter(rate.Limit(perSecond), 1)}
}

func (p *pace) wait(ctx context.Context) error {
	if p == nil {
		return nil
	}
	return p.limiter.Wait(ctx)
}
