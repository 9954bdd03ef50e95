package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/ca"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/snapshot"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
)

// keepsSession is a TLS config of a client that keeps its session and knows the nodes by the name that they share.
func (s *threeNodes) keepsSession(name string) *tls.Config {
	s.t.Helper()
	s.issue(ca.Request{Name: name})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.ca.RootsPEM())
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: threeShared, NextProtos: []string{identity.ALPNClient}, Certificates: []tls.Certificate{*s.certificate(name)}, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
}

// visit connects to a node and says whether the session was resumed, of which both ends must say the same.
func (s *threeNodes) visit(node string, conf *tls.Config) (resumed bool, err error) {
	address := fmt.Sprintf("%s%d:17420", s.network, slices.Index(threeNames, node)+1)
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Minute}, "tcp", address, conf)
	if err != nil {
		return false, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return false, err
	}
	hello := protocol.Hello{Versions: []uint64{protocol.Version}}
	if _, err := c.Write(hello.AppendFrame(nil, 0)); err != nil {
		return false, err
	}
	body, err := protocol.NewFrameReader(c, 1<<20).Next()
	if err != nil {
		return false, err
	}
	_, m, err := protocol.Decode(body)
	if err != nil {
		return false, err
	}
	w, ok := m.(*protocol.Welcome)
	switch {
	case !ok:
		return false, fmt.Errorf("HELLO was answered with %#v", m)
	case w.Node != node:
		return false, fmt.Errorf("node %s answers for %s", w.Node, node)
	case w.Resumed != c.ConnectionState().DidResume:
		return false, fmt.Errorf("node %s says resumed %t, the client %t", node, w.Resumed, !w.Resumed)
	}
	return w.Resumed, nil
}

// share waits until the nodes have a ticket key in common: a session of the first resumes on each.
func (s *threeNodes) share(conf *tls.Config) {
	s.t.Helper()
	for shared := false; !shared; {
		shared = true
		for i, node := range threeNames {
			resumed, err := s.visit(node, conf)
			if err != nil {
				s.t.Fatal(err)
			}
			shared = shared && (resumed || i == 0)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-s.t.Context().Done():
			s.t.Fatal("no ticket key in common")
		}
	}
}

// TestT07ThreeProcesses: a client that comes back to another node, after kill -9 of the one that it was on, resumes its session there;
// it does after all three were killed and started again, too. Then everything that the three have written, their logs and a
// backup are searched for the ticket keys, which are known from the sealed copies in the backup and a node's own key.
func TestT07ThreeProcesses(t *testing.T) {
	lane.Need(t, 2, "T-07")
	s := newThreeNodes(t)
	book := &logBook{wrote: make(chan struct{}, 1)}
	s.log = book
	for _, name := range threeNames {
		conf, err := os.ReadFile(s.path(name + ".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		s.write(name+".yaml", append(conf, "log: {level: debug}\n"...))
	}
	start := func(names ...string) {
		t.Helper()
		for _, name := range names {
			s.spawn(name)
		}
		s.await(names...)
	}
	start(threeNames...)
	conf := s.keepsSession("orders")
	s.share(conf)

	dead := s.leader()
	if _, err := s.visit(dead, conf); err != nil {
		t.Fatal(err)
	}
	s.kill(dead)
	for _, node := range threeNames {
		if node == dead {
			continue
		}
		if resumed, err := s.visit(node, conf); err != nil || !resumed {
			t.Errorf("on %s, after %s was killed: resumed %t, %v", node, dead, resumed, err)
		}
	}
	start(dead)
	for _, node := range threeNames {
		s.kill(node)
	}
	start(threeNames...)
	for _, node := range threeNames {
		if resumed, err := s.visit(node, conf); err != nil || !resumed {
			t.Errorf("on %s, after all were killed and started: resumed %t, %v", node, resumed, err)
		}
	}

	backup := s.path("backup")
	out, err := os.Create(backup)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.dial("admin").SaveSnapshot(t.Context(), out, client.SnapshotOptions{})
	if err := errors.Join(err, out.Close()); err != nil {
		t.Fatal(err)
	}
	for _, node := range threeNames {
		s.kill(node)
	}
	s.scanForTickets(backup, book.String())
}

// scanForTickets looks for the ticket secrets of a backup in the data folders of all nodes, the backup and the log.
func (s *threeNodes) scanForTickets(backup, log string) {
	s.t.Helper()
	secrets, sealed := s.ticketSecrets(backup, "n1")
	copies := 0
	scan := func(place string, b []byte) {
		if bytes.Contains(b, sealed) {
			copies++
		}
		for _, secret := range secrets {
			for _, form := range [][]byte{secret[:16], secret[16:], []byte(hex.EncodeToString(secret[:8])), []byte(base64.StdEncoding.EncodeToString(secret[:12])), []byte(base64.RawURLEncoding.EncodeToString(secret[:12]))} {
				if bytes.Contains(b, form) {
					s.t.Errorf("%s holds a ticket secret", place)
				}
			}
		}
	}
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		scan(path, b)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	scan("the log", []byte(log))
	if copies < len(threeNames)+1 || !strings.Contains(log, "a new ticket key") {
		s.t.Errorf("the scan met the sealed key in %d files, and a log of %d bytes: it proves little", copies, len(log))
	}
}

// ticketSecrets opens what a backup has sealed for a node, with the key in the node's data folder.
func (s *threeNodes) ticketSecrets(backup, node string) (secrets []identity.TicketSecret, sealed []byte) {
	s.t.Helper()
	in, err := os.Open(backup)
	if err != nil {
		s.t.Fatal(err)
	}
	defer in.Close()
	r, err := snapshot.NewReader(in)
	if err != nil {
		s.t.Fatal(err)
	}
	var m *state.Machine
	if _, err = storage.VerifySnapshot(s.t.Context(), r, func(chunks iter.Seq2[[]byte, error]) (err error) {
		m, err = state.Restore(state.Limits{}, chunks)
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
	var file struct{ Key []byte }
	text, err := os.ReadFile(s.path("data-" + node + "/seal.key"))
	if err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal(text, &file); err != nil {
		s.t.Fatal(err)
	}
	key, err := identity.ParseSealKey(file.Key)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, k := range m.View().TicketKeys() {
		c, _ := k.Copy(node)
		info := fmt.Sprintf("waxwing ticket secret 1\ncluster %q\nnumber %d\nnode %q\n", m.View().ClusterID(), k.Number, node)
		secret, err := key.Open([]byte(info), c.Sealed)
		if err != nil {
			s.t.Fatal(err)
		}
		secrets, sealed = append(secrets, secret), c.Sealed
	}
	if len(secrets) == 0 {
		s.t.Fatal("the backup has no ticket keys")
	}
	return secrets, sealed
}
