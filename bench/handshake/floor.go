package handshake

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/waxwing-mq/waxwing/identity"
)

// alpn is that of a broker's client port, so that the bytes are the same.
const alpn = "waxwing/1"

// ServeFloor is a server of crypto/tls and nothing else, with the certificate of a broker: it demands and verifies a client's certificate,
// gives session tickets, and answers one byte to each byte. It serves until ctx ends.
func ServeFloor(ctx context.Context, l net.Listener, certFile, keyFile, caFile string) error {
	defer l.Close()
	pair, err := identity.LoadPair(certFile, keyFile)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(caFile)
	if err != nil {
		return err
	}
	cas, err := identity.ParseCertificates(caFile, text)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	for _, c := range cas {
		roots.AddCert(c)
	}
	conf := &tls.Config{Certificates: []tls.Certificate{*pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots, MinVersion: tls.VersionTLS13, NextProtos: []string{alpn}}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	for {
		raw, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		all.Go(func() { echo(raw, conf) })
	}
}

// echo serves one connection.
func echo(raw net.Conn, conf *tls.Config) {
	_ = raw.SetDeadline(time.Now().Add(linkTimeout)) // fails on a closed one only
	c := tls.Server(raw, conf)
	defer c.Close()
	_, _ = io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{c}, make([]byte, 1)) // the client sees how it ends
}

// DialFloor connects to a floor and returns once it has answered: a client of TLS 1.3 believes in success before the server has looked
// at its certificate, and the ticket comes behind.
func (d *Dialer) DialFloor(ctx context.Context, addr string) (*Link, error) {
	conn, raw, err := d.shake(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("connect to the floor: %w", err)
	}
	b := []byte{'x'}
	if _, err = conn.Write(b); err == nil {
		_, err = io.ReadFull(conn, b)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("ask the floor: %w", err)
	}
	return &Link{conn: conn, Resumed: conn.ConnectionState().DidResume, Sent: raw.sent, Received: raw.received}, nil
}
