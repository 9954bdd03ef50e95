package identity_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/waxwing-mq/waxwing/identity"
)

// openssl runs the program in a folder.
func openssl(t *testing.T, dir string, list ...string) {
	t.Helper()
	cmd := exec.Command("openssl", list...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("openssl %v: %v\n%s", list, err, out)
	}
}

// opensslExtensions are those of a CA, of a client and of a broker.
const opensslExtensions = `[ca]
basicConstraints=critical,CA:true
keyUsage=critical,keyCertSign,cRLSign
subjectKeyIdentifier=hash
[client]
basicConstraints=critical,CA:false
keyUsage=critical,digitalSignature
extendedKeyUsage=clientAuth
subjectAltName=URI:spiffe://test.example/client/orders
[broker]
basicConstraints=critical,CA:false
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth,clientAuth
subjectAltName=URI:spiffe://test.example/broker/n1,DNS:localhost
`

// opensslPKI makes a root, an intermediate and, per kind of key, a client and a broker certificate with a chain.
type opensslPKI struct {
	t   *testing.T
	dir string
}

func newOpensslPKI(t *testing.T) *opensslPKI {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("interoperation: the openssl program is not installed here")
	}
	p := &opensslPKI{t, t.TempDir()}
	p.write("ext.cnf", []byte(opensslExtensions))
	openssl(t, p.dir, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "root.key")
	openssl(t, p.dir, "req", "-x509", "-new", "-key", "root.key", "-subj", "/O=Shop/CN=Root", "-days", "30", "-out", "root.crt")
	openssl(t, p.dir, "genrsa", "-out", "middle.key", "2048")
	p.sign("middle", "ca", "root")
	return p
}

// sign makes a certificate for an existing key.
func (p *opensslPKI) sign(name, section, issuer string) {
	p.t.Helper()
	openssl(p.t, p.dir, "req", "-new", "-key", name+".key", "-subj", "/O=Shop/CN="+name, "-out", name+".csr")
	openssl(p.t, p.dir, "x509", "-req", "-in", name+".csr", "-CA", issuer+".crt", "-CAkey", issuer+".key", "-CAcreateserial", "-days", "20", "-extfile", "ext.cnf", "-extensions", section, "-out", name+".crt")
}

func (p *opensslPKI) path(name string) string { return filepath.Join(p.dir, name) }

