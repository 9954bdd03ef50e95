package protocol

import (
	"math"

	"github.com/waxwing-mq/waxwing/topic"
)

// Limits of fields, in bytes or counts.
const (
	versionsMax      = 16
	featuresMax      = 32
	featureBytes     = 64
	nameBytes        = 128  // client names, node ids, short texts
	textBytes        = 4096 // error and event texts
	identityBytes    = 2100 // a SPIFFE ID has at most 2048
	addressBytes     = 512
	sealKeyBytes     = 32
	patternsMax      = 64
	cursorsMax       = 10_000 // also assignments: partitions of one subscription
	topicsMax        = 1_000
	partitionsMax    = 10_000
	documentBytes    = 1 << 20
	snapshotBytes    = 1 << 20
	revocationsMax   = 5_000
	rightsMax        = 10_000
	ruleBytes        = 512
	issuerBytes      = 4096
	fingerprintBytes = 128
)

func (m *Hello) walk(w *walker) {
	list(w, &m.Versions, versionsMax, func(w *walker, v *uint64) { w.uint(v) })
	w.text(&m.Client, nameBytes)
	list(w, &m.Features, featuresMax, feature)
}

func feature(w *walker, v *string) { w.str(v, featureBytes) }

func (m *Welcome) walk(w *walker) {
	w.uint(&m.Version)
	w.str(&m.Node, nameBytes)
	w.str(&m.Cluster, nameBytes)
	w.str(&m.Leader, addressBytes)
	w.text(&m.Broker, nameBytes)
	w.str(&m.Identity, identityBytes)
	w.bool(&m.Resumed)
	w.int(&m.ExpiresMs)
	w.uint(&m.PolicyVer)
	w.group(m.Limits.walk)
	list(w, &m.Features, featuresMax, feature)
}

func (m *Limits) walk(w *walker) {
	w.uint(&m.FrameBytes)
	w.uint(&m.BatchBytes)
	w.uint(&m.RecordBytes)
	w.uint(&m.KeyBytes)
	w.uint(&m.HeaderBytes)
	w.uint(&m.HeaderCount)
	w.uint(&m.BatchRecords)
	w.uint(&m.WindowBytes)
	w.uint(&m.Subscriptions)
}

func (m *Refused) walk(w *walker) {
	small(w, &m.Code)
	w.text(&m.Text, textBytes)
	w.text(&m.Identity, identityBytes)
}

func (m *Error) walk(w *walker) {
	small(w, &m.Code)
	small(w, &m.Outcome)
	w.text(&m.Text, textBytes)
	w.text(&m.Incident, nameBytes)
	w.text(&m.Rule, ruleBytes)
	w.uint(&m.Line)
	w.uint(&m.PolicyVer)
}

func (m *Event) walk(w *walker) {
	small(w, &m.Type)
	w.uint(&m.Sub)
	w.str(&m.Topic, topic.MaxBytes)
	small(w, &m.Partition)
	w.uint(&m.Value)
	small(w, &m.Code)
	w.text(&m.Text, textBytes)
}

func (m *Ping) walk(w *walker) { w.uint(&m.Payload) }
func (m *Pong) walk(w *walker) { w.uint(&m.Payload) }
func (m *OK) walk(w *walker)   { w.uint(&m.Applied) }

func (m *Subscribe) walk(w *walker) {
	w.uint(&m.Sub)
	list(w, &m.Patterns, patternsMax, func(w *walker, v *string) { w.str(v, topic.MaxBytes) })
	small(w, &m.Start)
	w.int(&m.Value)
	w.uint(&m.CreditBytes)
	w.uint(&m.CreditRecords)
	list(w, &m.Cursors, cursorsMax, func(w *walker, c *Cursor) { w.group(c.walk) })
	w.uint(&m.After)
	w.bool(&m.HasPartition)
	small(w, &m.OnlyPartition)
}

func (c *Cursor) walk(w *walker) {
	w.str(&c.Topic, topic.MaxBytes)
	small(w, &c.Partition)
	w.uint(&c.Incarnation)
	w.int(&c.Offset)
}

func (m *Subscribed) walk(w *walker) {
	w.uint(&m.Applied)
	list(w, &m.Assignments, cursorsMax, func(w *walker, a *Assignment) { w.group(a.walk) })
}

func (a *Assignment) walk(w *walker) {
	w.str(&a.Topic, topic.MaxBytes)
	small(w, &a.Partition)
	w.uint(&a.Incarnation)
	w.int(&a.Start)
	w.int(&a.End)
}

func (m *Unsubscribe) walk(w *walker) { w.uint(&m.Sub) }

func (m *TopicCreate) walk(w *walker) {
	w.str(&m.Name, topic.MaxBytes)
	w.group(m.Spec.walk)
	w.bool(&m.IfNotExists)
	w.bool(&m.Auto)
}

func (s *TopicSpec) walk(w *walker) {
	small(w, &s.Partitions)
	w.uintMax(&s.MaxAgeMs, math.MaxInt64)
	w.uintMax(&s.MaxBytes, math.MaxInt64)
	w.uintMax(&s.MaxRecords, math.MaxInt64)
}

