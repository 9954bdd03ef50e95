package client

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// Defaults of Options.
const (
	DefaultPort           = "7420"
	DefaultDialTimeout    = 10 * time.Second
	DefaultRequestTimeout = time.Minute
	DefaultKeepAlive      = 15 * time.Second
	DefaultWindowBytes    = 8 << 20
	DefaultBatchBytes     = 256 << 10
)

// Options say which brokers to talk to and as whom. Servers and one certificate
// are required; everything else has a default.
//
// Certificate, key and CA come from files or, when the program got them another
// way, as PEM bytes; files are watched and reloaded when they change.
type Options struct {
	// Servers are broker addresses, "host:port" or "host" (port 7420). They are
	// tried in order; the first that welcomes the client is used, and after a lost
	// connection the client goes on with the next. When another one of them leads, publishing
	// moves there; see StayOnServer.
	Servers []string

	// CertFile, KeyFile and CAFile are PEM files: the client's certificate with its
	// intermediates, its private key, and the roots that the broker must chain to.
	CertFile, KeyFile, CAFile string
	// CertPEM, KeyPEM and CAPEM hold the same as bytes and are used where the file
	// name is empty.
	CertPEM, KeyPEM, CAPEM []byte

	// ServerName is the host name that the broker's certificate must have. Default:
	// the host of the server's address.
	ServerName string
	// TrustDomain is the SPIFFE trust domain that the broker must belong to.
	// Default: the one of the client's own certificate.
	TrustDomain string

	// WithoutQuorum has a node welcome the client also while it has no leader. Then it answers Cluster.Status, and refuses everything
	// else; see ErrNoQuorum.
	WithoutQuorum bool

	// Name tells the broker's log which program this is, at most 128 bytes.
	Name string

	// Dialer opens the network connection that TLS then runs on. Default: a
	// net.Dialer. Proxies and tests put theirs here.
	Dialer func(ctx context.Context, network, addr string) (net.Conn, error)
	// DialTimeout bounds one attempt at one server, from the first packet to the
	// broker's WELCOME. Default 10 s.
	DialTimeout time.Duration
	// RequestTimeout bounds how long a record, or a request whose context has no
	// deadline, may stay without an answer, over all retries and reconnects.
	// Default 1 min; negative means for ever.
	RequestTimeout time.Duration
	// KeepAlive is how long a connection may be silent before it is probed; it is
	// given up after three times that. Default 15 s.
	KeepAlive time.Duration

	// WindowBytes bounds the encoded records that are buffered or unacknowledged;
	// beyond it PublishAsync waits. Default 8 MiB.
	WindowBytes int
	// BatchBytes bounds one batch while there is a backlog. Default 256 KiB. One
	// larger record still travels, as a batch of its own.
	BatchBytes int

	// StayOnServer keeps publishing on the connection to the server that welcomed the client, which passes records on
	// to the leader. Default: while another one of Servers leads, records travel over a second connection, to the leader.
	StayOnServer bool

	// Logger gets a line per connect, disconnect and reload. Default: discard.
	Logger *slog.Logger
	// OnEvent is told what happens to the connection. It is called from one
	// goroutine, in order; while it does not return, up to 64 events wait and the
	// oldest beyond that are dropped. It must not call Close, which waits for it.
	// Default: none.
	OnEvent func(Event)
}

// withDefaults fills in what is zero and reports what is wrong.
func (o Options) withDefaults() (Options, error) {
	if len(o.Servers) == 0 {
		return o, fmt.Errorf("%w: no servers; set Servers to at least one \"host:port\" of a broker", ErrOptions)
	}
	servers := make([]string, len(o.Servers))
	for i, s := range o.Servers {
		addr, err := serverAddr(s)
		if err != nil {
			return o, err
		}
		servers[i] = addr
	}
	o.Servers = servers
	if len(o.Name) > 128 {
		return o, fmt.Errorf("%w: Name has %d bytes, at most 128 are allowed; shorten it", ErrOptions, len(o.Name))
	}
	setDefault(&o.DialTimeout, DefaultDialTimeout)
	setDefault(&o.RequestTimeout, DefaultRequestTimeout)
	setDefault(&o.KeepAlive, DefaultKeepAlive)
	setDefault(&o.WindowBytes, DefaultWindowBytes)
	setDefault(&o.BatchBytes, DefaultBatchBytes)
	if o.DialTimeout < 0 || o.KeepAlive < 0 || o.WindowBytes < 0 || o.BatchBytes < 0 {
		return o, fmt.Errorf("%w: DialTimeout, KeepAlive, WindowBytes and BatchBytes may not be negative; leave them 0 for the default", ErrOptions)
	}
	if o.Dialer == nil {
		o.Dialer = new(net.Dialer).DialContext
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// serverAddr adds the default port to a bare host.
func serverAddr(s string) (string, error) {
	if s == "" {
		return "", fmt.Errorf("%w: an entry of Servers is empty; write \"host:port\"", ErrOptions)
	}
	if _, _, err := net.SplitHostPort(s); err == nil {
		return s, nil
	}
	addr := net.JoinHostPort(s, DefaultPort)
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return "", fmt.Errorf("%w: server %q is not \"host:port\": %w", ErrOptions, s, err)
	}
	return addr, nil
}
