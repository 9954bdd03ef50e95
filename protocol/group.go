package protocol

import "github.com/waxwing-mq/waxwing/topic"

// Limits of the messages of consumer groups.
const (
	groupsMax      = 1_000
	backoffsMax    = 32
	settlementsMax = 1_000
	heldMax        = 10_000
	leasedBytes    = 2 << 20
)

// GroupSpec are the settings of a consumer group.
type GroupSpec struct {
	Topics      []string // names or patterns
	AckWaitMs   uint64   // how long a member may hold a record; 0 = 30 s
	MaxDeliver  uint64   // deliveries before a record is put aside; 0 = no end
	BackoffMs   []uint64 // delay before delivery 2, 3, ...; the last one stays; none = at once
	MaxInFlight uint64   // records that all members together hold; 0 = no limit of its own
}

// GroupCreate creates a group, or finds one with the same settings. Start and Value as in Subscribe.
type GroupCreate struct {
	Name  string
	Spec  GroupSpec
	Start StartKind
	Value int64
}

// GroupGet asks for one group.
type GroupGet struct {
	Name  string
	After uint64
}

// GroupList asks for the groups that the caller may use, in name order, starting behind From, at most Max (0 = 1000).
type GroupList struct {
	From  string
	Max   uint32
	After uint64
}

// GroupPause stops deliveries, or lets them go on.
type GroupPause struct {
	Name   string
	Paused bool
}

// GroupDelete removes a group.
type GroupDelete struct{ Name string }

// GroupPosition is what a group knows of a partition.
type GroupPosition struct {
	Topic     string
	Partition uint32
	Floor     int64  // every record below is settled
	End       int64  // next offset to be written
	Pending   uint64 // records that are not settled
	Retries   uint64 // deliveries that failed
	Aside     uint64 // records that were put aside
	Lost      uint64 // records that retention took before they were settled
}

// GroupInfo describes a group.
type GroupInfo struct {
	Name      string
	CreatedMs int64
	CreatedBy string
	Spec      GroupSpec
	Paused    bool
	Positions []GroupPosition // of GroupGet; by topic and partition
}

// ConsumerGroup answers GroupCreate, GroupGet and GroupPause.
type ConsumerGroup struct {
	Applied uint64
	Created bool
	Info    GroupInfo
}

// ConsumerGroups answers GroupList. More is set when the list goes on behind the last name.
type ConsumerGroups struct {
	Groups []GroupInfo
	More   bool
}

// HeldRecord is a delivery that a member has not settled.
type HeldRecord struct {
	ID      uint64 // of the partition
	Offset  int64
	Attempt uint64
}

// Consume makes the client a member of a group; it picks Sub as in Subscribe, and Member at random. With the same Member, and what
// it holds, it is the same member on another connection.
type Consume struct {
	Sub    uint64
	Group  string
	Member [16]byte
	Window uint32 // records that it holds at most
	Held   []HeldRecord
	After  uint64
}

// Leased carries records of one batch, one after the other, that the member holds from now on.
type Leased struct {
	Sub         uint64
	Topic       string
	Partition   uint32
	Incarnation uint64
	ID          uint64 // of the partition
	Offset      int64  // of the first record
	Count       uint32
	Attempt     uint64 // number of the delivery, from 1
	TimeMs      int64
	Publisher   string
	SPKI        []byte
	PolicyVer   uint64
	Records     []byte // last field, bin
}

// Ways to settle.
const (
	SettleAck    uint8 = 1
	SettleNack   uint8 = 2
	SettleTerm   uint8 = 3
	SettleExtend uint8 = 4 // not settled: the time to acknowledge begins anew
)

// Settlement says what became of a delivery.
type Settlement struct {
	Op       uint8
	ID       uint64 // of the partition
	Offset   int64
	Attempt  uint64
	HasDelay bool   // SettleNack: DelayMs counts; else the back-off of the group
	DelayMs  uint64 // SettleNack
	Reason   string // SettleTerm
}

// Settle settles deliveries of a member.
type Settle struct {
	Sub   uint64
	Items []Settlement
}

// Settled answers Settle. Stale are the numbers, from 0, of the settlements that did not count: the record was delivered again since.
type Settled struct {
	Applied uint64
	Stale   []uint64
}

func (s *GroupSpec) walk(w *walker) {
	list(w, &s.Topics, patternsMax, func(w *walker, v *string) { w.str(v, topic.MaxBytes) })
	w.uint(&s.AckWaitMs)
	w.uint(&s.MaxDeliver)
	list(w, &s.BackoffMs, backoffsMax, func(w *walker, v *uint64) { w.uint(v) })
	w.uint(&s.MaxInFlight)
}

func (m *GroupCreate) walk(w *walker) {
	w.str(&m.Name, topic.MaxBytes)
	w.group(m.Spec.walk)
	small(w, &m.Start)
	w.int(&m.Value)
}

func (m *GroupGet) walk(w *walker) {
	w.str(&m.Name, topic.MaxBytes)
	w.uint(&m.After)
}

func (m *GroupList) walk(w *walker) {
	w.str(&m.From, topic.MaxBytes)
	small(w, &m.Max)
	w.uint(&m.After)
}

