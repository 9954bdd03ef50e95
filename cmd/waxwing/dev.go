package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/ca"
	"github.com/waxwing-mq/waxwing/policy"
)

// What a developer's broker is called.
const (
	devTrustDomain = "dev.waxwing.local"
	devNode        = "dev"
	devClient      = "me"
	devContext     = "dev"
	devDataDir     = "data"
	devTTL         = 365 * 24 * time.Hour
)

func newDevCommand(a *app) *cobra.Command {
	var dir, listen string
	var nodes int
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run a broker on this machine, with its own certificates and a policy that lets you do everything",
		Long: `Run a broker on loopback for development. It makes a CA and certificates, lets every client of that CA do everything,
creates topics by themselves, and selects a context named "dev", so that the other commands need no flags.

With --dir the data and the CA (in DIR/pki) are kept; without, they are gone when it stops, and so is the context.

With --nodes 3 it runs three brokers that replicate to each other, each a process of its own: kill one and the others
go on. One that ended stays down until the next start on the same --dir.`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return a.dev(c.Context(), dir, listen, nodes) },
	}
	c.Flags().StringVar(&dir, "dir", "", "folder that keeps data and certificates")
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "client port; must be on loopback")
	c.Flags().IntVar(&nodes, "nodes", 1, "brokers: 1, 3 or 5")
	return c
}

