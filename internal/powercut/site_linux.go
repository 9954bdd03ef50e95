package powercut

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/ca"
	"github.com/waxwing-mq/waxwing/internal/launch"
	"github.com/waxwing-mq/waxwing/policy"
)

const (
	trustDomain = "powercut.example"
	nodeName    = "n1"
	// publisherName writes before a cut, successorName reads and writes after it.
	publisherName = "publisher"
	successorName = "successor"
)

// publisherID is the principal that a broker must name as the publisher.
var publisherID = identity.ClientID(trustDomain, publisherName)

// site is what brokers need beside their data folders: certificates, a policy and configurations.
type site struct {
	dir       string
	authority *ca.Authority
	start     launch.Options
}

func newSite(dir string, start launch.Options) (*site, error) {
	authority, err := ca.New(trustDomain)
	if err != nil {
		return nil, fmt.Errorf("new site: %w", err)
	}
	s := &site{dir: dir, authority: authority, start: start}
	return s, errors.Join(s.write("roots.crt", authority.RootsPEM()), s.write("policy.yaml", policy.Dev(trustDomain)))
}

// configure writes certificate and configuration of a node that listens on ip; a configuration without more than that is of one
// that is alone.
func (s *site) configure(id string, ip net.IP, listen, more string) error {
	node, err := s.authority.Issue(ca.Request{Name: id, Role: identity.RoleBroker, DNS: []string{"localhost"}, IPs: []net.IP{ip}})
	if err != nil {
		return fmt.Errorf("new site: %w", err)
	}
	config := fmt.Appendf(nil, "node: {id: %s}\ntrust_domain: %s\nlisten: {%s, https: \"\"}\ntls: {cert: %q, key: %q, ca: %q}\npolicy: {file: %q}\n"+
		"storage: {segment_bytes: 1048576, retention_interval: 1s, guard_bytes: 268435456}\n%s", // many segments in a short life
		id, trustDomain, listen, s.path(id+".crt"), s.path(id+".key"), s.path("roots.crt"), s.path("policy.yaml"), more)
	return errors.Join(s.write(id+".crt", node.CertPEM), s.write(id+".key", node.KeyPEM), s.write(id+".yaml", config))
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(name string, text []byte) error {
	if err := os.WriteFile(s.path(name), text, 0o600); err != nil {
		return fmt.Errorf("new site: %w", err)
	}
	return nil
}

// spawn starts a node on a disk, under another program if one is named, and does not wait for it.
func (s *site) spawn(id string, d *Disk, under []string, env ...string) (*launch.Process, error) {
	o := s.start
	o.Args = slices.Concat(o.Args, []string{"serve", "-c", s.path(id + ".yaml"), "--node-data-dir", filepath.Join(d.Dir, "data")})
	o.Env = slices.Concat(o.Env, env)
	if len(under) > 0 {
		if o.Binary == "" {
			self, err := os.Executable()
			if err != nil {
				return nil, fmt.Errorf("start broker: %w", err)
			}
			o.Binary = self
		}
		o.Args = slices.Concat(under[1:], []string{o.Binary}, o.Args)
		o.Binary = under[0]
	}
	return launch.Spawn(o)
}

// dial connects a client to wherever the gate leads at the time.
func (s *site) dial(ctx context.Context, name string, g *gate) (*client.Client, error) {
	return s.connect(ctx, name, []string{"localhost"}, func(ctx context.Context, network, _ string) (net.Conn, error) {
		address, err := g.await(ctx)
		if err != nil {
			return nil, err
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	})
}

// connect connects a client that never gives up on what it was given.
func (s *site) connect(ctx context.Context, name string, servers []string, dialer func(ctx context.Context, network, address string) (net.Conn, error)) (*client.Client, error) {
	issued, err := s.authority.Issue(ca.Request{Name: name})
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	return client.Dial(ctx, client.Options{Servers: servers, CertPEM: issued.CertPEM, KeyPEM: issued.KeyPEM, CAPEM: s.authority.RootsPEM(), RequestTimeout: -1, Dialer: dialer})
}
