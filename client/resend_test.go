package client_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/protocol"
)

// step is what the broker does with one PUBLISH.
type step func(w *world, c *fakeConn, id uint64, m *protocol.Publish)

// The steps of a script.
func swallow(*world, *fakeConn, uint64, *protocol.Publish)               {}
func swallowAndCut(_ *world, c *fakeConn, _ uint64, _ *protocol.Publish) { c.conn.Close() }

func storeAndCut(w *world, c *fakeConn, _ uint64, m *protocol.Publish) {
	w.broker.appendBatch(w.broker.topics["orders"].parts[0], m)
	c.conn.Close()
}

func answer(code protocol.Code, outcome protocol.Outcome) step {
	return func(_ *world, c *fakeConn, id uint64, _ *protocol.Publish) { c.reject(id, code, outcome) }
}

// play makes the broker follow the script, one step a PUBLISH, then behave.
func (w *world) play(script []step) {
	w.broker.mu.Lock()
	defer w.broker.mu.Unlock()
	w.broker.onFrame = func(c *fakeConn, id uint64, m protocol.Message) bool {
		p, ok := m.(*protocol.Publish)
		if !ok || len(script) == 0 {
			return false
		}
		next := script[0]
		script = script[1:]
		next(w, c, id, p)
		return true
	}
}

// What an answer to a resend proves, and what it does not (decision 0060). Records are
// published one a batch; want says which are stored, in order, and fates how each ends.
func TestResend(t *testing.T) {
	const (
		acked = iota
		duplicate
		unknown
	)
	overloaded := answer(protocol.CodeOverloaded, protocol.OutcomeRejected)
	denied := answer(protocol.CodeDenied, protocol.OutcomeRejected)
	sequence := answer(protocol.CodeSequence, protocol.OutcomeRejected)
	for name, tt := range map[string]struct {
		script []step
		want   []int
		fates  []int
	}{
		"stored, answer lost": {
			script: []step{storeAndCut},
			want:   []int{0}, fates: []int{duplicate},
		},
		"stored, answer lost, resend refused before the log": {
			script: []step{storeAndCut, overloaded, overloaded},
			want:   []int{0}, fates: []int{duplicate},
		},
		"stored, answer lost, resend refused for good": {
			script: []step{storeAndCut, denied},
			want:   []int{0}, fates: []int{unknown},
		},
		"stored, answered unknown, resend refused before the log": {
			script: []step{func(w *world, c *fakeConn, id uint64, m *protocol.Publish) {
				w.broker.appendBatch(w.broker.topics["orders"].parts[0], m)
				c.reject(id, protocol.CodeUnknownOutcome, protocol.OutcomeUnknown)
			}, overloaded},
			want: []int{0}, fates: []int{duplicate},
		},
		"not stored, second behind it waits for its verdict": {
			script: []step{swallow, swallowAndCut, overloaded},
			want:   []int{0, 1}, fates: []int{acked, acked},
		},
		"first rejected, second lost: both numbered anew": {
			script: []step{overloaded, swallowAndCut},
			want:   []int{0, 1}, fates: []int{acked, acked},
		},
		"the broker forgot the producer": {
			script: []step{swallowAndCut, sequence},
			want:   []int{1}, fates: []int{unknown, acked},
		},
		"rejected for its numbers without a reason: numbered anew": {
			script: []step{sequence},
			want:   []int{0, 1}, fates: []int{acked, acked},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.broker.create("orders", 1)
				c := w.dial()
				if err := c.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				w.play(tt.script)
				var futures []*client.Future
				for i := range tt.fates {
					futures = append(futures, c.PublishAsync(t.Context(), "orders", client.Record{Body: body(i)}))
					synctest.Wait()
				}
				for i, f := range futures {
					ack, err := f.Wait(t.Context())
					_, isUnknown := errors.AsType[*client.UnknownOutcomeError](err)
					switch fate := tt.fates[i]; {
					case fate == unknown && !isUnknown, fate != unknown && err != nil, ack.Duplicate != (fate == duplicate):
						t.Errorf("record %d: %+v, %v", i, ack, err)
					}
				}
				got := w.broker.records("orders", 0)
				if len(got) != len(tt.want) {
					t.Fatalf("stored %q, want %v", got, tt.want)
				}
				for i, n := range tt.want {
					if got[i] != string(body(n)) {
						t.Errorf("stored %q, want %v", got, tt.want)
					}
				}
			})
		})
	}
}
