package broker_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxwing-mq/waxwing/broker"
	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/ca"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/internal/memnet"
	"github.com/waxwing-mq/waxwing/protocol"
)

const bubbleAddress = "n1.test:7420"

// inBubble starts a whole node in a synctest bubble, behind a network in memory: its deadlines cost no time.
func inBubble(t *testing.T, change func(*broker.Limits)) (*brokertest.Node, *memnet.Network) {
	t.Helper()
	network, limits := new(memnet.Network), broker.DefaultLimits()
	change(&limits)
	return brokertest.Start(t, brokertest.Options{Limits: limits, Listen: func() (net.Listener, error) { return network.Listen(bubbleAddress) }, Dial: network.DialContext}), network
}

// short is a connection that lets so many bytes out, and swallows the rest.
type short struct {
	net.Conn
	left int
}

func (s *short) Write(p []byte) (int, error) {
	k := min(len(p), s.left)
	s.left -= k
	if k > 0 {
		if _, err := s.Conn.Write(p[:k]); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// TestT13StallAtEachByte begins handshakes that stop at each byte of what the client says, HELLO included: each ends
// when its time is over, in silence or with an alert, and never before.
func TestT13StallAtEachByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, network := inBubble(t, func(l *broker.Limits) { l.HandshakesAtOnce, l.HandshakesPerSecond = 10_000, 100_000 })
		cert := n.PKI.Client("slow")
		dial := func() net.Conn {
			c, err := network.DialContext(t.Context(), "tcp", bubbleAddress)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		hello := (&protocol.Hello{Versions: []uint64{protocol.Version}}).AppendFrame(nil, 1)
		// How many bytes a client sends altogether.
		whole := &short{dial(), 1 << 30}
		c := tls.Client(whole, n.PKI.ClientConfig(cert, identity.ALPNClient))
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		c.Write(hello)
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		all := 1<<30 - whole.left
		whole.Conn.Close()
		start := time.Now()
		var wg sync.WaitGroup
		stalled := 0
		places := []int{all - 20}                             // inside HELLO
		for at := 0; at < all-12; at += lane.Pick(61, 1, 1) { // signatures differ by a few bytes
			places = append(places, at)
		}
		for _, at := range places {
			stalled++
			wg.Go(func() {
				s := &short{dial(), at}
				defer s.Conn.Close()
				c := tls.Client(s, n.PKI.ClientConfig(cert, identity.ALPNClient))
				err := c.Handshake()
				if err == nil {
					c.Write(hello)
					_, err = io.Copy(io.Discard, c)
				}
				if held := time.Since(start); held != 5*time.Second {
					t.Errorf("stopped at byte %d of %d: held for %v, %v", at, all, held, err)
				}
			})
		}
		wg.Wait()
		t.Logf("%d handshakes of %d bytes", stalled, all)
	})
}

// TestT13SlowDrip sends half a length, half a frame, and a frame a byte a second: each is cut 5 s after its first byte, with
// the reason, while a client that is silent between frames for an hour is not.
func TestT13SlowDrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, network := inBubble(t, func(*broker.Limits) {})
		var conns []*rawTLS
		for range 4 {
			conns = append(conns, dialRaw(t, n, network, "raw"))
		}
		frame, idle := (&protocol.TopicGet{Name: strings.Repeat("a", 200)}).AppendFrame(nil, 1), conns[3]
		start := time.Now()
		conns[0].Write(frame[:2])
		conns[1].Write(frame[:100])
		go func() {
			for _, b := range frame {
				if _, err := conns[2].Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		for i, c := range conns[:3] {
			e, ok := c.frame().(*protocol.Event)
			if !ok || e.Code != protocol.CodeTimeout || time.Since(start) != 5*time.Second {
				t.Errorf("%d: %#v after %v", i, e, time.Since(start))
			}
			c.Close()
		}
		time.Sleep(time.Hour - 10*time.Minute)
		idle.Write((&protocol.Ping{Payload: 7}).AppendFrame(nil, 1))
		if m, ok := idle.frame().(*protocol.Pong); !ok || m.Payload != 7 {
			t.Errorf("the silent one: %#v", m)
		}
		idle.Close()
	})
}

// rawTLS is a client that can also write TLS records of its own, with the keys of the connection.
type rawTLS struct {
	*tls.Conn
	t      *testing.T
	plain  net.Conn
	frames *protocol.FrameReader
	sent   uint64 // records under the current key
	secret []byte
}

// dialRaw shakes hands as a client and says HELLO.
func dialRaw(t *testing.T, n *brokertest.Node, network *memnet.Network, name string) *rawTLS {
	t.Helper()
	return dialRawCert(t, n, network, n.PKI.Client(name))
}

