package protocol

// Limits of the storage messages.
const (
	segmentNameBytes = 64
	pathBytes        = 4096
	segmentsMax      = 1_000
	filesMax         = 1_000
	extentsMax       = 10_000
	segmentFileBytes = 64
	digestBytes      = 32
)

// StorageStatus asks for the segments of this node's log, oldest first: those behind number After, at most Max (0 =
// as many as the broker likes).
type StorageStatus struct {
	After uint64
	Max   uint32
}

// Storage answers StorageStatus. More is set when the list goes on behind the last segment.
type Storage struct {
	Node     string
	Space    StorageSpace
	LogFirst uint64 // raft index of the first entry in the raft log; 0 = it is empty
	LogLast  uint64
	Scrub    ScrubInfo
	Segments []SegmentInfo
	More     bool
}

// StorageSpace is what the file system has; publishes are refused while Free is below Guard. Bytes.
type StorageSpace struct {
	Free, Total, Guard uint64
}

// SegmentState is where a segment is in its life.
type SegmentState uint8

// States of segments.
const (
	SegmentActive    SegmentState = 1 // being filled
	SegmentSealing   SegmentState = 2 // cut, on its way to the disk
	SegmentSealed    SegmentState = 3 // immutable
	SegmentDamaged   SegmentState = 4 // sealed, and known to be damaged: Fault says how
	SegmentRepairing SegmentState = 5 // damaged, and being fetched from another node
)

// SegmentInfo describes a segment.
type SegmentInfo struct {
	Name       string
	Dir        string
	State      SegmentState
	First      uint64 // numbers of the cuts that it covers
	Last       uint64
	From       uint64 // raft index of its first entry; 0 = not sealed yet
	Index      uint64 // raft index of its last entry; 0 = not sealed yet
	Partitions uint32
	Values     uint64
	Batches    uint64
	Records    uint64
	Bytes      uint64 // of stored batches
	DiskBytes  uint64
	Digest     string // of its batches, whatever their order, hex; the same on every replica
	CheckedMs  int64  // when it was read whole the last time, unix ms; 0 = never
	Fault      string // what that found; "" = nothing
	Files      []SegmentFile
}

// SegmentFile is one file of a segment.
type SegmentFile struct {
	Name string
	Size uint64
	Sum  uint32 // CRC-32C; 0 = not kept: batches carry their own
}

// StorageExtents asks what a segment holds of each partition, by partition id, from id From on.
type StorageExtents struct {
	Segment string
	From    uint64
	Max     uint32
}

// Extents answers StorageExtents. More is set when the list goes on.
type Extents struct {
	Extents []ExtentInfo
	More    bool
}

// ExtentInfo is what a segment holds of one partition: records Base to Next-1.
type ExtentInfo struct {
	Partition uint64
	Base      int64
	Next      int64
	Bytes     uint64
	FirstMs   int64 // append times of the first and the last batch
	LastMs    int64
}

// StorageVerify asks to read a segment whole now and to compare it with what was sealed, at most so many bytes a
// second (0 = no limit). One request at a time is worked on; it ends with its connection.
type StorageVerify struct {
	Segment        string
	BytesPerSecond uint64
}

// StorageVerified answers StorageVerify.
type StorageVerified struct{ Segment SegmentInfo }

// StorageScrub asks how far the scrub is. With Start every sealed segment is due now, and is read again in the
// background at the configured rate.
type StorageScrub struct{ Start bool }

// StorageScrubbed answers StorageScrub.
type StorageScrubbed struct{ Scrub ScrubInfo }

// ScrubInfo is how far the scrub is.
type ScrubInfo struct {
	Segment        string // being read; "" = none
	AskedMs        int64  // when a pass was asked for; 0 = never since the start
	OldestMs       int64  // of the last checks; 0 = nothing is sealed
	Due            uint32 // sealed segments that wait to be read
	DueBytes       uint64
	Sealed         uint32
	Damaged        uint32
	BytesPerSecond uint64
	IntervalMs     uint64
}

func (m *StorageStatus) walk(w *walker) {
	w.uint(&m.After)
	small(w, &m.Max)
}

func (m *Storage) walk(w *walker) {
	w.str(&m.Node, nameBytes)
	w.group(m.Space.walk)
	w.uint(&m.LogFirst)
	w.uint(&m.LogLast)
	w.group(m.Scrub.walk)
	list(w, &m.Segments, segmentsMax, func(w *walker, s *SegmentInfo) { w.group(s.walk) })
	w.bool(&m.More)
}

