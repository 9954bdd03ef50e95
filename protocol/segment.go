package protocol

// Limits of a link of purpose segments.
const (
	SegmentPartBytes     = 512 << 10                     // of a file in one SEGMENT_DATA
	SegmentFrameBytesMax = SegmentPartBytes + frameSlack // the cap of the frames on such a link
)

// SegmentRead asks another node for a piece of a file of one of its sealed segments.
type SegmentRead struct {
	Segment string // its name, as in STORAGE
	File    string
	Offset  uint64
	Max     uint64 // bytes that are wanted; the answer has at most SegmentPartBytes
}

// SegmentData answers SegmentRead. Data is empty only at or behind the file's end.
type SegmentData struct {
	Size   uint64 // of the whole file
	Offset uint64 // as asked for
	CRC    uint32 // CRC-32C of Data
	Data   []byte
}

func (m *SegmentRead) walk(w *walker) {
	w.str(&m.Segment, nameBytes)
	w.str(&m.File, nameBytes)
	w.uint(&m.Offset)
	w.uint(&m.Max)
}

func (m *SegmentData) walk(w *walker) {
	w.uint(&m.Size)
	w.uint(&m.Offset)
	small(w, &m.CRC)
	w.bin(&m.Data, SegmentPartBytes)
}
