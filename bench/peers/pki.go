package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/ca"
)

const trustDomain = "peers.example"

// pki is the CA of a run and the files of its certificates. All systems use certificates of the same kind: ECDSA P-256.
type pki struct {
	authority *ca.Authority
	dir       string
}

type files struct{ cert, key, ca string }

func newPKI(dir string) (*pki, error) {
	dir = filepath.Join(dir, "pki")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	a, err := ca.New(trustDomain)
	if err != nil {
		return nil, err
	}
	return &pki{a, dir}, ca.WriteFile(filepath.Join(dir, "ca.crt"), a.RootsPEM(), 0o644)
}

// issue makes a certificate that also names loopback addresses.
func (p *pki) issue(name string, role identity.Role) (files, error) {
	f := files{filepath.Join(p.dir, name+".crt"), filepath.Join(p.dir, name+".key"), filepath.Join(p.dir, "ca.crt")}
	r := ca.Request{Name: name, Role: role}
	if role == identity.RoleBroker {
		r.IPs = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	issued, err := p.authority.Issue(r)
	if err != nil {
		return f, err
	}
	return f, errors.Join(ca.WriteFile(f.cert, issued.CertPEM, 0o644), ca.WriteFile(f.key, issued.KeyPEM, 0o600))
}

// load makes a config of certificate files that asks for the other side's certificate. This is for the other brokers alone;
// Waxwing makes its own.
func (f files) load() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(f.ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", f.ca)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, RootCAs: roots, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert}, nil
}

// ports finds free ports of loopback. Between here and their use another program may take one; then the start fails and says so.
func ports(n int) (list []int, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		list = append(list, l.Addr().(*net.TCPAddr).Port)
	}
	return list, nil
}
