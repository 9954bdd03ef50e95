package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/waxwing-mq/waxwing/bench"
	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/internal/launch"
)

// benchTarget finds or starts what is measured. stop ends what was started, and removes its data.
func (a *app) benchTarget(ctx context.Context, f *benchFlags) (*bench.Target, func() error, error) {
	if f.profile != "" {
		var err error
		if f.profile, err = filepath.Abs(f.profile); err != nil {
			return nil, nil, usage("--profile: %w", err)
		}
	}
	t, stop, err := a.benchBrokers(ctx, f)
	if err == nil && f.profile != "" {
		t.Notes = append(t.Notes, "profiles were taken, which costs time: other figures are better ones")
	}
	return t, stop, err
}

func (a *app) benchBrokers(ctx context.Context, f *benchFlags) (_ *bench.Target, stop func() error, err error) {
	against := f.against
	if against == "" && len(a.flags.servers) == 0 && a.flags.context == "" && a.env("WAXWING_SERVER") == "" && a.env("WAXWING_CONTEXT") == "" {
		against = "dev3"
	}
	switch against {
	case "dev1":
		return a.benchCluster(ctx, f, 1)
	case "dev3":
		return a.benchCluster(ctx, f, 3)
	case "self":
		return a.benchSelf(ctx, f)
	case "":
	default:
		a.flags.context = against
	}
	t, err := a.benchContext(f)
	return t, func() error { return nil }, err
}

// benchContext is brokers that are there already.
func (a *app) benchContext(f *benchFlags) (*bench.Target, error) {
	o, err := a.clientOptions()
	if err != nil {
		return nil, err
	}
	t := &bench.Target{Name: cmp.Or(a.flags.context, strings.Join(o.Servers, ",")), Client: o, SameMachine: onThisMachine(o.Servers)}
	for _, address := range f.metrics {
		m, err := newMetrics(o, address)
		if err != nil {
			return nil, err
		}
		t.Nodes = append(t.Nodes, bench.Node{ID: address, Usage: m.usage, Handshakes: m.handshakes})
	}
	return t, nil
}

// onThisMachine says whether an address is one of this machine's.
func onThisMachine(servers []string) bool {
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, s := range servers {
		host, _, err := net.SplitHostPort(s)
		if err != nil {
			host = s
		}
		ips, err := net.LookupIP(host)
		if err != nil {
			return false
		}
		for _, ip := range ips {
			if ip.IsLoopback() {
				return true
			}
			for _, o := range own {
				if n, ok := o.(*net.IPNet); ok && n.IP.Equal(ip) {
					return true
				}
			}
		}
	}
	return false
}

// benchDir is a folder for brokers of a bench.
func benchDir(f *benchFlags) (string, error) {
	setUmask()
	dir, err := os.MkdirTemp(f.dir, "waxwing-bench-")
	if err != nil {
		return "", usage("--dir: %w", err)
	}
	return filepath.Abs(dir)
}

// benchLimits are raised for brokers of a bench: all connections are of one identity, and storms are what some scenarios make.
var benchLimits = map[string]string{
	"WAXWING_LIMITS_CONNECTIONS": "100000", "WAXWING_LIMITS_CONNECTIONS_PER_IDENTITY": "100000", "WAXWING_LIMITS_CONNECTS_PER_SECOND": "1000000",
	"WAXWING_LIMITS_HANDSHAKES_PER_SECOND": "1000000", "WAXWING_LIMITS_HANDSHAKES_AT_ONCE": "4096",
}

// benchNotes say in what brokers of a bench differ from others.
func benchNotes(dir string) []string {
	notes := []string{"limits of connections and handshakes are raised: all clients are one identity"}
	if fs := fileSystem(dir); fs != "" {
		notes = append(notes, "data is on "+fs)
		if fs == "tmpfs" || fs == "ramfs" {
			notes = append(notes, "that is memory: fsync costs nothing here; give --dir on a disk")
		}
	}
	return notes
}

