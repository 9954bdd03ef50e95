package collect

import (
	"fmt"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/client"
)

func message(offset int64, number int) *client.Message {
	return &client.Message{Topic: "orders", Offset: offset, Publisher: "spiffe://td/client/orders", Body: fmt.Appendf(nil, `{"order":%d,"items":2,"cents":100}`, number)}
}

// Every way in which what is read can be wrong is an error that names the place.
func TestLedger(t *testing.T) {
	forged := message(1, 1)
	forged.Publisher = "spiffe://td/client/intruder"
	other := message(0, 1)
	other.Partition = 1
	for name, tt := range map[string]struct {
		messages []*client.Message
		want     string
	}{
		"in order":          {messages: []*client.Message{message(0, 0), message(1, 1), message(2, 2)}},
		"two partitions":    {messages: []*client.Message{message(0, 0), other, message(1, 2)}},
		"starts later":      {messages: []*client.Message{message(7, 0), message(8, 1)}},
		"offset is missing": {messages: []*client.Message{message(0, 0), message(2, 1)}, want: "offset 2"},
		"out of order":      {messages: []*client.Message{message(0, 1), message(1, 0)}, want: "behind order 1"},
		"twice":             {messages: []*client.Message{message(0, 0), message(1, 0)}, want: "behind order 0"},
		"order is missing":  {messages: []*client.Message{message(0, 0), message(1, 2)}, want: "order 1 is missing"},
		"other publisher":   {messages: []*client.Message{message(0, 0), forged}, want: "intruder"},
		"not an order":      {messages: []*client.Message{{Body: []byte("x")}}, want: "not an order"},
	} {
		err := readAll(tt.messages)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func readAll(ms []*client.Message) error {
	l := newLedger("")
	for _, m := range ms {
		if err := l.add(m); err != nil {
			return err
		}
	}
	return l.close(Config{}, &Report{})
}

func TestLedgerChecksum(t *testing.T) {
	l := newLedger("spiffe://td/client/orders")
	if err := l.add(message(0, 0)); err != nil {
		t.Fatal(err)
	}
	var report Report
	if err := l.close(Config{}, &report); err != nil || report.TotalCents != 200 || len(report.Checksum) != 64 {
		t.Errorf("report %+v, %v", report, err)
	}
	if err := l.close(Config{Checksum: report.Checksum}, &report); err != nil {
		t.Error(err)
	}
	if err := l.close(Config{Checksum: strings.Repeat("0", 64)}, &report); err == nil {
		t.Error("a wrong checksum was accepted")
	}
}
