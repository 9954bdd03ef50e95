package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/protocol"
)

// T-18: the client refuses a server that is not a broker of its trust domain under the
// name it dialled, says why, and sends nothing: not even HELLO.
func TestT18WrongServer(t *testing.T) {
	for name, tt := range map[string]struct {
		id, host string
		otherCA  bool
		change   func(*client.Options)
		want     string
	}{
		"other host":              {id: "spiffe://test/broker/b1", host: "elsewhere.test", want: "elsewhere.test"},
		"name given, not in cert": {id: "spiffe://test/broker/b1", host: "broker.test", change: func(o *client.Options) { o.ServerName = "sni.test" }, want: "sni.test"},
		"a client, not a broker":  {id: "spiffe://test/client/orders", host: "broker.test", want: "broker"},
		"other trust domain":      {id: "spiffe://evil/broker/b1", host: "broker.test", want: "trust domain"},
		"other CA":                {id: "spiffe://test/broker/b1", host: "broker.test", otherCA: true, want: "CA"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				issuer := w.ca
				if tt.otherCA {
					issuer = newCA(t)
				}
				server := issuer.serverConfig(tt.id, tt.host)
				server.ClientCAs = w.broker.tls.ClientCAs
				w.broker.tls = server
				if tt.change != nil {
					tt.change(&w.options)
				}
				_, err := client.Dial(t.Context(), w.options)
				e, ok := errors.AsType[*client.TLSError](err)
				if !ok || e.What == "" || e.Next == "" {
					t.Fatalf("got %v", err)
				}
				if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), fakeAddr) {
					t.Errorf("%q does not name %q and the server", err, tt.want)
				}
				synctest.Wait()
				if w.broker.hellos != 0 {
					t.Error("the client said HELLO")
				}
			})
		})
	}
}

// A broker that does not take the client's certificate is a TLS error in words.
func TestDialCertificateRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.options.CertPEM, w.options.KeyPEM = newCA(t).issue("spiffe://test/client/orders", "")
		_, err := client.Dial(t.Context(), w.options)
		if e, ok := errors.AsType[*client.TLSError](err); !ok || e.Next == "" {
			t.Errorf("got %v", err)
		}
	})
}

// A plain TCP server is told apart from a broker.
func TestDialNotTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, err := w.network.Listen("web.test:80")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			conn.Read(make([]byte, 4096))
			conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			conn.Read(make([]byte, 4096)) // until the client hangs up
		}()
		w.options.Servers = []string{"web.test:80"}
		_, err = client.Dial(t.Context(), w.options)
		if _, ok := errors.AsType[*client.TLSError](err); !ok {
			t.Errorf("got %v", err)
		}
	})
}

// T-17: certificate and key are replaced while records flow; nothing is dropped, the
// next connection uses the new ones, and bad files change nothing and are reported.
func TestT17RotationUnderLoad(t *testing.T) {
	lane.Need(t, 2, "T-17")
	w := newWorld(t)
	w.broker.create("orders", 1)
	cert, key, root := writeFiles(t, t.TempDir(), w.options.CertPEM, w.options.KeyPEM, w.options.CAPEM)
	serials := make(chan string, 64)
	w.broker.tls.VerifyConnection = func(cs tls.ConnectionState) error {
		serials <- cs.PeerCertificates[0].SerialNumber.String()
		return nil
	}
	failed := make(chan error, 16)
	c := w.dial(func(o *client.Options) {
		o.CertPEM, o.KeyPEM, o.CAPEM = nil, nil, nil
		o.CertFile, o.KeyFile, o.CAFile = cert, key, root
		o.OnEvent = func(e client.Event) {
			if r, ok := e.(*client.ReloadFailedEvent); ok {
				failed <- r.Err
			}
		}
	})
	first := <-serials
	load := startLoad(t, c)

	newCert, newKey := w.ca.issue("spiffe://test/client/orders", "")
	replace(t, key, []byte("not a key"))
	if err := <-failed; err == nil {
		t.Error("a bad file was not reported")
	}
	w.broker.cut()
	if again := <-serials; again != first {
		t.Error("a bad file was used")
	}
	replace(t, cert, newCert)
	<-failed // certificate and key do not fit yet
	replace(t, key, newKey)
	for serial := first; serial == first; { // each cut is a new connection; the reload comes soon
		w.broker.cut()
		serial = <-serials
	}
	w.wantRecords("orders", load.stop())
}

func replace(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// load publishes until it is stopped and fails the test if one record fails.
type load struct {
	t       *testing.T
	ended   atomic.Bool
	records chan int
}

func startLoad(t *testing.T, c *client.Client) *load {
	l := &load{t: t, records: make(chan int, 1)}
	go func() {
		n := 0
		for ; !l.ended.Load(); n++ {
			if _, err := c.Publish(context.Background(), "orders", client.Record{Body: body(n)}); err != nil {
				t.Errorf("record %d: %v", n, err)
				break
			}
		}
		l.records <- n
	}()
	return l
}

// stop returns how many records were acknowledged.
func (l *load) stop() int {
	l.ended.Store(true)
	return <-l.records
}

// The certificate of a connection may end; the client then comes back by itself, as
// with any other loss.
func TestExpiringAndClosingEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		events := make(chan client.Event, 16)
		w.dial(func(o *client.Options) { o.OnEvent = func(e client.Event) { events <- e } })
		<-events // connected
		end := time.Now().Add(time.Hour).Truncate(time.Millisecond)
		w.broker.event(&protocol.Event{Type: protocol.EventExpiring, Value: uint64(end.UnixMilli())})
		w.broker.event(&protocol.Event{Type: protocol.EventClosing, Code: protocol.CodeExpired, Text: "the certificate has expired"})
		w.broker.event(&protocol.Event{Type: protocol.EventLeader, Text: "b2:7420"})
		w.broker.event(&protocol.Event{Type: protocol.EventPolicy, Value: 9})
		if e := (<-events).(*client.ExpiringEvent); !e.NotAfter.Equal(end) {
			t.Errorf("got %v", e)
		}
		if e := (<-events).(*client.ClosingEvent); e.Reason != "the certificate has expired" {
			t.Errorf("got %v", e)
		}
		if e := (<-events).(*client.LeaderEvent); e.Server != "b2:7420" {
			t.Errorf("got %v", e)
		}
		if e := (<-events).(*client.PolicyEvent); e.Version != 9 {
			t.Errorf("got %v", e)
		}
	})
}
