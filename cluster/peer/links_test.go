package peer_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxwing-mq/waxwing/cluster/peer"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/ca"
	"github.com/waxwing-mq/waxwing/identity/identitytest"
	"github.com/waxwing-mq/waxwing/internal/memnet"
	"github.com/waxwing-mq/waxwing/protocol"
)

var raftLinks = peer.Key{Group: "0", Purpose: protocol.PeerRaft}

// world is nodes of one CA on a network in memory.
type world struct {
	t       *testing.T
	pki     *identitytest.PKI
	network memnet.Network
	members map[string]bool
}

// node is one of them; its handler echoes what it gets.
type node struct {
	*peer.Links
	identity *identity.Source
	got      chan *peer.Conn // cap 100: accepted links
}

func newWorld(t *testing.T) *world {
	return &world{t: t, pki: identitytest.New(t), members: map[string]bool{"n1": true, "n2": true, "n3": true}}
}

// start starts a node; options may be changed by change.
func (w *world) start(name string, change func(*peer.Options)) *node {
	w.t.Helper()
	n := &node{identity: w.pki.Source(name), got: make(chan *peer.Conn, 100)}
	o := peer.Options{Node: name, Software: "test", Identity: n.identity, Cluster: func() string { return "cluster-1" }, Disk: "disk-" + name, Dial: w.network.DialContext,
		Member: func(h *protocol.PeerHello) error {
			if !w.members[h.From] {
				return errors.New("it is no member")
			}
			return nil
		},
		Handlers: map[peer.Key]func(*peer.Conn){raftLinks: func(c *peer.Conn) {
			n.got <- c
			io.Copy(c, c)
		}}}
	if change != nil {
		change(&o)
	}
	n.Links = peer.New(o)
	l, err := w.network.Listen(name)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- n.Serve(ctx, l) }()
	go func() { done <- n.Run(ctx) }()
	w.t.Cleanup(func() {
		if err := n.Shutdown(context.Background()); err != nil {
			w.t.Error(err)
		}
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				w.t.Error(err)
			}
		}
	})
	return n
}

// dial opens a link that must work.
func (w *world) dial(from *node, to string) *peer.Conn {
	w.t.Helper()
	c, err := from.Dial(w.t.Context(), to, to, raftLinks)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// isOpen sends a byte around.
func isOpen(c net.Conn) error {
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// inBubble runs a test in virtual time.
func inBubble(t *testing.T, f func(*testing.T, *world)) {
	synctest.Test(t, func(t *testing.T) { f(t, newWorld(t)) })
}

func TestLink(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n1, n2 := w.start("n1", nil), w.start("n2", nil)
		c := w.dial(n1, "n2")
		if err := isOpen(c); err != nil {
			t.Fatal(err)
		}
		there := <-n2.got
		if c.Node() != "n2" || c.Hello().Disk != "disk-n2" || there.Node() != "n1" || there.Hello().Disk != "disk-n1" || there.Key() != raftLinks {
			t.Errorf("n1 sees %s %+v, n2 sees %s %+v", c.Node(), c.Hello(), there.Node(), there.Hello())
		}
		c.Close()
		if err := isOpen(c); err == nil {
			t.Error("open after Close")
		}
	})
}

// greeting is what a raw peer sends.
type greeting struct {
	node  string // of its certificate; "" = a client's
	alpn  string
	bytes []byte
}

// refusal dials n2 by hand and returns how it was refused: a frame, or the error.
func (w *world) refusal(g greeting) (*protocol.Refused, error) {
	w.t.Helper()
	issued := w.pki.Client("orders")
	if g.node != "" {
		issued = w.pki.Broker(g.node)
	}
	raw, err := w.network.DialContext(w.t.Context(), "", "n2")
	if err != nil {
		w.t.Fatal(err)
	}
	defer raw.Close()
	t := tls.Client(raw, w.pki.ClientConfig(issued, g.alpn))
	if err := t.Handshake(); err != nil {
		return nil, err
	}
	if _, err := t.Write(g.bytes); err != nil {
		return nil, err
	}
	body, err := protocol.NewFrameReader(t, 1<<20).Next()
	if err != nil {
		return nil, err
	}
	_, m, err := protocol.Decode(body)
	if err != nil {
		return nil, err
	}
	refused, ok := m.(*protocol.Refused)
	if !ok {
		w.t.Fatalf("not refused: %v", m.Kind())
	}
	return refused, nil
}

