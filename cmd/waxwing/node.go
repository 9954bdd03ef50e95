package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/waxwing-mq/waxwing/admin"
	"github.com/waxwing-mq/waxwing/broker"
	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/cluster/peer"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/internal/launch"
	"github.com/waxwing-mq/waxwing/policy"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
)

// node is a broker of the given configuration, wired together:
//
//	7420 clients ──> broker ──propose──> cluster ──fsync──> raft log
//	                   │  ^                 │ apply
//	                   │  └───── reads ── storage <──┘      (Badger)
//	7422 https ──> admin ──> policy of broker, metrics of all
//	7421 peers ──> cluster/peer ──raft──> cluster; a node that is alone refuses them
//	               identity: certificates, revocations and tls.Configs of all three
//
// It starts from right to left and stops from left to right; but for https, which serves from the start.
type node struct {
	config   *config
	log      *slog.Logger
	registry *prometheus.Registry
	identity *identity.Source
	storage  *storage.Log
	group    *cluster.Group
	broker   *broker.Server
	admin    *admin.Server
	links    *peer.Links

	// What the HTTPS surface may look at, which serves before they are there.
	opened  atomic.Pointer[cluster.Group]
	serving atomic.Pointer[broker.Server]

	client, peer, https net.Listener
	work                sync.WaitGroup
	cancel              context.CancelFunc
	closed              sync.Once
	closeErr            error
}

