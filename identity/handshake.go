package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
)

// Handshake begins TLS with a broker's client port over a connection that was dialed; the broker's certificate must be for serverName.
// crypto/tls throws the session away when a handshake that resumes it fails, whatever the reason. It is kept here if the connection
// merely ended: a broker that is run over turns clients away, and each of them would come back with a full handshake. The caller
// closes raw if there is an error.
func (s *ClientSource) Handshake(ctx context.Context, raw net.Conn, serverName string) (*tls.Conn, error) {
	conf := s.Config(serverName)
	var session *tls.ClientSessionState
	if conf.ClientSessionCache != nil {
		session, _ = conf.ClientSessionCache.Get(conf.ServerName)
	}
	conn := tls.Client(raw, conf)
	err := conn.HandshakeContext(ctx)
	if err == nil {
		return conn, nil
	}
	if session != nil && wordless(err) {
		conf.ClientSessionCache.Put(conf.ServerName, session)
	}
	return nil, err
}

// wordless says whether a handshake failed because the connection ended, and not because one of both sides did not like it.
func wordless(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}
