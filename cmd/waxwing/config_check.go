package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/storage"
)

// configChecker looks at a whole configuration and collects every fault.
type configChecker struct {
	c    *config
	errs []error
}

// check reports every fault of the whole, each with the place of its value. Keys in misread could not be
// read, which was said already.
func (c *config) check(misread map[string]bool) []error {
	k := &configChecker{c: c}
	k.required(misread)
	k.names()
	k.addresses()
	k.cluster(misread)
	k.rules()
	k.log()
	k.storage()
	k.limits()
	return k.errs
}

func (k *configChecker) fault(key, format string, values ...any) {
	k.errs = append(k.errs, &configFault{k.c.origins[key], key + ": " + fmt.Sprintf(format, values...)})
}

func (k *configChecker) required(misread map[string]bool) {
	for i := range settings {
		s := &settings[i]
		if s.required && s.get(k.c) == "" && !misread[s.key] {
			k.errs = append(k.errs, &configFault{text: fmt.Sprintf("%s is missing: %s Set it in the file, by %s or by --%s", s.key, s.doc, s.env(), s.flag())})
		}
	}
}

// names checks trust domain and node, each also without the other.
func (k *configChecker) names() {
	domain := cmp.Or(k.c.TrustDomain, "example.org")
	if err := identity.CheckTrustDomain(domain); err != nil {
		k.fault("trust_domain", "%v", err)
	}
	if node := k.c.NodeID; node != "" {
		if err := identity.CheckNode(node); err != nil {
			k.fault("node.id", "%q cannot be part of an identity: %v", node, err)
		}
	}
}

func (k *configChecker) addresses() {
	c := k.c
	for _, l := range []struct {
		key, value string
		may        bool // be empty
	}{{"listen.client", c.ListenClient, false}, {"listen.peer", c.ListenPeer, true}, {"listen.https", c.ListenHTTPS, true}, {"advertise.client", c.AdvertiseClient, true}, {"advertise.peer", c.AdvertisePeer, true}} {
		if err := checkAddress(l.value); err != nil && (l.value != "" || !l.may) {
			k.fault(l.key, "%v", err)
		}
	}
}

// cluster checks what a node is told of the others.
func (k *configChecker) cluster(misread map[string]bool) {
	c := k.c
	if d, err := time.ParseDuration(c.Election); err != nil || d < cluster.ElectionMin || d > cluster.ElectionMax {
		k.fault("cluster.election_timeout", "%q: a duration from %v to %v", c.Election, cluster.ElectionMin, cluster.ElectionMax)
	}
	if misread["cluster.join"] {
		return
	}
	ids := map[string]bool{}
	for i, item := range c.Join {
		n, err := parseNode(item)
		if err == nil && ids[n.ID] {
			err = fmt.Errorf("%q: node %s is named twice", item, n.ID)
		}
		if err == nil && n.ID == c.NodeID && c.AdvertisePeer != "" && c.AdvertisePeer != n.Address {
			err = fmt.Errorf("%q: advertise.peer is %q", item, c.AdvertisePeer)
		}
		if err != nil {
			k.errs = append(k.errs, &configFault{c.joinOrigins[i], fmt.Sprintf("cluster.join: %v", err)})
			continue
		}
		ids[n.ID] = true
	}
	switch {
	case c.BootstrapExpect < 0 || c.BootstrapExpect == 1 || c.BootstrapExpect > cluster.NodesMax:
		k.fault("cluster.bootstrap_expect", "%d: from 2 to %d nodes, or 0 for one that is alone or joins later", c.BootstrapExpect, cluster.NodesMax)
	case c.BootstrapExpect == 0 && len(c.Join) == 1:
		k.fault("cluster.join", "it names one node; a node that joins a cluster names itself and at least one member")
	case c.BootstrapExpect != 0 && c.BootstrapExpect != len(c.Join):
		k.fault("cluster.bootstrap_expect", "%d, but cluster.join names %s; give the same number of both on every node", c.BootstrapExpect, count(len(c.Join), "node"))
	case len(c.Join) > 0 && c.NodeID != "" && !ids[c.NodeID]:
		k.fault("cluster.join", "it does not name this node, %s", c.NodeID)
	}
	if len(c.Join) > 0 && c.ListenPeer == "" {
		k.fault("listen.peer", "it is empty, but the nodes of a cluster must reach each other")
	}
}