// heapLive is one metric more of Go's than its collector has by itself: what was in use at the last collection, without what became garbage since.
var heapLive = collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/gc/heap/live:bytes$`)}

// Times of a stop.
const (
	stopTimeout  = 10 * time.Second
	readyTimeout = 10 * time.Minute // a long log takes its time to replay

	policyTimeout = 30 * time.Second // for another node to set the first policy
)

// startNode starts every part; when one fails, those before it are stopped. fail is called when
// the node must end at once.
func startNode(ctx context.Context, c *config, log *slog.Logger, fail func(error)) (_ *node, err error) {
	n := &node{config: c, log: log, registry: prometheus.NewRegistry()}
	n.registry.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(heapLive)), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	defer func() {
		if err != nil {
			err = errors.Join(err, n.stop())
		}
	}()
	if n.identity, err = identity.Open(identity.Options{TrustDomain: c.TrustDomain, CertFile: c.TLSCert, KeyFile: c.TLSKey, CAFile: c.TLSCA, CRLFile: c.TLSCRL, Rules: c.Rules, Logger: log, Registerer: n.registry}); err != nil {
		return nil, usage("%w", err)
	}
	if self := n.identity.Self(); self.Node != c.NodeID {
		return nil, usage("node.id is %q, but the certificate %s is of node %q", c.NodeID, c.TLSCert, self.Node)
	}
	if err := n.listen(); err != nil {
		return nil, err
	}
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	n.cancel = cancel
	n.work.Go(func() { n.ended("certificates", n.identity.Run(background)) })
	n.serveHTTPS(background)
	if err := n.startLog(ctx, background, fail); err != nil {
		return nil, err
	}
	if err := n.firstPolicy(ctx); err != nil {
		return nil, err
	}
	return n, n.serve(background)
}

// listen opens the ports first: an address in use must not cost a replay.
func (n *node) listen() (err error) {
	for _, l := range []struct {
		key, address string
		to           *net.Listener
	}{{"listen.client", n.config.ListenClient, &n.client}, {"listen.peer", n.config.ListenPeer, &n.peer}, {"listen.https", n.config.ListenHTTPS, &n.https}} {
		if l.address == "" {
			continue
		}
		if *l.to, err = net.Listen("tcp", l.address); err != nil {
			return &exitError{exitFailure, fmt.Errorf("%s: %w", l.key, err)}
		}
	}
	return nil
}

// startLog opens storage and raft and waits for the replay.
func (n *node) startLog(ctx, background context.Context, fail func(error)) (err error) {
	dir := n.config.DataDir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return usage("node.data_dir: %w", err)
	}
	lock, err := cluster.Lock(dir, n.config.NodeID) // before storage empties its folder
	if err != nil {
		return err
	}
	if n.storage, err = storage.Open(storage.Options{Dir: filepath.Join(dir, "storage"), SegmentBytes: int64(n.config.SegmentBytes), GuardBytes: uint64(n.config.GuardBytes), ScrubBytesPerSecond: int64(n.config.ScrubRate), ScrubInterval: duration(n.config.ScrubInterval), Replicated: len(n.config.Join) > 0, Logger: n.log, Registerer: n.registry, Fail: fail}); err != nil {
		return errors.Join(err, lock.Close())
	}
	n.group, err = cluster.Open(ctx, cluster.Options{Dir: dir, NodeID: n.config.NodeID, Lock: lock, Log: n.storage, Limits: state.Limits{}, SegmentBytes: int64(n.config.SegmentBytes), SegmentAge: duration(n.config.SegmentAge), RetainEvery: duration(n.config.RetainEvery), StallReject: duration(n.config.StallReject), StallEnd: duration(n.config.StallEnd), Logger: n.log, Registerer: n.registry, Fail: fail, Peers: n.peers(), Facts: n.facts})
	if err != nil {
		return err
	}
	n.opened.Store(n.group)
	n.work.Go(func() { n.ended("storage", n.storage.Run(background)) })
	n.work.Go(func() { n.ended("group", n.group.Run(background)) })
	if len(n.config.Join) == 0 { // several wait for each other, for as long as it takes
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, readyTimeout, errors.New("the log was not replayed in time"))
		defer cancel()
	}
	if err := n.group.Ready(ctx); err != nil {
		return err
	}
	debug.FreeOSMemory() // a replay reads a segment's worth at once, and nobody needs it again
	return nil
}

// peers is what the group must know to be one of several; nil = it is alone.
func (n *node) peers() *cluster.Peers {
	c := n.config
	if len(c.Join) == 0 {
		return nil
	}
	p := &cluster.Peers{Identity: n.identity, Listener: n.peer, Software: version, Client: n.advertised(), Expect: c.BootstrapExpect, Election: duration(c.Election)}
	for _, item := range c.Join {
		node, _ := parseNode(item) // checked with the rest of the configuration
		p.Join = append(p.Join, node)
	}
	return p
}

// facts are what other nodes and clients may know of this process.
func (n *node) facts() cluster.Facts {
	return cluster.Facts{Software: version, PID: os.Getpid(), CertUntil: n.identity.Status().NotAfter}
}

// advertised is where clients reach this node.
func (n *node) advertised() string {
	return cmp.Or(n.config.AdvertiseClient, n.client.Addr().String())
}

// policyPause is how long a node waits before it looks again whether another one has set the first policy.
const policyPause = 100 * time.Millisecond

// firstPolicy puts policy.file into an empty log. Later changes go through the broker. Of several nodes the leader does it, and
// those that have a file wait for it, though not for ever: it may be that the leader has none.
func (n *node) firstPolicy(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, policyTimeout)
	defer cancel()
	for {
		err := n.setPolicy(ctx)
		if _, open := errors.AsType[*cluster.OutcomeError](err); !open || len(n.config.Join) == 0 {
			return err
		}
		select {
		case <-time.After(policyPause):
		case <-waiting.Done():
			n.log.Warn("there is no policy yet, and another node leads: everything is denied until it gets one")
			return context.Cause(ctx)
		}
	}
}

// setPolicy sets it if there is none.
func (n *node) setPolicy(ctx context.Context) error {
	if n.config.PolicyFile == "" || n.group.View().Policy().Version > 0 {
		return nil
	}
	doc, err := os.ReadFile(n.config.PolicyFile)
	if err != nil {
		return usage("policy.file: %w", err)
	}
	if _, err := compile(n.config.PolicyFile, doc); err != nil {
		return err
	}
	r, _, err := n.group.Do(ctx, state.AppendSetPolicy(nil, &state.SetPolicy{Document: doc, By: "policy.file of " + n.config.NodeID}))
	if err == nil && !r.Status.Done() {
		err = errors.New(r.Text)
	}
	if err != nil {
		return fmt.Errorf("set the first policy: %w", err)
	}
	return nil
}

// serve starts the surfaces.
func (n *node) serve(background context.Context) (err error) {
	n.broker, err = broker.New(broker.Options{NodeID: n.config.NodeID, Version: version, AdvertiseClient: n.advertised(), Group: n.group, Log: n.storage, Identity: n.identity, Limits: n.config.Limits, Logger: n.log, Registerer: n.registry})
	if err != nil {
		return err
	}
	n.serving.Store(n.broker)
	n.work.Go(func() { n.ended("broker", n.broker.Run(background)) })
	n.work.Go(func() { n.ended("clients", n.broker.Serve(background, n.client)) })
	if n.peer != nil && len(n.config.Join) == 0 { // else the group has them
		n.links = n.newLinks()
		n.work.Go(func() { n.ended("peer links", n.links.Run(background)) })
		n.work.Go(func() { n.ended("peers", n.links.Serve(background, n.peer)) })
	}
	return nil
}

// serveHTTPS serves health and metrics from the start: a node that replays its log, or waits for others, lives and is not ready.
func (n *node) serveHTTPS(background context.Context) {
	if n.https == nil {
		return
	}
	n.admin = admin.New(admin.Options{NodeID: n.config.NodeID, Identity: n.identity, Policy: n.policy, Gatherer: n.registry, Checks: n.checks(), Logger: n.log})
	n.work.Go(func() { n.ended("https", n.admin.Serve(background, n.https)) })
}

// policy is the one in force, nil before clients are served.
func (n *node) policy() *policy.Policy {
	if b := n.serving.Load(); b != nil {
		return b.Policy()
	}
	return nil
}

// groupFault says what the group still waits for, nil once it was ready.
func (n *node) groupFault() error {
	g := n.opened.Load()
	if g == nil {
		return errors.New("storage and the raft log are being opened")
	}
	switch s := g.Status(); {
	case s.Ready:
		return nil
	case s.Last == 0 && s.Leader == "":
		return errors.New("there is no log yet: the node waits for the others of cluster.join, or to be added")
	case s.Leader == "":
		return errors.New("no node leads: there is no majority yet")
	}
	return errors.New("the log is being replayed")
}

// brokerFault says why clients are not served. An election is no reason: for 10 s what they write waits for a leader.
func (n *node) brokerFault() error {
	b := n.serving.Load()
	if b == nil {
		return errors.New("clients are not served yet")
	}
	return b.Quorum()
}

// checks are the conditions of readiness.
func (n *node) checks() []admin.Check {
	return []admin.Check{
		{Name: "group", Func: func(context.Context) error { return n.groupFault() }},
		{Name: "clients", Func: func(context.Context) error { return n.brokerFault() }},
		{Name: "storage", Func: func(context.Context) error {
			if n.opened.Load() == nil {
				return nil // "group" says it
			}
			return n.storage.Damage()
		}},
		{Name: "policy", Func: func(context.Context) error {
			if b := n.serving.Load(); b != nil {
				return b.PolicyFault()
			}
			return nil // "clients" says it
		}},
		{Name: "certificate", Func: func(context.Context) error {
			s := n.identity.Status()
			if time.Now().After(s.NotAfter) {
				return fmt.Errorf("the node's certificate ended at %s", stamp(s.NotAfter))
			}
			return nil
		}},
	}
}

// errAlone is what other nodes are told: nothing joins a group of one.
var errAlone = errors.New("this node is a group of one and has no peers")

// newLinks makes the links of a group of one. None may be a member; who asks is told so.
func (n *node) newLinks() *peer.Links {
	return peer.New(peer.Options{Node: n.config.NodeID, Software: version, Identity: n.identity, Cluster: func() string { return n.group.View().ClusterID() },
		Member: func(*protocol.PeerHello) error { return errAlone }, Logger: n.log, Registerer: n.registry})
}

// ended notes that a part ended with an error, which none should.
func (n *node) ended(part string, err error) {
	if err != nil {
		n.log.Error("part ended", "part", part, "error", err)
	}
}

// ready is what launch announces.
func (n *node) ready() launch.Ready {
	r := launch.Ready{PID: os.Getpid(), Node: n.config.NodeID, Client: n.client.Addr().String()}
	if n.peer != nil {
		r.Peer = n.peer.Addr().String()
	}
	if n.https != nil {
		r.HTTPS = n.https.Addr().String()
	}
	return r
}

// reloadOn reloads certificates, CRL and log level at each SIGHUP until ctx ends.
func (n *node) reloadOn(ctx context.Context, reload func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			err := n.identity.Reload()
			n.log.Info("reload", "error", err)
			reload()
		}
	}
}

// stop hands leadership over, and is then the start in reverse, bounded.
func (n *node) stop() error {
	n.closed.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		var errs []error
		if n.broker != nil {
			n.group.HandOver(ctx) // while clients are served: what they publish goes to the next leader
			errs = append(errs, n.broker.Shutdown(ctx))
		}
		if n.admin != nil {
			errs = append(errs, n.admin.Shutdown(ctx))
		}
		if n.links != nil {
			errs = append(errs, n.links.Shutdown(ctx))
		}
		if n.group != nil {
			errs = append(errs, n.group.Shutdown(ctx))
		}
		for _, l := range []net.Listener{n.client, n.peer, n.https} {
			if l != nil {
				l.Close()
			}
		}
		if n.cancel != nil {
			n.cancel()
		}
		n.work.Wait()
		if n.storage != nil {
			errs = append(errs, n.storage.Close())
		}
		n.closeErr = errors.Join(errs...)
	})
	return n.closeErr
}
