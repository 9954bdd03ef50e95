package main

import (
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/ca"
)

func newCertCommand(a *app) *cobra.Command {
	return group("cert", "Issue, inspect, renew and revoke certificates", newCertIssue(a), newCertInspect(a), newCertRenew(a), newCertRevoke(a))
}

// certJSON says what was written.
type certJSON struct {
	Identity string `json:"identity"`
	Cert     string `json:"cert"`
	Key      string `json:"key"`
	Serial   string `json:"serial"`
	NotAfter string `json:"not_after"`
}

// save writes a certificate and its key, and says so.
func (a *app) saveCert(i *ca.Issued, certFile, keyFile string) error {
	if err := ca.WriteFile(keyFile, i.KeyPEM, 0o600); err != nil {
		return err
	}
	if err := ca.WriteFile(certFile, i.CertPEM, 0o644); err != nil {
		return err
	}
	j := &certJSON{i.ID, certFile, keyFile, identity.SerialText(i.Leaf.SerialNumber), stamp(i.Leaf.NotAfter)}
	return a.show(j, func() *table {
		t := &table{}
		t.add("identity", j.Identity)
		t.add("cert", j.Cert)
		t.add("key", j.Key)
		t.add("serial", j.Serial)
		t.add("not_after", j.NotAfter)
		return t
	})
}

// issueFlags are the flags of cert issue.
type issueFlags struct {
	pki, role, out, id string
	dns, ips           []string
	ttl                string
	force, ifMissing   bool
}

func newCertIssue(a *app) *cobra.Command {
	var f issueFlags
	c := &cobra.Command{Use: "issue NAME", Short: "Issue a certificate with one identity: spiffe://TRUST-DOMAIN/client/NAME or .../broker/NAME", Args: args(cobra.ExactArgs(1)), RunE: func(_ *cobra.Command, list []string) error {
		return a.issueCert(list[0], &f)
	}}
	p := c.Flags()
	p.StringVar(&f.pki, "pki", "", "folder of the CA (waxwing pki init)")
	p.StringVar(&f.role, "role", "client", "client or broker")
	p.StringArrayVar(&f.dns, "dns", nil, "host name of a broker, repeatable")
	p.StringArrayVar(&f.ips, "ip", nil, "IP address of a broker, repeatable")
	p.StringVar(&f.id, "id", "", "a whole SPIFFE ID instead of the one made of NAME, such as spiffe://TD/ns/NS/sa/SA")
	p.StringVar(&f.ttl, "ttl", "720h", "lifetime, such as 24h or 30d")
	p.StringVarP(&f.out, "output", "o", ".", "folder for NAME.crt and NAME.key")
	p.BoolVar(&f.force, "force", false, "replace existing files")
	p.BoolVar(&f.ifMissing, "if-missing", false, "existing files are fine, and stay as they are")
	return c
}

// request turns the flags into what the CA wants.
func (f *issueFlags) request(name string) (ca.Request, error) {
	r := ca.Request{Name: name, ID: f.id, DNS: f.dns, Role: identity.RoleClient}
	switch f.role {
	case "client":
	case "broker":
		r.Role = identity.RoleBroker
	default:
		return r, usage("cert issue: --role %q: use client or broker", f.role)
	}
	ttl, err := parseAge(f.ttl)
	if err != nil || ttl <= 0 {
		return r, usage("cert issue: --ttl %q: give a duration above zero, such as 720h or 30d", f.ttl)
	}
	r.TTL = ttl
	for _, text := range f.ips {
		ip := net.ParseIP(text)
		if ip == nil {
			return r, usage("cert issue: --ip %q is no IP address", text)
		}
		r.IPs = append(r.IPs, ip)
	}
	if r.Role == identity.RoleBroker && len(f.dns)+len(f.ips) == 0 {
		return r, usage("cert issue: a broker needs the names by which clients reach it: --dns or --ip")
	}
	return r, nil
}

func (a *app) issueCert(name string, f *issueFlags) error {
	if f.pki == "" {
		return usage("cert issue: give --pki DIR, the folder of the CA")
	}
	r, err := f.request(name)
	if err != nil {
		return err
	}
	setUmask()
	authority, err := ca.Open(f.pki)
	if err != nil {
		return usage("%w", err)
	}
	i, err := authority.Issue(r)
	if err != nil {
		return usage("%w", err)
	}
	if err := os.MkdirAll(f.out, 0o700); err != nil {
		return err
	}
	base := filepath.Join(f.out, filepath.Base(name))
	for _, file := range []string{base + ".crt", base + ".key"} {
		if _, err := os.Stat(file); err == nil && f.ifMissing {
			return nil
		} else if err == nil && !f.force {
			return usage("cert issue: %s is there already; say --force to replace it", file)
		}
	}
	return a.saveCert(i, base+".crt", base+".key")
}