// fileSystem is the type of the file system that holds a folder; "" = not known.
func fileSystem(dir string) (kind string) {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return ""
	}
	longest := -1
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 3 || len(f[1]) < longest || f[1] != "/" && dir != f[1] && !strings.HasPrefix(dir, f[1]+"/") {
			continue
		}
		kind, longest = f[2], len(f[1])
	}
	return kind
}

// benchCluster starts brokers as processes.
func (a *app) benchCluster(ctx context.Context, f *benchFlags, count int) (_ *bench.Target, stop func() error, err error) {
	dir, err := benchDir(f)
	if err != nil {
		return nil, nil, err
	}
	var nodes []*benchNode
	stop = func() error {
		var running []*launch.Process
		for _, n := range nodes {
			running = append(running, n.current())
		}
		stopAll(running)
		return os.RemoveAll(dir)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, stop())
		}
	}()
	files, err := prepareDev(dir, devNames(count))
	if err != nil {
		return nil, nil, fmt.Errorf("prepare %s: %w", dir, err)
	}
	members, err := placeDevNodes("127.0.0.1:0", count)
	if err != nil {
		return nil, nil, err
	}
	for _, m := range members {
		env := append(benchEnvironment(dir, m, members, files), profileEnv+"="+f.profile)
		n := &benchNode{options: launch.Options{Args: []string{"serve"}, Env: env, OwnGroup: true}}
		if a.flags.verbose {
			n.options.Stderr = a.stderr
		}
		if err := n.spawn(); err != nil {
			return nil, nil, err
		}
		nodes = append(nodes, n)
	}
	t := &bench.Target{Name: fmt.Sprintf("dev%d: own brokers, processes on this machine", count), Own: true, SameMachine: true, Notes: benchNotes(dir)}
	t.Client, t.Floor = devClientOptions(files), a.benchFloor(files, members[0].ID)
	for i, n := range nodes { // none is ready before most are
		p := n.current()
		if err := p.AwaitReady(ctx); err != nil {
			return nil, nil, err
		}
		t.Client.Servers = append(t.Client.Servers, p.Ready.Client)
		if n.metrics, err = newMetrics(t.Client, p.Ready.HTTPS); err != nil {
			return nil, nil, err
		}
		t.Nodes = append(t.Nodes, bench.Node{ID: members[i].ID, Addr: p.Ready.Client, Usage: n.usage, Rest: n.rest, Handshakes: n.handshakes, Kill: func() { n.current().Kill() }, Restart: n.restart})
	}
	return t, stop, nil
}

// benchNode is a broker that a bench has started, and may kill and start again.
type benchNode struct {
	options launch.Options

	mu      sync.Mutex
	process *launch.Process // Guarded by mu.
	metrics *metrics        // Guarded by mu once it serves.
}

func (n *benchNode) current() *launch.Process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process
}

// spawn starts the process and does not wait for it.
func (n *benchNode) spawn() error {
	p, err := launch.Spawn(n.options)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.process = p
	return nil
}

// restart starts one that was killed; its HTTPS port is another one then.
func (n *benchNode) restart(ctx context.Context) error {
	if err := n.spawn(); err != nil {
		return err
	}
	p := n.current()
	if err := p.AwaitReady(ctx); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.metrics = &metrics{p.Ready.HTTPS, n.metrics.client}
	return nil
}

func (n *benchNode) usage(ctx context.Context) (bench.Usage, error) {
	n.mu.Lock()
	p, m := n.process, n.metrics
	n.mu.Unlock()
	return usageOf(p.PID(), m)(ctx)
}

// rest has the broker collect garbage, and reads what is in use then.
func (n *benchNode) rest(ctx context.Context) (inUse uint64, err error) {
	n.mu.Lock()
	p, m := n.process, n.metrics
	n.mu.Unlock()
	return m.rest(ctx, func() error { return p.Signal(syscall.SIGUSR1) })
}

