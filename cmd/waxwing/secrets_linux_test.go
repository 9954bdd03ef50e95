package main

import (
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/internal/lane"
)

const secretsPolicy = `auto_create:
  - topics: "open"
bindings:
  - identity: spiffe://site.example/client/orders
    allow:
      - {verbs: [observe]}
      - {verbs: [publish, subscribe, manage], topics: ["open"]}
`

// TestA11Secrets makes a broker log all it can, and looks for keys and records where others could read them.
func TestA11Secrets(t *testing.T) {
	lane.Need(t, 2, "A-11")
	s := newSite(t)
	book := &logBook{wrote: make(chan struct{}, 1)}
	s.log = book
	s.write("policy.yaml", []byte(secretsPolicy))
	conf, err := os.ReadFile(s.path("broker.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s.write("broker.yaml", append(conf, "log: {level: debug}\n"...))
	s.start()
	c := s.dial("orders")
	record := client.Record{Key: []byte("marker-key"), Body: []byte("marker-body"), Headers: []client.Header{{Name: "marker-name", Value: "marker-value"}}}
	if _, err := c.Publish(t.Context(), "open", record); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Publish(t.Context(), "shut", record); err == nil {
		t.Error("a publish without the right was taken")
	}
	sub, err := c.Subscribe(t.Context(), client.SubscribeOptions{Topics: []string{"open"}, From: client.Earliest(), StopAtEnd: true})
	if err != nil {
		t.Fatal(err)
	}
	for m, err := range sub.Messages() {
		if err != nil || string(m.Body) != "marker-body" {
			t.Fatalf("%q, %v", m.Body, err)
		}
	}
	s.refusesStrangers(s.process().Ready.Peer, identity.ALPNPeer, nil)
	if err := s.process().Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	book.await(t, `"reload"`)
	_, metrics, err := s.page("orders", "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	places := map[string]string{"log": book.String(), "metrics": metrics}
	for _, name := range []string{"cmdline", "environ"} {
		places[name] = s.proc(name)
	}
	if !strings.Contains(places["log"], "client connected") || !strings.Contains(metrics, "waxwing_") {
		t.Error("the scan looked at a log without debug lines, or at no metrics")
	}
	for place, text := range places {
		for _, secret := range append(s.keyForms("n1"), "PRIVATE KEY", "marker-") {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds %q", place, secret)
			}
		}
	}
	if !regexp.MustCompile(`(?m)^Max core file size +0 +0 `).MatchString(s.proc("limits")) {
		t.Errorf("a crash would leave a core file: %s", s.proc("limits"))
	}
	s.listensOnlyAsConfigured()
	s.modes()
}

// proc reads a file of the broker's in /proc.
func (s *site) proc(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", s.process().PID(), name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// keyForms are the ways in which a private key could be written down.
func (s *site) keyForms(name string) []string {
	s.t.Helper()
	text, err := os.ReadFile(s.path(name + ".key"))
	if err != nil {
		s.t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, ok := s.certificate(name).PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		s.t.Fatal("not an ECDSA key")
	}
	scalar, err := key.Bytes()
	if err != nil {
		s.t.Fatal(err)
	}
	return []string{base64.StdEncoding.EncodeToString(block.Bytes)[:48], base64.StdEncoding.EncodeToString(scalar), base64.RawURLEncoding.EncodeToString(scalar), hex.EncodeToString(scalar), new(big.Int).SetBytes(scalar).String(), string(scalar)}
}

// listensOnlyAsConfigured compares the process's listening sockets with its three ports.
func (s *site) listensOnlyAsConfigured() {
	s.t.Helper()
	own := map[string]bool{}
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", s.process().PID()))
	for _, l := range links {
		to, _ := os.Readlink(l) // a descriptor may be closed meanwhile
		own[to] = true
	}
	var got, want []string
	for _, table := range []string{"net/tcp", "net/tcp6"} {
		for line := range strings.Lines(s.proc(table)) {
			f := strings.Fields(line)
			if len(f) < 10 || f[3] != "0A" || !own["socket:["+f[9]+"]"] {
				continue
			}
			port, err := strconv.ParseUint(f[1][strings.LastIndex(f[1], ":")+1:], 16, 16)
			if err != nil {
				s.t.Fatal(err)
			}
			got = append(got, fmt.Sprint(port))
		}
	}
	ready := s.process().Ready
	for _, address := range []string{ready.Client, ready.Peer, ready.HTTPS} {
		_, port, _ := net.SplitHostPort(address)
		want = append(want, port)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		s.t.Errorf("it listens on %v, want %v", got, want)
	}
}

// modes checks that nobody else can read the data folder.
func (s *site) modes() {
	s.t.Helper()
	files := 0
	err := filepath.WalkDir(s.path("data"), func(path string, d fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil {
			info, err = d.Info()
		}
		if errors.Is(err, fs.ErrNotExist) { // the broker is at work
			return nil
		} else if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		} else {
			files++
		}
		if info.Mode().Perm() != want {
			s.t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil || files == 0 {
		s.t.Errorf("%d files, %v", files, err)
	}
}