func (s *StorageSpace) walk(w *walker) {
	w.uint(&s.Free)
	w.uint(&s.Total)
	w.uint(&s.Guard)
}

func (s *SegmentInfo) walk(w *walker) {
	w.str(&s.Name, segmentNameBytes)
	w.text(&s.Dir, pathBytes)
	small(w, &s.State)
	w.uint(&s.First)
	w.uint(&s.Last)
	w.uint(&s.From)
	w.uint(&s.Index)
	small(w, &s.Partitions)
	w.uint(&s.Values)
	w.uint(&s.Batches)
	w.uint(&s.Records)
	w.uint(&s.Bytes)
	w.uint(&s.DiskBytes)
	w.str(&s.Digest, digestBytes)
	w.int(&s.CheckedMs)
	w.text(&s.Fault, textBytes)
	list(w, &s.Files, filesMax, func(w *walker, f *SegmentFile) { w.group(f.walk) })
}

func (f *SegmentFile) walk(w *walker) {
	w.str(&f.Name, segmentFileBytes)
	w.uint(&f.Size)
	small(w, &f.Sum)
}

func (m *StorageExtents) walk(w *walker) {
	w.str(&m.Segment, segmentNameBytes)
	w.uint(&m.From)
	small(w, &m.Max)
}

func (m *Extents) walk(w *walker) {
	list(w, &m.Extents, extentsMax, func(w *walker, e *ExtentInfo) { w.group(e.walk) })
	w.bool(&m.More)
}

func (e *ExtentInfo) walk(w *walker) {
	w.uint(&e.Partition)
	w.int(&e.Base)
	w.int(&e.Next)
	w.uint(&e.Bytes)
	w.int(&e.FirstMs)
	w.int(&e.LastMs)
}

func (m *StorageVerify) walk(w *walker) {
	w.str(&m.Segment, segmentNameBytes)
	w.uint(&m.BytesPerSecond)
}

func (m *StorageVerified) walk(w *walker) { w.group(m.Segment.walk) }

func (m *StorageScrub) walk(w *walker) { w.bool(&m.Start) }

func (m *StorageScrubbed) walk(w *walker) { w.group(m.Scrub.walk) }

func (s *ScrubInfo) walk(w *walker) {
	w.str(&s.Segment, segmentNameBytes)
	w.int(&s.AskedMs)
	w.int(&s.OldestMs)
	small(w, &s.Due)
	w.uint(&s.DueBytes)
	small(w, &s.Sealed)
	small(w, &s.Damaged)
	w.uint(&s.BytesPerSecond)
	w.uint(&s.IntervalMs)
}

// Kind implements Message.
func (*StorageStatus) Kind() Kind   { return KindStorageStatus }
func (*Storage) Kind() Kind         { return KindStorage }
func (*StorageExtents) Kind() Kind  { return KindStorageExtents }
func (*Extents) Kind() Kind         { return KindExtents }
func (*StorageVerify) Kind() Kind   { return KindStorageVerify }
func (*StorageVerified) Kind() Kind { return KindStorageVerified }
func (*StorageScrub) Kind() Kind    { return KindStorageScrub }
func (*StorageScrubbed) Kind() Kind { return KindStorageScrubbed }

// AppendFrame implements Message.
func (m *StorageStatus) AppendFrame(dst []byte, id uint64) []byte   { return appendControl(dst, m, id) }
func (m *Storage) AppendFrame(dst []byte, id uint64) []byte         { return appendControl(dst, m, id) }
func (m *StorageExtents) AppendFrame(dst []byte, id uint64) []byte  { return appendControl(dst, m, id) }
func (m *Extents) AppendFrame(dst []byte, id uint64) []byte         { return appendControl(dst, m, id) }
func (m *StorageVerify) AppendFrame(dst []byte, id uint64) []byte   { return appendControl(dst, m, id) }
func (m *StorageVerified) AppendFrame(dst []byte, id uint64) []byte { return appendControl(dst, m, id) }
func (m *StorageScrub) AppendFrame(dst []byte, id uint64) []byte    { return appendControl(dst, m, id) }
func (m *StorageScrubbed) AppendFrame(dst []byte, id uint64) []byte { return appendControl(dst, m, id) }