// hello is a good PEER_HELLO of n1, with a change.
func hello(change func(*protocol.PeerHello)) []byte {
	h := &protocol.PeerHello{Versions: []uint64{protocol.PeerVersion}, Cluster: "cluster-1", From: "n1", To: "n2", Group: "0", Purpose: protocol.PeerRaft, Disk: "disk-n1"}
	change(h)
	return h.AppendFrame(nil, 1)
}

// TestT15Refused: rows T-14 and T-15 on the peer port: role and name of a node, before anything of raft's is read.
func TestT15Refused(t *testing.T) {
	good := hello(func(*protocol.PeerHello) {})
	tests := []struct {
		name string
		greeting
		code protocol.Code // 0 = in TLS, or by silence
	}{
		{"a client's certificate", greeting{"", identity.ALPNPeer, good}, 0},
		{"the clients' ALPN", greeting{"n1", identity.ALPNClient, good}, 0},
		{"no ALPN", greeting{"n1", "", good}, 0},
		{"another node's name", greeting{"n1", identity.ALPNPeer, hello(func(h *protocol.PeerHello) { h.From = "n3" })}, protocol.CodeWrongNode},
		{"no name", greeting{"n1", identity.ALPNPeer, hello(func(h *protocol.PeerHello) { h.From = "" })}, protocol.CodeWrongNode},
		{"the node's own name", greeting{"n2", identity.ALPNPeer, hello(func(h *protocol.PeerHello) { h.From = "n2" })}, protocol.CodeWrongNode},
		{"for another node", greeting{"n1", identity.ALPNPeer, hello(func(h *protocol.PeerHello) { h.To = "n3" })}, protocol.CodeWrongNode},
		{"another cluster", greeting{"n1", identity.ALPNPeer, hello(func(h *protocol.PeerHello) { h.Cluster = "cluster-2" })}, protocol.CodeWrongCluster},
		{"not a member", greeting{"n9", identity.ALPNPeer, hello(func(h *protocol.PeerHello) { h.From = "n9" })}, protocol.CodeNotMember},
		{"another group", greeting{"n1", identity.ALPNPeer, hello(func(h *protocol.PeerHello) { h.Group = "1" })}, protocol.CodeUnsupported},
		{"an unknown purpose", greeting{"n1", identity.ALPNPeer, hello(func(h *protocol.PeerHello) { h.Purpose = 9 })}, protocol.CodeUnsupported},
		{"a later version", greeting{"n1", identity.ALPNPeer, hello(func(h *protocol.PeerHello) { h.Versions = []uint64{2, 3} })}, protocol.CodeUnsupported},
		{"a client's HELLO", greeting{"n1", identity.ALPNPeer, (&protocol.Hello{Versions: []uint64{1}}).AppendFrame(nil, 1)}, protocol.CodeMalformed},
		{"bytes behind the hello", greeting{"n1", identity.ALPNPeer, append(good[:len(good):len(good)], 0)}, protocol.CodeMalformed},
		{"a length that lies", greeting{"n1", identity.ALPNPeer, []byte{0xff, 0xff, 0xff, 0xff}}, protocol.CodeMalformed},
		{"raft at once", greeting{"n1", identity.ALPNPeer, append([]byte{0}, strings.Repeat("\x8a", 8<<10)...)}, protocol.CodeMalformed},
		{"silence", greeting{"n1", identity.ALPNPeer, nil}, protocol.CodeMalformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				n2 := w.start("n2", nil)
				start := time.Now()
				refused, err := w.refusal(test.greeting)
				if took := time.Since(start); took > 6*time.Second {
					t.Errorf("took %v", took)
				}
				switch {
				case test.code == 0 && err == nil:
					t.Errorf("refused by a frame, not in TLS: %+v", refused)
				case test.code != 0 && (err != nil || refused.Code != test.code || refused.Text == ""):
					t.Errorf("refused with %+v, %v; want %v", refused, err, test.code)
				}
				synctest.Wait()
				if len(n2.got) > 0 {
					t.Error("its handler got a link")
				}
			})
		})
	}
}

// TestT15WrongServer: the node that dials checks, too.
func TestT15WrongServer(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n1 := w.start("n1", nil)
		w.start("n2", nil)
		w.start("n3", func(o *peer.Options) { o.Cluster = func() string { return "cluster-2" } })
		w.start("n4", nil)
		var inTLS *identity.RefusedError
		if _, err := n1.Dial(t.Context(), "n3", "n2", raftLinks); !errors.As(err, &inTLS) {
			t.Errorf("n2 answered for n3: %v", err)
		}
		for to, code := range map[string]protocol.Code{"n3": protocol.CodeWrongCluster, "n4": protocol.CodeNotMember} {
			if _, err := n1.Dial(t.Context(), to, to, raftLinks); codeOf(err) != code {
				t.Errorf("%s: %v, want %v", to, err, code)
			}
		}
		if _, err := n1.Dial(t.Context(), "n2", "nowhere", raftLinks); err == nil {
			t.Error("dialed nowhere")
		}
	})
}

