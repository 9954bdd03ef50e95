package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/waxwing-mq/waxwing/broker"
	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/storage"
)

// config is what a broker is told. settings says for each field its key, what it means and its
// default; the file, the environment, the flags, `config show` and `config init` all follow that table.
type config struct {
	NodeID          string
	DataDir         string
	TrustDomain     string
	ListenClient    string
	ListenPeer      string
	ListenHTTPS     string
	AdvertiseClient string
	AdvertisePeer   string
	BootstrapExpect int
	Join            []string // ID@HOST:PORT
	Election        string
	TLSCert         string
	TLSKey          string
	TLSCA           string
	TLSCRL          string
	Rules           []identity.Rule
	PolicyFile      string
	Limits          broker.Limits
	SegmentBytes    int
	SegmentAge      string
	RetainEvery     string
	GuardBytes      int
	StallReject     string
	StallEnd        string
	ScrubRate       int
	ScrubInterval   string
	LogLevel        string
	LogFormat       string

	origins     map[string]origin // by key
	ruleOrigins []origin          // of each of Rules
	joinOrigins []origin          // of each of Join
}

// origin says where a value comes from.
type origin struct {
	text string // "default", "environment X", "flag --x", or the file
	line int    // in a file
}

func (o origin) String() string {
	if o.line > 0 {
		return fmt.Sprintf("%s:%d", o.text, o.line)
	}
	return o.text
}

// setting is one key.
type setting struct {
	key      string
	doc      string
	def      string
	required bool
	example  string // for config init, where def is empty
	text     func(*config) *string
	number   func(*config) *int
	list     func(*config) (*[]string, *[]origin)
}