// parseNode reads ID@HOST:PORT.
func parseNode(s string) (cluster.Node, error) {
	id, address, ok := strings.Cut(s, "@")
	if !ok || id == "" {
		return cluster.Node{}, fmt.Errorf("%q is no ID@HOST:PORT", s)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || port == "" || port == "0" {
		return cluster.Node{}, fmt.Errorf("%q is no ID@HOST:PORT by which other nodes reach it", s)
	}
	if err := checkAddress(address); err != nil {
		return cluster.Node{}, err
	}
	return cluster.Node{ID: id, Address: address}, nil
}

func (k *configChecker) rules() {
	for i, r := range k.c.Rules {
		if err := r.Check(); err != nil {
			k.errs = append(k.errs, &configFault{k.c.ruleOrigins[i], fmt.Sprintf("%s: rule %d: %v", rulesKey, i+1, err)})
		}
	}
}

func (k *configChecker) log() {
	if _, err := parseLevel(k.c.LogLevel); err != nil {
		k.fault("log.level", "%v", err)
	}
	if f := k.c.LogFormat; f != "auto" && f != "text" && f != "json" {
		k.fault("log.format", "%q: use auto, text or json", f)
	}
}

func (k *configChecker) storage() {
	c := k.c
	if c.SegmentBytes < storage.SegmentBytesMin || c.SegmentBytes > segmentBytesMax {
		k.fault("storage.segment_bytes", "%d: from %d to %d bytes", c.SegmentBytes, storage.SegmentBytesMin, segmentBytesMax)
	}
	if least := storage.GuardMin(int64(c.SegmentBytes)); c.GuardBytes != 0 && uint64(c.GuardBytes) < least {
		k.fault("storage.guard_bytes", "%d: give at least %d, which the log and the next segment may need at once, or 0", c.GuardBytes, least)
	}
	if c.ScrubRate < storage.ScrubBytesPerSecondMin {
		k.fault("storage.scrub_bytes_per_second", "%d: at least %d", c.ScrubRate, storage.ScrubBytesPerSecondMin)
	}
	for _, d := range []struct{ key, value string }{{"storage.segment_age", c.SegmentAge}, {"storage.retention_interval", c.RetainEvery}, {"storage.stall_reject", c.StallReject}, {"storage.stall_end", c.StallEnd}, {"storage.scrub_interval", c.ScrubInterval}} {
		if v, err := time.ParseDuration(d.value); err != nil || v < time.Second {
			k.fault(d.key, "%q: a duration of at least a second, such as 30m", d.value)
		}
	}
	if duration(c.StallEnd) < duration(c.StallReject) {
		k.fault("storage.stall_end", "%q: at least storage.stall_reject, %s", c.StallEnd, c.StallReject)
	}
}

func (k *configChecker) limits() {
	for _, f := range k.c.Limits.Faults() {
		k.fault(f.Key, "%s", f.Text)
	}
}

// inOrder sorts faults by the line of the file, those of no line behind them.
func inOrder(errs []error) {
	line := func(err error) int {
		if f, ok := errors.AsType[*configFault](err); ok && f.at.line > 0 {
			return f.at.line
		}
		return configBytesMax + 1
	}
	slices.SortStableFunc(errs, func(a, b error) int { return cmp.Compare(line(a), line(b)) })
}

// checkAddress wants HOST:PORT or :PORT.
func checkAddress(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is no HOST:PORT", s)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q: port %q is no number from 0 to 65535", s, port)
	}
	return nil
}

// parseLevel reads log.level.
func parseLevel(s string) (slog.Level, error) {
	var l slog.Level
	switch s {
	case "debug", "info", "warn", "error":
		return l, l.UnmarshalText([]byte(s))
	}
	return l, fmt.Errorf("%q: use debug, info, warn or error", s)
}