func (m *GroupPause) walk(w *walker) {
	w.str(&m.Name, topic.MaxBytes)
	w.bool(&m.Paused)
}

func (m *GroupDelete) walk(w *walker) { w.str(&m.Name, topic.MaxBytes) }

func (p *GroupPosition) walk(w *walker) {
	w.str(&p.Topic, topic.MaxBytes)
	small(w, &p.Partition)
	w.int(&p.Floor)
	w.int(&p.End)
	for _, v := range []*uint64{&p.Pending, &p.Retries, &p.Aside, &p.Lost} {
		w.uint(v)
	}
}

func (g *GroupInfo) walk(w *walker) {
	w.str(&g.Name, topic.MaxBytes)
	w.int(&g.CreatedMs)
	w.str(&g.CreatedBy, identityBytes)
	w.group(g.Spec.walk)
	w.bool(&g.Paused)
	list(w, &g.Positions, cursorsMax, func(w *walker, p *GroupPosition) { w.group(p.walk) })
}

func (m *ConsumerGroup) walk(w *walker) {
	w.uint(&m.Applied)
	w.bool(&m.Created)
	w.group(m.Info.walk)
}

func (m *ConsumerGroups) walk(w *walker) {
	list(w, &m.Groups, groupsMax, func(w *walker, g *GroupInfo) { w.group(g.walk) })
	w.bool(&m.More)
}

func (h *HeldRecord) walk(w *walker) {
	w.uint(&h.ID)
	w.int(&h.Offset)
	w.uint(&h.Attempt)
}

func (m *Consume) walk(w *walker) {
	w.uint(&m.Sub)
	w.str(&m.Group, topic.MaxBytes)
	w.fixed(m.Member[:])
	small(w, &m.Window)
	list(w, &m.Held, heldMax, func(w *walker, h *HeldRecord) { w.group(h.walk) })
	w.uint(&m.After)
}

func (m *Leased) walk(w *walker) {
	w.uint(&m.Sub)
	w.str(&m.Topic, topic.MaxBytes)
	small(w, &m.Partition)
	w.uint(&m.Incarnation)
	w.uint(&m.ID)
	w.int(&m.Offset)
	small(w, &m.Count)
	w.uint(&m.Attempt)
	w.int(&m.TimeMs)
	w.str(&m.Publisher, identityBytes)
	w.bin(&m.SPKI, 32)
	w.uint(&m.PolicyVer)
	w.bin(&m.Records, leasedBytes)
}

func (s *Settlement) walk(w *walker) {
	small(w, &s.Op)
	w.uint(&s.ID)
	w.int(&s.Offset)
	w.uint(&s.Attempt)
	w.bool(&s.HasDelay)
	w.uint(&s.DelayMs)
	w.text(&s.Reason, ruleBytes)
}

func (m *Settle) walk(w *walker) {
	w.uint(&m.Sub)
	list(w, &m.Items, settlementsMax, func(w *walker, s *Settlement) { w.group(s.walk) })
}

func (m *Settled) walk(w *walker) {
	w.uint(&m.Applied)
	list(w, &m.Stale, settlementsMax, func(w *walker, v *uint64) { w.uint(v) })
}

// Kind implements Message.
func (*GroupCreate) Kind() Kind    { return KindGroupCreate }
func (*GroupGet) Kind() Kind       { return KindGroupGet }
func (*GroupList) Kind() Kind      { return KindGroupList }
func (*GroupPause) Kind() Kind     { return KindGroupPause }
func (*GroupDelete) Kind() Kind    { return KindGroupDelete }
func (*ConsumerGroup) Kind() Kind  { return KindGroup }
func (*ConsumerGroups) Kind() Kind { return KindGroups }
func (*Consume) Kind() Kind        { return KindConsume }
func (*Leased) Kind() Kind         { return KindLeased }
func (*Settle) Kind() Kind         { return KindSettle }
func (*Settled) Kind() Kind        { return KindSettled }

// AppendFrame implements Message.
func (m *GroupCreate) AppendFrame(dst []byte, id uint64) []byte    { return appendControl(dst, m, id) }
func (m *GroupGet) AppendFrame(dst []byte, id uint64) []byte       { return appendControl(dst, m, id) }
func (m *GroupList) AppendFrame(dst []byte, id uint64) []byte      { return appendControl(dst, m, id) }
func (m *GroupPause) AppendFrame(dst []byte, id uint64) []byte     { return appendControl(dst, m, id) }
func (m *GroupDelete) AppendFrame(dst []byte, id uint64) []byte    { return appendControl(dst, m, id) }
func (m *ConsumerGroup) AppendFrame(dst []byte, id uint64) []byte  { return appendControl(dst, m, id) }
func (m *ConsumerGroups) AppendFrame(dst []byte, id uint64) []byte { return appendControl(dst, m, id) }
func (m *Consume) AppendFrame(dst []byte, id uint64) []byte        { return appendControl(dst, m, id) }
func (m *Leased) AppendFrame(dst []byte, id uint64) []byte         { return appendControl(dst, m, id) }
func (m *Settle) AppendFrame(dst []byte, id uint64) []byte         { return appendControl(dst, m, id) }
func (m *Settled) AppendFrame(dst []byte, id uint64) []byte        { return appendControl(dst, m, id) }
