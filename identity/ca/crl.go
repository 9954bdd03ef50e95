package ca

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// crlLife is how long a revocation list says it is current. Brokers go on using an old one:
// forgetting revocations would be worse.
const crlLife = 30 * 24 * time.Hour

// Revoke adds a serial number to the folder's revocation list and writes it. Revoking again
// changes nothing but the list's date.
func (a *Authority) Revoke(number *big.Int) error {
	if a.dir == "" {
		return errors.New("revoke: this CA is only in memory; use RevocationList")
	}
	entries, last, err := a.readCRL()
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	known := false
	for _, e := range entries {
		known = known || e.SerialNumber.Cmp(number) == 0
	}
	if !known {
		entries = append(entries, x509.RevocationListEntry{SerialNumber: number, RevocationTime: time.Now()})
	}
	text, err := a.revocationList(entries, last+1)
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	return WriteFile(filepath.Join(a.dir, CRLFile), text, 0o644)
}

// readCRL reads the folder's list; none is an empty one.
func (a *Authority) readCRL() ([]x509.RevocationListEntry, int64, error) {
	text, err := os.ReadFile(filepath.Join(a.dir, CRLFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, 0, fmt.Errorf("%s: no PEM in it", CRLFile)
	}
	list, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", CRLFile, err)
	}
	if err := list.CheckSignatureFrom(a.issuing); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", CRLFile, err)
	}
	return list.RevokedCertificateEntries, list.Number.Int64(), nil
}

// RevocationList makes a list of serial numbers, PEM.
func (a *Authority) RevocationList(numbers ...*big.Int) ([]byte, error) {
	var entries []x509.RevocationListEntry
	for _, n := range numbers {
		entries = append(entries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: time.Now()})
	}
	return a.revocationList(entries, 1)
}

func (a *Authority) revocationList(entries []x509.RevocationListEntry, number int64) ([]byte, error) {
	now := time.Now()
	template := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: now, NextUpdate: now.Add(crlLife), RevokedCertificateEntries: entries}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.issuing, a.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), nil
}