func (p *opensslPKI) read(name string) []byte {
	p.t.Helper()
	b, err := os.ReadFile(p.path(name))
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

func (p *opensslPKI) write(name string, b []byte) {
	p.t.Helper()
	if err := os.WriteFile(p.path(name), b, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// chain puts leaf and intermediate into one file, changed by edit.
func (p *opensslPKI) chain(name string, edit func([]byte) []byte) {
	b := append(p.read(name+".crt"), p.read("middle.crt")...)
	p.write(name+".pem", edit(b))
}

func same(b []byte) []byte { return b }

func crlf(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) }

func talkative(b []byte) []byte {
	return append([]byte("Certificate:\n    Data: told by a person\n\n"), b...)
}

// TestOpensslCertificates uses certificates that openssl made, on both ends: intermediate chains, keys as PKCS#1, SEC1 and
// PKCS#8, ECDSA, RSA and Ed25519, CRLF line ends and text around the PEM.
func TestOpensslCertificates(t *testing.T) {
	p := newOpensslPKI(t)
	for name, c := range map[string]struct {
		key  [][]string
		edit func([]byte) []byte
	}{
		"ECDSA SEC1":     {[][]string{{"ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "KEY"}}, same},
		"ECDSA params":   {[][]string{{"ecparam", "-name", "secp384r1", "-genkey", "-out", "KEY"}}, talkative},
		"ECDSA PKCS8":    {[][]string{{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", "KEY"}}, crlf},
		"RSA PKCS1":      {[][]string{{"genrsa", "-traditional", "-out", "KEY", "2048"}}, same},
		"RSA PKCS8 CRLF": {[][]string{{"genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072", "-out", "KEY"}}, crlf},
		"Ed25519":        {[][]string{{"genpkey", "-algorithm", "ed25519", "-out", "KEY"}}, same},
	} {
		t.Run(name, func(t *testing.T) {
			p.t = t
			for _, role := range []string{"broker", "client"} {
				for _, step := range c.key {
					list := append([]string(nil), step...)
					for i := range list {
						if list[i] == "KEY" {
							list[i] = role + ".key"
						}
					}
					openssl(t, p.dir, list...)
				}
				p.sign(role, role, "middle")
				p.chain(role, c.edit)
				p.write(role+".key", c.edit(p.read(role+".key")))
			}
			p.meet()
		})
	}
}

// meet shakes hands between what openssl made.
func (p *opensslPKI) meet() {
	t := p.t
	t.Helper()
	source, err := identity.Open(identity.Options{TrustDomain: "test.example", CertFile: p.path("broker.pem"), KeyFile: p.path("broker.key"), CAFile: p.path("root.crt")})
	if err != nil {
		t.Fatal(err)
	}
	client, err := identity.OpenClient(identity.ClientOptions{CertFile: p.path("client.pem"), KeyFile: p.path("client.key"), CAFile: p.path("root.crt")})
	if err != nil {
		t.Fatal(err)
	}
	m := meet(source.ServerConfig(identity.ClientSide), client.Config("localhost"))
	if m.clientErr != nil || m.serverErr != nil {
		t.Fatal(m.clientErr, m.serverErr)
	}
	if peer, err := source.Peer(m.server); err != nil || peer.Principal != ordersID {
		t.Errorf("%+v, %v", peer, err)
	}
}

// TestOpensslRevocationList uses a list that openssl signed.
func TestOpensslRevocationList(t *testing.T) {
	p := newOpensslPKI(t)
	for _, role := range []string{"broker", "client"} {
		openssl(t, p.dir, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", role+".key")
		p.sign(role, role, "middle")
		p.chain(role, same)
	}
	p.write("index.txt", nil)
	p.write("number", []byte("01\n"))
	p.write("ca.cnf", []byte("[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=number\ndefault_md=sha256\ndefault_crl_days=5\n"))
	sign := func() {
		openssl(t, p.dir, "ca", "-config", "ca.cnf", "-gencrl", "-keyfile", "middle.key", "-cert", "middle.crt", "-out", "crl.pem")
	}
	sign()
	source, err := identity.Open(identity.Options{TrustDomain: "test.example", CertFile: p.path("broker.pem"), KeyFile: p.path("broker.key"), CAFile: p.path("root.crt"), CRLFile: p.path("crl.pem")})
	if err != nil {
		t.Fatal(err)
	}
	client, err := identity.OpenClient(identity.ClientOptions{CertFile: p.path("client.pem"), KeyFile: p.path("client.key"), CAFile: p.path("root.crt"), Sessions: true})
	if err != nil {
		t.Fatal(err)
	}
	m := meet(source.ServerConfig(identity.ClientSide), client.Config("localhost"))
	peer, err := source.Peer(m.server)
	if err != nil {
		t.Fatal(err)
	}
	changed, cancel := source.Changed()
	defer cancel()
	openssl(t, p.dir, "ca", "-config", "ca.cnf", "-revoke", "client.crt", "-keyfile", "middle.key", "-cert", "middle.crt")
	sign()
	if err := source.Reload(); err != nil {
		t.Fatal(err)
	}
	<-changed
	if err := source.Recheck(&peer); err == nil {
		t.Error("a live connection survives the revocation list")
	}
	m = meet(source.ServerConfig(identity.ClientSide), client.Config("localhost"))
	if m.server.DidResume {
		t.Error("an old ticket resumed after the revocation list changed")
	}
	if _, err := source.Peer(m.server); err == nil {
		t.Error("a revoked client gets in again")
	}
	// A list that nobody knows the issuer of is refused, and the one before stays.
	openssl(t, p.dir, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "evil.key", "-subj", "/O=Evil/CN=middle", "-days", "3", "-out", "evil.crt")
	openssl(t, p.dir, "ca", "-config", "ca.cnf", "-gencrl", "-keyfile", "evil.key", "-cert", "evil.crt", "-out", "crl.pem")
	if err := source.Reload(); err == nil {
		t.Error("a foreign revocation list was accepted")
	}
	if err := source.Recheck(&peer); err == nil {
		t.Error("a bad list replaced the good one")
	}
}