// dev prepares a folder and serves from it.
func (a *app) dev(ctx context.Context, dir, listen string, nodes int) error {
	if err := errors.Join(checkLoopback(listen), checkDevNodes(nodes)); err != nil {
		return err
	}
	setUmask()
	if dir == "" {
		temporary, err := os.MkdirTemp("", "waxwing-dev-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temporary)
		defer a.restoreContexts(temporary)()
		dir = temporary
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	files, err := prepareDev(dir, devNames(nodes))
	if err != nil {
		return fmt.Errorf("prepare %s: %w", dir, err)
	}
	if nodes > 1 {
		return a.devCluster(ctx, dir, listen, nodes, files)
	}
	if _, err := os.Stat(filepath.Join(dir, devNodesFile)); err == nil {
		return usage("%s holds several nodes; start them with --nodes", dir)
	}
	return a.serveDev(ctx, dir, listen, files)
}

// serveDev runs the broker.
func (a *app) serveDev(ctx context.Context, dir, listen string, files *devFiles) error {
	c := newConfig()
	c.NodeID, c.DataDir, c.TrustDomain = devNode, filepath.Join(dir, devDataDir), devTrustDomain
	c.ListenClient, c.ListenPeer, c.ListenHTTPS = listen, "127.0.0.1:0", "127.0.0.1:0"
	own := files.brokers[devNode]
	c.TLSCert, c.TLSKey, c.TLSCA = own.cert, own.key, files.roots
	c.PolicyFile = files.policy
	c.GuardBytes = devGuardBytes
	c.LogLevel = "warn"
	if a.flags.verbose {
		c.LogLevel = "info"
	}
	return a.serve(ctx, c, func() string { return c.LogLevel }, func(n *node) error { return a.introduceDev(n, files) })
}

// devGuardBytes is less than a tenth of the disk: a developer's is often nearly full.
const devGuardBytes = 1 << 30

// introduceDev selects the context and says how to go on.
func (a *app) introduceDev(n *node, f *devFiles) error {
	addr := n.client.Addr().String()
	if err := a.saveContext(devContext, contextEntry{Servers: []string{addr}, Cert: f.clientCert, Key: f.clientKey, CA: f.roots}); err != nil {
		return err
	}
	program := invocation()
	a.say("broker on %s; context \"dev\" is selected; ^C stops it. In other terminals:", addr)
	_, err := fmt.Fprintf(a.stdout, "%s sub 'greetings.>'\necho hello | %s pub greetings.en\n", program, program)
	return err
}

// invocation is what a shell in any folder starts this very program by.
func invocation() string {
	self, err := os.Executable()
	if err != nil {
		return "waxwing"
	}
	mine, err := os.Stat(self)
	if found, lookErr := exec.LookPath("waxwing"); err == nil && lookErr == nil {
		if other, err := os.Stat(found); err == nil && os.SameFile(mine, other) {
			return "waxwing"
		}
	}
	return "'" + strings.ReplaceAll(self, "'", `'\''`) + "'"
}

// restoreContexts notes the contexts of now. What it returns puts them back where they point into a folder
// that is gone: a context that another dev has written meanwhile stays.
func (a *app) restoreContexts(dir string) func() {
	before, err := a.loadContexts()
	if err != nil {
		return func() {}
	}
	return func() {
		c, err := a.loadContexts()
		if err != nil || !strings.HasPrefix(c.Named[devContext].Cert, dir+string(filepath.Separator)) {
			return
		}
		delete(c.Named, devContext)
		if old, ok := before.Named[devContext]; ok {
			c.Named[devContext] = old
		}
		if _, ok := c.Named[before.Current]; c.Current == devContext && ok {
			c.Current = before.Current
		} else if _, ok := c.Named[c.Current]; !ok {
			c.Current = ""
		}
		if err := a.saveContexts(c); err != nil {
			a.say("note: the context %q points at files that are gone: %v", devContext, err)
		}
	}
}

// checkLoopback keeps a permissive broker on this machine.
func checkLoopback(listen string) error {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return usage("--listen %q is no HOST:PORT: %w", listen, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return usage("--listen %q: dev lets everybody do everything, so it stays on loopback; use waxwing serve for more", listen)
	}
	return nil
}

// devFiles are the files that dev works with.
type devFiles struct {
	roots, policy         string
	clientCert, clientKey string
	brokers               map[string]keyFiles // by node
}

// keyFiles are a certificate and its key.
type keyFiles struct{ cert, key string }

// devNames are the names of so many nodes.
func devNames(count int) []string {
	if count == 1 {
		return []string{devNode}
	}
	var names []string
	for i := range count {
		names = append(names, fmt.Sprintf("%s-%d", devNode, i+1))
	}
	return names
}

// prepareDev makes what is missing, and renews certificates that end soon.
func prepareDev(dir string, names []string) (*devFiles, error) {
	pki := filepath.Join(dir, "pki")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	authority, err := ca.Open(pki)
	if errors.Is(err, os.ErrNotExist) {
		authority, err = ca.Init(pki, devTrustDomain)
	}
	if err != nil {
		return nil, err
	}
	f := &devFiles{roots: filepath.Join(pki, ca.RootsFile), policy: filepath.Join(dir, "policy.yaml"),
		clientCert: filepath.Join(pki, devClient+".crt"), clientKey: filepath.Join(pki, devClient+".key"), brokers: map[string]keyFiles{}}
	for _, name := range names {
		own := keyFiles{filepath.Join(pki, name+".crt"), filepath.Join(pki, name+".key")}
		f.brokers[name] = own
		broker := ca.Request{Name: name, Role: identity.RoleBroker, DNS: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, TTL: devTTL}
		if err := issueIfDue(authority, broker, own.cert, own.key); err != nil {
			return nil, err
		}
	}
	return f, errors.Join(
		issueIfDue(authority, ca.Request{Name: devClient, TTL: devTTL}, f.clientCert, f.clientKey),
		writeOnce(f.policy, policy.Dev(devTrustDomain)),
	)
}

// writeOnce writes a file that the developer may have changed since.
func writeOnce(name string, text []byte) error {
	if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return ca.WriteFile(name, text, 0o600)
}

// issueIfDue issues a certificate unless there is one that lives another month.
func issueIfDue(authority *ca.Authority, r ca.Request, certFile, keyFile string) error {
	if pair, err := identity.LoadPair(certFile, keyFile); err == nil && time.Until(pair.Leaf.NotAfter) > 30*24*time.Hour {
		return nil
	}
	i, err := authority.Issue(r)
	if err != nil {
		return err
	}
	return errors.Join(ca.WriteFile(keyFile, i.KeyPEM, 0o600), ca.WriteFile(certFile, i.CertPEM, 0o644))
}
