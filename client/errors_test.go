package client_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/protocol"
)

// Every code becomes a typed error whose text has the broker's words and the code,
// and the codes that programs branch on match their sentinel.
func TestErrorOfEveryCode(t *testing.T) {
	sentinels := map[protocol.Code]error{
		protocol.CodeDenied: client.ErrDenied, protocol.CodeNotFound: client.ErrNotFound, protocol.CodeExists: client.ErrExists,
		protocol.CodeRecreated: client.ErrRecreated, protocol.CodeConflict: client.ErrConflict, protocol.CodeTooLarge: client.ErrTooLarge,
		protocol.CodeLimit: client.ErrLimit, protocol.CodeOverloaded: client.ErrOverloaded, protocol.CodeFull: client.ErrFull,
		protocol.CodeNoQuorum: client.ErrNoQuorum, protocol.CodeNotLeader: client.ErrNoQuorum, protocol.CodePolicyInvalid: client.ErrPolicy,
		protocol.CodeLockout: client.ErrLockout, protocol.CodeCorrupt: client.ErrCorrupt, protocol.CodeTimeout: client.ErrTimeout,
		protocol.CodeNotCaughtUp: client.ErrTimeout,
	}
	all := []error{client.ErrClosed, client.ErrTimeout, client.ErrDenied, client.ErrNotFound, client.ErrExists, client.ErrConflict,
		client.ErrRecreated, client.ErrTooLarge, client.ErrLimit, client.ErrOverloaded, client.ErrFull, client.ErrNoQuorum,
		client.ErrPolicy, client.ErrLockout, client.ErrCorrupt}
	for _, code := range protocol.Codes() {
		for _, outcome := range []protocol.Outcome{protocol.OutcomeRejected, protocol.OutcomeUnknown} {
			err := client.Translate("publish", "orders", "spiffe://test/client/x", &protocol.Error{Code: code, Outcome: outcome, Text: "the broker's words"})
			if _, unknown := errors.AsType[*client.UnknownOutcomeError](err); unknown != (outcome == protocol.OutcomeUnknown) {
				t.Errorf("%v, outcome %d: %T", code, outcome, err)
			}
			for _, s := range all {
				if got, want := errors.Is(err, s), sentinels[code] == s; got != want {
					t.Errorf("%v matches %q: %t", code, s, got)
				}
			}
			for _, want := range []string{"publish", "orders", "the broker's words"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v: %q is not in %q", code, want, err)
				}
			}
		}
	}
}

func TestErrorTexts(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&client.DeniedError{Op: "publish", Resource: "orders", Identity: "spiffe://td/client/x", PolicyVersion: 4, Text: "ask for it"},
			`publish "orders": denied for spiffe://td/client/x by default of policy version 4: ask for it`},
		{&client.DeniedError{Op: "get policy", Identity: "dns:x", Rule: "no-one", Line: 9, PolicyVersion: 4},
			`get policy: denied for dns:x by rule no-one, line 9 of policy version 4`},
		{&client.RejectedError{Op: "publish", Resource: "orders", Code: protocol.CodeInternal, Text: "look it up", Incident: "7f"},
			`publish "orders": rejected (internal): look it up [incident 7f]`},
		{&client.UnknownOutcomeError{Op: "publish", Resource: "orders", Err: io.EOF},
			`publish "orders": outcome unknown (it happened once or not at all; read back before repeating it): EOF`},
		{&client.RefusedError{Server: "a:1", Code: protocol.CodeIdentity, Text: "two URI SANs"},
			`connect to a:1: refused (identity) as a certificate without identity: two URI SANs`},
		{&client.ConnectError{Server: "a:1", Err: io.EOF},
			`connect to a:1: EOF; check the address and that the broker is running`},
		{&client.GapEvent{Topic: "orders", Partition: 1, From: 3, To: 5},
			`2 records of "orders" partition 1 are gone (offsets 3 to 4 were removed by retention before they were read)`},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

// A damaged batch ends the subscription; nothing is skipped.
func TestSubscribeCorrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.broker.create("orders", 1)
		c := w.dial()
		publishMany(t, c, 10)
		raw := w.broker.topics["orders"].parts[0].batches[0].raw
		raw[len(raw)-1] ^= 1
		sub := subscribe(t, c, client.SubscribeOptions{From: client.Earliest()})
		if _, err := sub.Next(t.Context()); !errors.Is(err, client.ErrCorrupt) {
			t.Errorf("got %v", err)
		}
	})
}

func TestServerOrder(t *testing.T) {
	three := []string{"a", "b", "c"}
	for _, tt := range []struct {
		lost   int
		leader string
		want   []string
	}{
		{0, "", []string{"a", "b", "c"}},
		{1, "", []string{"b", "c", "a"}},
		{3, "", []string{"a", "b", "c"}},
		{0, "c", []string{"c", "a", "b"}},
		{1, "b", []string{"b", "c", "a"}},
		{0, "somewhere else", []string{"a", "b", "c"}},
	} {
		if got := client.ServerOrder(three, tt.lost, tt.leader); !slices.Equal(got, tt.want) {
			t.Errorf("%d lost, leader %q: %v, want %v", tt.lost, tt.leader, got, tt.want)
		}
	}
}

func TestBackoff(t *testing.T) {
	for range 100 {
		for i, d := range client.BackoffWaits(20) {
			ceiling := client.BackoffMin/2 + min(client.BackoffMax, client.BackoffMin<<i)
			if d < client.BackoffMin/2 || d > ceiling {
				t.Fatalf("wait %d is %s, want at most %s", i, d, ceiling)
			}
		}
	}
}
