package identity_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/identitytest"
)

// revokedBy is a list of one identity.
func revokedBy(version uint64, who string) identity.Revocations {
	return identity.Revocations{Version: version, Identities: map[identity.Principal]struct{}{identity.Principal(who): {}}}
}

// TestT07ResumptionAcrossNodes saves a session on one node and comes to another: with the same secret, files, rules and
// revocation list it resumes there, and with none of them different.
func TestT07ResumptionAcrossNodes(t *testing.T) {
	pki, other := identitytest.New(t), identitytest.New(t)
	old, now := identity.NewTicketSecret(), identity.NewTicketSecret()
	for name, c := range map[string]struct {
		change  func(first, second *identity.Source)
		resumed bool
		want    identity.Reason
	}{
		"the same":            {func(_, _ *identity.Source) {}, true, ""},
		"a day of each":       {func(a, b *identity.Source) { a.RotateTickets(); b.RotateTickets(); b.RotateTickets() }, true, ""},
		"a new secret there":  {func(_, b *identity.Source) { b.SetTicketSecrets([]identity.TicketSecret{now, old}) }, true, ""},
		"the secret is gone":  {func(_, b *identity.Source) { b.SetTicketSecrets([]identity.TicketSecret{now}) }, false, ""},
		"no secret":           {func(_, b *identity.Source) { b.SetTicketSecrets(nil) }, false, ""},
		"it is revoked there": {func(_, b *identity.Source) { b.SetRevocations(revokedBy(1, ordersID)) }, false, identity.ReasonRevoked},
		"it is revoked": {func(a, b *identity.Source) {
			a.SetRevocations(revokedBy(1, ordersID))
			b.SetRevocations(revokedBy(1, ordersID))
		}, false, identity.ReasonRevoked},
		"another is revoked there": {func(_, b *identity.Source) { b.SetRevocations(revokedBy(1, "spiffe://test.example/client/x")) }, false, ""},
		"one list behind": {func(a, b *identity.Source) {
			a.SetRevocations(revokedBy(1, "spiffe://test.example/client/x"))
			b.SetRevocations(revokedBy(1, "spiffe://test.example/client/x"))
			b.SetRevocations(revokedBy(2, "spiffe://test.example/client/y"))
		}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			first, second, client := pki.Source("n1"), pki.Source("n2"), newReturning(t, pki.Client("orders").TLS())
			first.SetTicketSecrets([]identity.TicketSecret{old})
			second.SetTicketSecrets([]identity.TicketSecret{old})
			client.come(first)
			c.change(first, second)
			if _, err := client.visit(second, identity.ClientSide, identity.ALPNClient, c.resumed); reasonOf(err) != c.want || (err == nil) != (c.want == "") {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	t.Run("the same list again", func(t *testing.T) {
		first, second, client := pki.Source("n1"), pki.Source("n2"), newReturning(t, pki.Client("orders").TLS())
		for _, s := range []*identity.Source{first, second} { // in another order of what each of them did before
			s.SetTicketSecrets([]identity.TicketSecret{now, old})
			s.SetRevocations(revokedBy(7, "spiffe://test.example/client/x"))
		}
		client.come(first)
		if _, err := client.visit(second, identity.ClientSide, identity.ALPNClient, true); err != nil {
			t.Error(err)
		}
	})
	t.Run("other files or rules", func(t *testing.T) {
		files := pki.Save("n3", pki.Broker("n3"))
		both := filepath.Join(t.TempDir(), "both.crt")
		if err := os.WriteFile(both, slices.Concat(pki.RootsPEM(), other.RootsPEM()), 0o600); err != nil {
			t.Fatal(err)
		}
		for name, o := range map[string]identity.Options{
			"roots": {CAFile: both},
			"rules": {CAFile: files.CA, Rules: []identity.Rule{{From: "dns", Match: "a.example"}}},
		} {
			o.TrustDomain, o.CertFile, o.KeyFile = identitytest.TrustDomain, files.Cert, files.Key
			second, err := identity.Open(o)
			if err != nil {
				t.Fatal(err)
			}
			first, client := pki.Source("n1"), newReturning(t, pki.Client("orders").TLS())
			first.SetTicketSecrets([]identity.TicketSecret{now})
			second.SetTicketSecrets([]identity.TicketSecret{now})
			client.come(first)
			if _, err := client.visit(second, identity.ClientSide, identity.ALPNClient, false); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// TestSealKey: what is sealed to a key is opened with it and the same info, and with nothing else.
func TestSealKey(t *testing.T) {
	key, err := identity.NewSealKey()
	if err != nil {
		t.Fatal(err)
	}
	other, err := identity.NewSealKey()
	if err != nil {
		t.Fatal(err)
	}
	secret := identity.NewTicketSecret()
	sealed, err := identity.Seal(key.Public(), []byte("for n1"), secret)
	if err != nil || bytes.Contains(sealed, secret[:8]) {
		t.Fatalf("%x, %v", sealed, err)
	}
	again, err := identity.Seal(key.Public(), []byte("for n1"), secret)
	if err != nil || bytes.Equal(sealed, again) {
		t.Errorf("sealed twice alike, %v", err)
	}
	b, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := identity.ParseSealKey(b)
	if err != nil || parsed.Public() != key.Public() {
		t.Fatalf("parsed again: %v", err)
	}
	if got, err := parsed.Open([]byte("for n1"), sealed); err != nil || got != secret {
		t.Errorf("opened to another secret, %v", err)
	}
	if _, err := key.Open([]byte("for n2"), sealed); err == nil {
		t.Error("opened with other info")
	}
	if _, err := other.Open([]byte("for n1"), sealed); err == nil {
		t.Error("opened with another key")
	}
	for i := range sealed {
		damaged := bytes.Clone(sealed)
		damaged[i] ^= 1
		if _, err := key.Open([]byte("for n1"), damaged); err == nil {
			t.Errorf("opened with byte %d flipped", i)
		}
		if _, err := key.Open([]byte("for n1"), sealed[:i]); err == nil {
			t.Errorf("opened %d of %d bytes", i, len(sealed))
		}
	}
	for _, b := range [][]byte{nil, b[:31], append(b, 0)} {
		if _, err := identity.ParseSealKey(b); err == nil {
			t.Errorf("a key of %d bytes was taken", len(b))
		}
	}
	if _, err := identity.Seal([32]byte{}, nil, secret); err == nil {
		t.Error("sealed to a key that is none")
	}
}

// TestA11TicketSecretHidden: neither a format nor a log shows a secret.
func TestA11TicketSecretHidden(t *testing.T) {
	secret := identity.NewTicketSecret()
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%X", "%s", "%q", "%d", "%b"} {
		fmt.Fprintf(&out, verb+"\n", secret)
		fmt.Fprintf(&out, verb+"\n", &secret)
		fmt.Fprintf(&out, verb+"\n", []identity.TicketSecret{secret})
		fmt.Fprintf(&out, verb+"\n", struct{ S identity.TicketSecret }{secret})
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "secret", secret, "list", []identity.TicketSecret{secret})
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secret", secret)
	for _, form := range []string{string(secret[:]), hex.EncodeToString(secret[:4]), strings.ToUpper(hex.EncodeToString(secret[:4])), fmt.Sprintf("%d %d %d", secret[0], secret[1], secret[2]), fmt.Sprintf("%d,%d,%d", secret[0], secret[1], secret[2]),
		fmt.Sprintf("%#x, %#x, %#x", secret[0], secret[1], secret[2])} {
		if strings.Contains(out.String(), form) {
			t.Errorf("it shows in\n%s", out.String())
		}
	}
}
