package identity_test

import (
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/identitytest"
)

// FuzzSAN (P-04): any bytes where a certificate has its names give no identity, or one that stands in them, byte for byte.
func FuzzSAN(f *testing.F) {
	san := func(uris ...string) []byte { return identitytest.SANExtension(uris...).Value }
	seeds := [][]byte{san(ordersID), san(ordersID, ordersID), san(), san("https://x"), san(strings.Repeat("a", 3000)), {0x30, 0x84, 0xff, 0xff, 0xff, 0xff}, {0x30, 0x80, 0, 0}, {0x31, 0}, nil,
		append(san(ordersID), 0), {0x30, 0x03, 0x86, 0x7f, 0x61}, []byte("\x30\x0a\x82\x08a.b.test")}
	if len(seeds) != 12 {
		f.Fatalf("%d seeds", len(seeds))
	}
	if id, err := identity.Identify(seeds[0], "test.example", nil); err != nil || id.Principal != ordersID {
		f.Fatal(id, err)
	}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := identity.Identify(b, "test.example", []identity.Rule{{From: "dns", Match: "*.b.test"}, {From: "cn", Match: "x"}})
		if (err == nil) != (id.Principal != "") {
			t.Fatalf("%q, %v", id.Principal, err)
		}
		if err == nil && !strings.Contains(string(b), string(id.Principal)) {
			t.Errorf("%q does not stand in %q", id.Principal, b)
		}
	})
}

// FuzzFiles (P-04): any text as certificates, key or revocation list is refused or read, without a panic; what a broker
// would make of a certificate can always be said.
func FuzzFiles(f *testing.F) {
	root := authorityOf(f, "root", nil, nil, nil)
	leaf := root.leaf(identitytest.Odd{}, root)
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		f.Fatal(err)
	}
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: time.Now()}}}, root.cert, root.key)
	if err != nil {
		f.Fatal(err)
	}
	certs := pemOf("CERTIFICATE", leaf.Certificate...)
	seeds := [][]byte{certs, pemOf("PRIVATE KEY", key), pemOf("X509 CRL", list), list, pemOf("RSA PRIVATE KEY", key), pemOf("EC PRIVATE KEY", key), pemOf("CERTIFICATE", nil), []byte("-----BEGIN"), nil}
	if len(seeds) != 9 {
		f.Fatalf("%d seeds", len(seeds))
	}
	issuers := []*x509.Certificate{root.cert}
	if n, err := identity.ParseCRLs(seeds[2], issuers); n != 1 || err != nil || identity.ParseKey(seeds[1]) != nil {
		f.Fatal(n, err)
	}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = identity.ParseKey(b)
		identity.ParseCRLs(b, issuers)
		for _, roots := range [][]byte{nil, pemOf("CERTIFICATE", root.cert.Raw)} {
			r, err := identity.Inspect("file", b, "test.example", nil, roots)
			if err == nil && r.Identity == "" && len(r.Faults) == 0 {
				t.Error("a certificate without identity is nobody's fault")
			}
		}
	})
}