// settings is the one table of keys; identity.rules stands apart, since it is a list of mappings.
var settings = []setting{
	{key: "node.id", doc: "Name of this node. It never changes for a data folder, and is the last segment of the node's certificate.", required: true, example: "node-1", text: func(c *config) *string { return &c.NodeID }},
	{key: "node.data_dir", doc: "Folder of the log and the messages; only this node may use it.", required: true, example: "/var/lib/waxwing", text: func(c *config) *string { return &c.DataDir }},
	{key: "trust_domain", doc: "SPIFFE trust domain: certificates of others are refused.", required: true, example: "example.org", text: func(c *config) *string { return &c.TrustDomain }},
	{key: "listen.client", doc: "Where clients connect.", def: ":7420", text: func(c *config) *string { return &c.ListenClient }},
	{key: "listen.peer", doc: "Where other nodes connect; empty = nowhere. A node that is alone refuses everybody.", def: ":7421", text: func(c *config) *string { return &c.ListenPeer }},
	{key: "listen.https", doc: "Metrics and health, over mutual TLS; empty = nowhere.", def: ":7422", text: func(c *config) *string { return &c.ListenHTTPS }},
	{key: "advertise.client", doc: "HOST:PORT by which clients reach this node (default: where it listens).", example: "node-1.example.org:7420", text: func(c *config) *string { return &c.AdvertiseClient }},
	{key: "advertise.peer", doc: "HOST:PORT by which other nodes reach this node.", example: "node-1.example.org:7421", text: func(c *config) *string { return &c.AdvertisePeer }},
	{key: "cluster.bootstrap_expect", doc: "How many nodes begin the cluster together: as many as cluster.join names; 0 = this node is alone or, with cluster.join, joins a cluster that is there. Ignored once the node has data.", number: func(c *config) *int { return &c.BootstrapExpect }},
	{key: "cluster.join", doc: "The nodes that begin the cluster, this one among them: ID@HOST:PORT of their peer ports, the same list on each. A node that joins later names itself and at least one member.", example: "[node-1@node-1.example.org:7421, node-2@node-2.example.org:7421, node-3@node-3.example.org:7421]", list: func(c *config) (*[]string, *[]origin) { return &c.Join, &c.joinOrigins }},
	{key: "cluster.election_timeout", doc: "For how long a node hears nothing of the leader before another one is elected; half of it when the leader's process has ended. The same on every node; more where nodes are far apart.", def: cluster.ElectionDefault.String(), text: func(c *config) *string { return &c.Election }},
	{key: "tls.cert", doc: "The node's certificate with its intermediates, PEM: spiffe://TRUST-DOMAIN/broker/NODE.", required: true, example: "/etc/waxwing/node-1.crt", text: func(c *config) *string { return &c.TLSCert }},
	{key: "tls.key", doc: "Its private key, PEM; others may not be able to read it.", required: true, example: "/etc/waxwing/node-1.key", text: func(c *config) *string { return &c.TLSKey }},
	{key: "tls.ca", doc: "Roots that clients and nodes must lead to, PEM.", required: true, example: "/etc/waxwing/roots.crt", text: func(c *config) *string { return &c.TLSCA }},
	{key: "tls.crl", doc: "Revocation lists of those CAs, PEM or DER; followed like the other files.", example: "/etc/waxwing/crl.pem", text: func(c *config) *string { return &c.TLSCRL }},
	{key: "policy.file", doc: "Policy for the very first start; later changes go through waxwing policy apply. Without a policy everything is denied.", example: "/etc/waxwing/policy.yaml", text: func(c *config) *string { return &c.PolicyFile }},
	{key: "limits.record_bytes", doc: "Largest encoded record.", number: func(c *config) *int { return &c.Limits.RecordBytes }},
	{key: "limits.batch_bytes", doc: "Largest batch of records that one request may carry.", number: func(c *config) *int { return &c.Limits.BatchBytes }},
	{key: "limits.key_bytes", doc: "Longest key of a record.", number: func(c *config) *int { return &c.Limits.KeyBytes }},
	{key: "limits.header_bytes", doc: "Names and values of one record's headers together.", number: func(c *config) *int { return &c.Limits.HeaderBytes }},
	{key: "limits.header_count", doc: "Headers of one record.", number: func(c *config) *int { return &c.Limits.HeaderCount }},
	{key: "limits.connections", doc: "Connections of all clients.", number: func(c *config) *int { return &c.Limits.Connections }},
	{key: "limits.connections_per_identity", doc: "Connections of one identity.", number: func(c *config) *int { return &c.Limits.ConnectionsPerIdentity }},
	{key: "limits.connects_per_second", doc: "Connections that one identity opens per second.", number: func(c *config) *int { return &c.Limits.ConnectsPerSecond }},
	{key: "limits.in_flight_bytes", doc: "Publishes of one identity that are not yet answered.", number: func(c *config) *int { return &c.Limits.InFlightBytes }},
	{key: "limits.window_bytes", doc: "The same of one connection; beyond it the broker stops reading.", number: func(c *config) *int { return &c.Limits.WindowBytes }},
	{key: "limits.handshakes_at_once", doc: "TLS handshakes under way.", number: func(c *config) *int { return &c.Limits.HandshakesAtOnce }},
	{key: "limits.handshakes_per_second", doc: "TLS handshakes begun per second.", number: func(c *config) *int { return &c.Limits.HandshakesPerSecond }},
	{key: "limits.subscriptions", doc: "Subscriptions of one connection.", number: func(c *config) *int { return &c.Limits.Subscriptions }},
	{key: "limits.partitions_per_subscription", doc: "Partitions that one subscription may match.", number: func(c *config) *int { return &c.Limits.PartitionsPerSubscription }},
	{key: "limits.topics", doc: "Topics.", number: func(c *config) *int { return &c.Limits.Topics }},
	{key: "limits.partitions", doc: "Partitions of all topics.", number: func(c *config) *int { return &c.Limits.Partitions }},
	{key: "storage.segment_bytes", doc: "Size at which a segment of the log is cut and sealed. A start replays about one segment.", number: func(c *config) *int { return &c.SegmentBytes }},
	{key: "storage.segment_age", doc: "A segment with data is cut after this time, however small it is.", def: "1h", text: func(c *config) *string { return &c.SegmentAge }},
	{key: "storage.retention_interval", doc: "How often topics are held to their limits of age, bytes and records.", def: "10s", text: func(c *config) *string { return &c.RetainEvery }},
	{key: "storage.guard_bytes", doc: "Free space below which publishes are refused; 0 = a tenth of the disk, at least three segments and what log and segments need to go on.", number: func(c *config) *int { return &c.GuardBytes }},
	{key: "storage.stall_reject", doc: "When a write of the log has taken so long, publishes are refused until it is done.", def: "5s", text: func(c *config) *string { return &c.StallReject }},
	{key: "storage.stall_end", doc: "When a write of the log has taken so long, the broker ends. More is for disks that are known to pause.", def: "10s", text: func(c *config) *string { return &c.StallEnd }},
	{key: "storage.scrub_bytes_per_second", doc: "How fast sealed segments are read again in the background to check them.", number: func(c *config) *int { return &c.ScrubRate }},
	{key: "storage.scrub_interval", doc: "How often each sealed segment is read again. Restarts do not begin anew.", def: "24h", text: func(c *config) *string { return &c.ScrubInterval }},
	{key: "log.level", doc: "debug, info, warn or error.", def: "info", text: func(c *config) *string { return &c.LogLevel }},
	{key: "log.format", doc: "text, json, or auto: text on a terminal, else JSON.", def: "auto", text: func(c *config) *string { return &c.LogFormat }},
}