func newCertInspect(a *app) *cobra.Command {
	var onlyIdentity bool
	var caFile, trustDomain string
	c := &cobra.Command{Use: "inspect FILE", Short: "Show what a broker would make of a certificate, and why", Args: args(cobra.ExactArgs(1)), RunE: func(_ *cobra.Command, list []string) error {
		text, err := os.ReadFile(list[0])
		if err != nil {
			return usage("cert inspect: %w", err)
		}
		var roots []byte
		if a.flags.ca != "" {
			caFile = a.flags.ca
		}
		if caFile != "" {
			if roots, err = os.ReadFile(caFile); err != nil {
				return usage("cert inspect: %w", err)
			}
		}
		r, err := inspect(list[0], text, trustDomain, roots)
		if err != nil {
			return usage("cert inspect: %w", err)
		}
		if err := a.showReport(&r, onlyIdentity); err != nil {
			return err
		}
		if len(r.Faults) > 0 {
			return &exitError{exitFailure, nil}
		}
		return nil
	}}
	c.Flags().BoolVar(&onlyIdentity, "identity", false, "only the identity, its role, and why not")
	c.Flags().StringVar(&trustDomain, "trust-domain", "", "the broker's trust domain (default: the certificate's own)")
	return c
}

// inspect takes the trust domain from the certificate if none is given.
func inspect(name string, text []byte, trustDomain string, roots []byte) (identity.Report, error) {
	if trustDomain == "" {
		first, err := identity.Inspect(name, text, "example.invalid", nil, nil)
		if err != nil {
			return first, err
		}
		if len(first.URIs) > 0 {
			rest, _ := strings.CutPrefix(first.URIs[0], "spiffe://")
			trustDomain, _, _ = strings.Cut(rest, "/")
		}
	}
	return identity.Inspect(name, text, trustDomain, nil, roots)
}

func (a *app) showReport(r *identity.Report, onlyIdentity bool) error {
	return a.show(r, func() *table {
		t := &table{}
		t.add("identity", orDash(r.Identity))
		t.add("role", r.Role)
		for _, f := range r.Faults {
			t.add("refused", f)
		}
		if onlyIdentity {
			return t
		}
		t.add("subject", r.Subject)
		t.add("issuer", r.Issuer)
		t.add("serial", r.Serial)
		t.add("spki_sha256", r.SPKI)
		t.add("key", r.Key)
		t.add("not_before", r.NotBefore.UTC().Format(time.RFC3339))
		t.add("not_after", r.NotAfter.UTC().Format(time.RFC3339))
		t.add("uris", orDash(strings.Join(r.URIs, " ")))
		t.add("dns", orDash(strings.Join(r.DNS, " ")))
		t.add("ips", orDash(strings.Join(r.IPs, " ")))
		t.add("usages", orDash(strings.Join(r.Usages, " ")))
		return t
	})
}

func newCertRenew(a *app) *cobra.Command {
	var pki, keyFile, ttl string
	c := &cobra.Command{Use: "renew FILE", Short: "Replace a certificate and its key by new ones of the same identity; running services pick them up", Args: args(cobra.ExactArgs(1)), RunE: func(_ *cobra.Command, list []string) error {
		if pki == "" {
			return usage("cert renew: give --pki DIR, the folder of the CA")
		}
		if a.flags.key != "" {
			keyFile = a.flags.key
		}
		if keyFile == "" {
			keyFile = strings.TrimSuffix(list[0], filepath.Ext(list[0])) + ".key"
		}
		var life time.Duration
		if ttl != "" {
			d, err := parseAge(ttl)
			if err != nil || d <= 0 {
				return usage("cert renew: --ttl %q: give a duration above zero", ttl)
			}
			life = d
		}
		old, err := os.ReadFile(list[0])
		if err != nil {
			return usage("cert renew: %w", err)
		}
		authority, err := ca.Open(pki)
		if err != nil {
			return usage("%w", err)
		}
		i, err := authority.Renew(old, life)
		if err != nil {
			return usage("%w", err)
		}
		return a.saveCert(i, list[0], keyFile)
	}}
	c.Flags().StringVar(&pki, "pki", "", "folder of the CA")
	c.Flags().StringVar(&ttl, "ttl", "", "lifetime (default: that of the old one)")
	return c
}

func newCertRevoke(a *app) *cobra.Command {
	var pki, serial string
	c := &cobra.Command{Use: "revoke [FILE]", Short: "Put a certificate on the CA's revocation list, crl.pem; brokers follow the file (tls.crl)", Args: args(cobra.MaximumNArgs(1)), RunE: func(_ *cobra.Command, list []string) error {
		if pki == "" || (len(list) == 0) == (serial == "") {
			return usage("cert revoke: give --pki DIR, and a certificate file or --serial")
		}
		number, ok := new(big.Int).SetString(serial, 16)
		if serial != "" && !ok {
			return usage("cert revoke: --serial %q is no hexadecimal number", serial)
		}
		if len(list) == 1 {
			text, err := os.ReadFile(list[0])
			if err != nil {
				return usage("cert revoke: %w", err)
			}
			certs, err := identity.ParseCertificates(list[0], text)
			if err != nil {
				return usage("cert revoke: %w", err)
			}
			number = certs[0].SerialNumber
		}
		authority, err := ca.Open(pki)
		if err != nil {
			return usage("%w", err)
		}
		if err := authority.Revoke(number); err != nil {
			return err
		}
		a.say("serial %s is on the list %s", identity.SerialText(number), filepath.Join(pki, ca.CRLFile))
		return nil
	}}
	c.Flags().StringVar(&pki, "pki", "", "folder of the CA")
	c.Flags().StringVar(&serial, "serial", "", "serial number, hexadecimal")
	return c
}