func dialRawCert(t *testing.T, n *brokertest.Node, network *memnet.Network, cert *ca.Issued) *rawTLS {
	t.Helper()
	plain, err := network.DialContext(t.Context(), "tcp", bubbleAddress)
	if err != nil {
		t.Fatal(err)
	}
	var keys bytes.Buffer
	conf := n.PKI.ClientConfig(cert, identity.ALPNClient)
	conf.KeyLogWriter = &keys
	r := &rawTLS{Conn: tls.Client(plain, conf), t: t, plain: plain}
	if err := r.Handshake(); err != nil {
		t.Fatal(err)
	}
	if r.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skip("T-13: this machine negotiates another cipher than AES-128-GCM")
	}
	for line := range strings.Lines(keys.String()) {
		if f := strings.Fields(line); f[0] == "CLIENT_TRAFFIC_SECRET_0" {
			r.secret, _ = hex.DecodeString(f[2])
		}
	}
	r.frames = protocol.NewFrameReader(r.Conn, 1<<20)
	if _, err := r.Write((&protocol.Hello{Versions: []uint64{protocol.Version}}).AppendFrame(nil, 1)); err != nil {
		t.Fatal(err)
	}
	r.sent = 1
	if m := r.frame(); m.Kind() != protocol.KindWelcome {
		t.Fatalf("%#v", m)
	}
	return r
}

// frame reads the next frame.
func (r *rawTLS) frame() protocol.Message {
	r.t.Helper()
	body, err := r.frames.Next()
	if err != nil {
		r.t.Fatal(err)
	}
	_, m, err := protocol.Decode(bytes.Clone(body))
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// derive is HKDF-Expand-Label of RFC 8446, section 7.1, without context.
func (r *rawTLS) derive(label string, bytes int) []byte {
	label = "tls13 " + label
	info := append(binary.BigEndian.AppendUint16(nil, uint16(bytes)), byte(len(label)))
	key, err := hkdf.Expand(sha256.New, r.secret, string(append(append(info, label...), 0)), bytes)
	if err != nil {
		r.t.Fatal(err)
	}
	return key
}

// Content types and messages of TLS.
const (
	typeHandshake   = 22
	typeApplication = 23
)

var keyUpdate = []byte{24, 0, 0, 1, 1} // with a request to update in turn

// record writes one encrypted record of a content type.
func (r *rawTLS) record(kind byte, content []byte) error {
	block, err := aes.NewCipher(r.derive("key", 16))
	if err != nil {
		r.t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		r.t.Fatal(err)
	}
	nonce := r.derive("iv", 12)
	for i := range 8 {
		nonce[11-i] ^= byte(r.sent >> (8 * i))
	}
	r.sent++
	head := []byte{typeApplication, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(head[3:], uint16(len(content)+1+aead.Overhead()))
	_, err = r.plain.Write(aead.Seal(head, nonce, append(bytes.Clone(content), kind), head))
	return err
}

// update sends a KeyUpdate and takes the new key.
func (r *rawTLS) update() error {
	err := r.record(typeHandshake, keyUpdate)
	r.secret, r.sent = r.derive("traffic upd", 32), 0
	return err
}

// ended reads until the broker ends the connection.
func (r *rawTLS) ended() error {
	_, err := io.Copy(io.Discard, r.Conn)
	return err
}

// TestT13KeyUpdates lets a client take new keys, which is its right, also after a long silence, and flood the broker with it,
// or begin a second handshake, which ends the connection.
func TestT13KeyUpdates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, network := inBubble(t, func(*broker.Limits) {})
		ping := (&protocol.Ping{Payload: 7}).AppendFrame(nil, 1)
		polite := dialRaw(t, n, network, "raw")
		for range 3 {
			time.Sleep(time.Minute) // longer than any deadline of a write
			if err := polite.update(); err != nil {
				t.Fatal(err)
			}
			if err := polite.record(typeApplication, ping); err != nil {
				t.Fatal(err)
			}
			if m, ok := polite.frame().(*protocol.Pong); !ok || m.Payload != 7 {
				t.Fatalf("%#v", m)
			}
		}
		flood := dialRaw(t, n, network, "raw")
		start, updates := time.Now(), 0
		for ; updates < 100_000; updates++ {
			if flood.update() != nil {
				break
			}
			if updates%8 == 0 { // so that it is not cut for that the broker's answers fill the pipe
				synctest.Wait()
			}
		}
		if err := flood.ended(); !ends(err) || updates > 1000 || time.Since(start) > 5*time.Second {
			t.Errorf("%d key updates in a row: %v after %v", updates, err, time.Since(start))
		}
		for name, message := range map[string][]byte{
			"a second ClientHello": {1, 0, 0, 2, 3, 3}, "a HelloRequest": {0, 0, 0, 0}, "a Finished": append([]byte{20, 0, 0, 32}, make([]byte, 32)...),
			"a huge message": {24, 0xff, 0xff, 0xff, 1},
		} {
			again := dialRaw(t, n, network, "raw")
			synctest.Wait() // crypto/tls answers a huge message without its own lock: nothing may be under way beside it
			if err := again.record(typeHandshake, message); err != nil {
				t.Fatal(err)
			}
			if err := again.ended(); !ends(err) {
				t.Errorf("%s: %v", name, err)
			}
			again.plain.Close()
		}
		if err := polite.record(typeApplication, ping); err != nil {
			t.Fatal(err)
		}
		if m := polite.frame(); m.Kind() != protocol.KindPong {
			t.Errorf("others: %#v", m)
		}
		polite.plain.Close()
		flood.plain.Close()
	})
}

// ends reports whether reading ended because the broker did: with an alert, an end, or a closed pipe.
func ends(err error) bool {
	return err == nil || strings.Contains(err.Error(), "remote error: tls") || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}