func codeOf(err error) protocol.Code {
	refused, ok := errors.AsType[*peer.RefusedError](err)
	if !ok {
		return 0
	}
	return refused.Code
}

// TestNewNode: a node that belongs to no cluster yet may ask to join one.
func TestNewNode(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n1 := w.start("n1", func(o *peer.Options) { o.Cluster = func() string { return "" } })
		w.start("n2", nil)
		c := w.dial(n1, "n2")
		if c.Hello().Cluster != "cluster-1" {
			t.Errorf("cluster %q", c.Hello().Cluster)
		}
	})
}

// TestLinkEnds: every reason for which a link that lives must end, on the node where it happens, and so on the other.
func TestLinkEnds(t *testing.T) {
	tests := map[string]func(w *world, n2 *node){
		"revoked": func(_ *world, n2 *node) {
			n2.identity.SetRevocations(identity.Revocations{Identities: map[identity.Principal]struct{}{identity.Principal("spiffe://" + identitytest.TrustDomain + "/broker/n1"): {}}})
		},
		"no member any more": func(w *world, n2 *node) {
			w.members = map[string]bool{"n2": true}
			n2.Recheck()
		},
		"suspended": func(_ *world, n2 *node) { n2.Suspend(errors.New("the disk hangs")) },
		"shut down": func(w *world, n2 *node) {
			if err := n2.Shutdown(context.Background()); err != nil {
				w.t.Error(err)
			}
		},
		"certificate expired": func(w *world, _ *node) { time.Sleep(ca.TTLDefault + time.Hour) },
	}
	for name, happen := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				n1, n2 := w.start("n1", nil), w.start("n2", nil)
				idle, busy := w.dial(n1, "n2"), w.dial(n1, "n2")
				for _, c := range []*peer.Conn{idle, busy} {
					if err := isOpen(c); err != nil {
						t.Fatal(err)
					}
				}
				ended := make(chan error)
				go func() {
					for isOpen(busy) == nil {
						time.Sleep(time.Hour)
					}
					_, err := idle.Read(make([]byte, 1))
					ended <- err
				}()
				synctest.Wait()
				happen(w, n2)
				if err := <-ended; err == nil {
					t.Error("the idle link is open")
				}
				if _, err := n1.Dial(t.Context(), "n2", "n2", raftLinks); err == nil {
					t.Error("a new link opens")
				}
			})
		})
	}
}

// TestSuspend: nothing in or out until Resume.
func TestSuspend(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n1, n2 := w.start("n1", nil), w.start("n2", nil)
		n2.Suspend(errors.New("the disk hangs"))
		if _, err := n1.Dial(t.Context(), "n2", "n2", raftLinks); codeOf(err) != protocol.CodeOverloaded {
			t.Errorf("in: %v", err)
		}
		if _, err := n2.Dial(t.Context(), "n1", "n1", raftLinks); codeOf(err) != protocol.CodeOverloaded {
			t.Errorf("out: %v", err)
		}
		n2.Resume()
		w.dial(n1, "n2")
		w.dial(n2, "n1")
	})
}

// TestLinksPerNode: one node cannot take all the room.
func TestLinksPerNode(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n1, n3 := w.start("n1", nil), w.start("n3", nil)
		w.start("n2", nil)
		var last *peer.Conn
		for range 32 {
			last = w.dial(n1, "n2")
		}
		if _, err := n1.Dial(t.Context(), "n2", "n2", raftLinks); codeOf(err) != protocol.CodeLimit {
			t.Errorf("link 33: %v", err)
		}
		w.dial(n3, "n2")
		last.Close()
		synctest.Wait()
		w.dial(n1, "n2")
	})
}

// TestHandshakes: connections that stall in the handshake hold their places for no more than 5 s.
func TestHandshakes(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n1 := w.start("n1", nil)
		w.start("n2", nil)
		for range 20 {
			raw, err := w.network.DialContext(t.Context(), "", "n2")
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
		}
		if _, err := n1.Dial(t.Context(), "n2", "n2", raftLinks); err == nil {
			t.Error("a handshake beyond the limit")
		}
		time.Sleep(5*time.Second + time.Millisecond)
		w.dial(n1, "n2")
	})
}