// segmentBytesMax keeps a value log below the 2 GiB that Badger can address.
const segmentBytesMax = 1 << 30

// duration is a setting that check has passed.
func duration(text string) time.Duration {
	d, _ := time.ParseDuration(text)
	return d
}

// rulesKey is the one key that is a list of mappings.
const rulesKey = "identity.rules"

// env is the setting's environment variable.
func (s *setting) env() string {
	return "WAXWING_" + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

// flag is the setting's flag of serve.
func (s *setting) flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(s.key) }

// get is the setting's value as text.
func (s *setting) get(c *config) string {
	switch {
	case s.number != nil:
		return strconv.Itoa(*s.number(c))
	case s.list != nil:
		items, _ := s.list(c)
		return strings.Join(*items, ",")
	}
	return *s.text(c)
}

// set parses and stores a value; items of a list are joined by commas.
func (s *setting) set(c *config, text string, from origin) error {
	switch {
	case s.number != nil:
		n, err := strconv.Atoi(text)
		if err != nil {
			return &configFault{from, fmt.Sprintf("%s: %q is no whole number", s.key, text)}
		}
		*s.number(c) = n
	case s.list != nil:
		s.clear(c)
		for item := range strings.SplitSeq(text, ",") {
			if item = strings.TrimSpace(item); item != "" {
				s.add(c, item, from)
			}
		}
	default:
		*s.text(c) = text
	}
	c.origins[s.key] = from
	return nil
}

// clear empties a list.
func (s *setting) clear(c *config) {
	items, origins := s.list(c)
	*items, *origins = nil, nil
}

// add appends an item to a list.
func (s *setting) add(c *config, item string, from origin) {
	items, origins := s.list(c)
	*items, *origins = append(*items, item), append(*origins, from)
}

// newConfig holds the defaults.
func newConfig() *config {
	c := &config{Limits: broker.DefaultLimits(), SegmentBytes: storage.SegmentBytesDefault, ScrubRate: storage.ScrubBytesPerSecondDefault, origins: map[string]origin{rulesKey: {text: "default"}}}
	for i := range settings {
		s := &settings[i]
		c.origins[s.key] = origin{text: "default"}
		if s.text != nil {
			*s.text(c) = s.def
		}
	}
	return c
}

// configFault is one thing that is wrong, and where the value comes from.
type configFault struct {
	at   origin // zero: of no one value
	text string
}

func (f *configFault) Error() string {
	if f.at == (origin{}) {
		return f.text
	}
	return f.at.String() + ": " + f.text
}