func (m *TopicGet) walk(w *walker) {
	w.str(&m.Name, topic.MaxBytes)
	w.uint(&m.After)
}

func (m *TopicList) walk(w *walker) {
	w.str(&m.Pattern, topic.MaxBytes)
	w.str(&m.From, topic.MaxBytes)
	small(w, &m.Max)
	w.uint(&m.After)
}

func (m *TopicAlter) walk(w *walker) {
	w.str(&m.Name, topic.MaxBytes)
	small(w, &m.Mask)
	w.group(m.Spec.walk)
}

func (m *TopicDelete) walk(w *walker) {
	w.str(&m.Name, topic.MaxBytes)
	w.uint(&m.Incarnation)
}

func (m *Topic) walk(w *walker) {
	w.uint(&m.Applied)
	w.bool(&m.Created)
	w.group(m.Info.walk)
}

func (m *Topics) walk(w *walker) {
	list(w, &m.Topics, topicsMax, func(w *walker, t *TopicInfo) { w.group(t.walk) })
	w.bool(&m.More)
}

func (t *TopicInfo) walk(w *walker) {
	w.str(&t.Name, topic.MaxBytes)
	w.uint(&t.Incarnation)
	w.int(&t.CreatedMs)
	w.str(&t.CreatedBy, identityBytes)
	w.group(t.Spec.walk)
	list(w, &t.Partitions, partitionsMax, func(w *walker, p *PartitionInfo) { w.group(p.walk) })
}

func (p *PartitionInfo) walk(w *walker) {
	w.uint(&p.ID)
	w.int(&p.Low)
	w.int(&p.Next)
}

func (m *PolicyGet) walk(w *walker) { w.uint(&m.After) }

func (m *PolicyApply) walk(w *walker) {
	w.uint(&m.Expect)
	w.bool(&m.Force)
	w.bin(&m.Document, documentBytes)
}

func (m *Policy) walk(w *walker) {
	w.uint(&m.Applied)
	w.uint(&m.Version)
	w.str(&m.ChangedBy, identityBytes)
	w.int(&m.ChangedMs)
	w.bin(&m.Document, documentBytes)
}

func (m *PolicyExplain) walk(w *walker) {
	w.str(&m.Identity, identityBytes)
	w.str(&m.Action, nameBytes)
	w.str(&m.Resource, topic.MaxBytes)
}

func (m *Decision) walk(w *walker) {
	w.bool(&m.Allow)
	w.text(&m.Rule, ruleBytes)
	w.uint(&m.Line)
	w.uint(&m.Version)
	w.text(&m.Reason, textBytes)
}

func (m *Revoke) walk(w *walker) {
	w.bool(&m.Remove)
	w.bool(&m.Force)
	w.group(m.Entry.walk)
}

func (r *Revocation) walk(w *walker) {
	small(w, &r.What)
	w.str(&r.Value, identityBytes)
	w.str(&r.Issuer, issuerBytes)
	w.text(&r.Reason, ruleBytes)
	w.str(&r.ByWhom, identityBytes)
	w.int(&r.AtMs)
}

func (m *RevokeList) walk(w *walker) {
	w.uint(&m.After)
	small(w, &m.Skip)
}

func (m *Revocations) walk(w *walker) {
	list(w, &m.Entries, revocationsMax, func(w *walker, r *Revocation) { w.group(r.walk) })
	w.bool(&m.More)
}

func (*WhoAmI) walk(*walker) {}

func (m *Identity) walk(w *walker) {
	w.str(&m.Principal, identityBytes)
	w.str(&m.Serial, fingerprintBytes)
	w.text(&m.Issuer, issuerBytes)
	w.str(&m.SPKI, fingerprintBytes)
	w.int(&m.NotAfterMs)
	w.str(&m.TLSVersion, nameBytes)
	w.str(&m.Cipher, nameBytes)
	w.str(&m.Group, nameBytes)
	w.bool(&m.PostQuantum)
	w.bool(&m.Resumed)
	w.uint(&m.PolicyVer)
	list(w, &m.Rights, rightsMax, func(w *walker, r *Right) { w.group(r.walk) })
	w.str(&m.Node, nameBytes)
	w.text(&m.RemoteAddr, addressBytes)
}

func (r *Right) walk(w *walker) {
	w.bool(&r.Allow)
	w.str(&r.Verb, nameBytes)
	w.str(&r.Pattern, topic.MaxBytes)
	w.text(&r.Rule, ruleBytes)
	w.uint(&r.Line)
}

func (*SnapshotOpen) walk(*walker) {}

func (m *Snapshot) walk(w *walker) {
	w.uint(&m.Token)
	w.uint(&m.Index)
	w.uint(&m.Records)
	w.uint(&m.Bytes)
}

func (m *SnapshotRead) walk(w *walker) {
	w.uint(&m.Token)
	w.uint(&m.Offset)
	small(w, &m.Max)
}

func (m *SnapshotData) walk(w *walker) {
	w.bool(&m.Last)
	w.bin(&m.Data, snapshotBytes)
}

func (m *SnapshotClose) walk(w *walker) { w.uint(&m.Token) }