func (n *benchNode) handshakes(ctx context.Context) (full, resumed uint64, err error) {
	n.mu.Lock()
	m := n.metrics
	n.mu.Unlock()
	return m.handshakes(ctx)
}

// devClientOptions are those of the developer's client, but for the servers.
func devClientOptions(f *devFiles) client.Options {
	return client.Options{CertFile: f.clientCert, KeyFile: f.clientKey, CAFile: f.roots, DialTimeout: time.Minute, RequestTimeout: time.Minute}
}

// benchEnvironment is the configuration of one broker.
func benchEnvironment(dir string, n devMember, all []devMember, f *devFiles) []string {
	own := f.brokers[n.ID]
	values := map[string]string{
		"WAXWING_NODE_ID": n.ID, "WAXWING_NODE_DATA_DIR": filepath.Join(dir, n.ID), "WAXWING_TRUST_DOMAIN": devTrustDomain,
		"WAXWING_LISTEN_CLIENT": n.Client, "WAXWING_LISTEN_PEER": n.Peer, "WAXWING_LISTEN_HTTPS": "127.0.0.1:0",
		"WAXWING_TLS_CERT": own.cert, "WAXWING_TLS_KEY": own.key, "WAXWING_TLS_CA": f.roots,
		"WAXWING_POLICY_FILE": f.policy, "WAXWING_STORAGE_GUARD_BYTES": strconv.Itoa(devGuardBytes), "WAXWING_LOG_LEVEL": "warn",
	}
	if len(all) > 1 {
		var join []string
		for _, m := range all {
			join = append(join, m.ID+"@"+m.Peer)
		}
		values["WAXWING_CLUSTER_BOOTSTRAP_EXPECT"], values["WAXWING_CLUSTER_JOIN"] = strconv.Itoa(len(all)), strings.Join(join, ",")
	}
	var env []string
	for _, m := range []map[string]string{values, benchLimits} {
		for k, v := range m {
			env = append(env, k+"="+v)
		}
	}
	return env
}

// benchSelf is a broker in this very process.
func (a *app) benchSelf(ctx context.Context, f *benchFlags) (_ *bench.Target, stop func() error, err error) {
	dir, err := benchDir(f)
	if err != nil {
		return nil, nil, err
	}
	remove := func() error { return os.RemoveAll(dir) }
	files, err := prepareDev(dir, devNames(1))
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("prepare %s: %w", dir, err), remove())
	}
	member := devMember{ID: devNode, Client: "127.0.0.1:0", Peer: "127.0.0.1:0"}
	values := map[string]string{}
	for _, line := range benchEnvironment(dir, member, []devMember{member}, files) {
		k, v, _ := strings.Cut(line, "=")
		values[k] = v
	}
	c, err := loadConfig("", func(k string) string { return cmp.Or(values[k], a.env(k)) }, nil)
	if err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	saveMemory(a.env)
	log := slog.New(slog.DiscardHandler)
	if a.flags.verbose {
		log = newLogger(a.stderr, c.LogFormat, new(slog.LevelVar))
	}
	n, err := startNode(context.WithoutCancel(ctx), c, log, a.failStop(log))
	if err != nil {
		return nil, nil, errors.Join(startFault(err), remove())
	}
	r := n.ready()
	t := &bench.Target{Name: "self: a broker in the process of the bench", Client: devClientOptions(files), Own: true, SameMachine: true, OneProcess: true, Notes: benchNotes(dir)}
	t.Client.Servers, t.Floor = []string{r.Client}, a.benchFloor(files, devNode)
	m, err := newMetrics(t.Client, r.HTTPS)
	if err != nil {
		return nil, nil, errors.Join(err, n.stop(), remove())
	}
	t.Nodes = []bench.Node{{ID: r.Node, Addr: r.Client, Usage: usageOf(os.Getpid(), m), Handshakes: m.handshakes}}
	return t, func() error { return errors.Join(n.stop(), remove()) }, nil
}
