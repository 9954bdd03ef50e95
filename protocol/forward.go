package protocol

// Limits of forwarding.
const (
	ForwardCommandsMax = 4096 // commands of one FORWARD
	ForwardAnswersMax  = 4096 // answers of one FORWARDED

	ForwardCommandBytesMax = 16<<20 + frameSlack // the largest batch that a broker can be configured to take, and what stands around it
	forwardResultBytes     = 64 << 10            // a topic of 4,096 partitions takes 40 KiB

	// Caps of the frames on a link of purpose forward, in each direction.
	ForwardFrameBytesMax   = ForwardCommandBytesMax + frameSlack
	ForwardedFrameBytesMax = 1 << 20
)

// Forward carries commands to the leader, in the order in which it is to propose them. They were judged by the sender under
// the two versions. Request ids on a link rise by one, from 1.
type Forward struct {
	PolicyVer     uint64
	RevocationVer uint64
	Commands      [][]byte // as package state encodes them
}

// Forwarded answers the next commands of the Forward with the same request id, in order. Several may answer one Forward;
// all of them come before the first answer to the Forward behind it.
type Forwarded struct {
	Answers []ForwardAnswer
}

// ForwardAnswer is what became of one command.
type ForwardAnswer struct {
	Outcome Outcome // OutcomeNone = applied, and Result says how it ended
	Code    Code    // why not; 0 with OutcomeNone
	Text    string
	Index   uint64 // of its entry; for CodeStale: what the sender must have applied before it judges again
	Result  []byte // as package state encodes it; empty unless applied
}

func (m *Forward) walk(w *walker) {
	w.uint(&m.PolicyVer)
	w.uint(&m.RevocationVer)
	list(w, &m.Commands, ForwardCommandsMax, func(w *walker, v *[]byte) { w.bin(v, ForwardCommandBytesMax) })
}

func (m *Forwarded) walk(w *walker) {
	list(w, &m.Answers, ForwardAnswersMax, func(w *walker, v *ForwardAnswer) { w.group(v.walk) })
}

func (a *ForwardAnswer) walk(w *walker) {
	small(w, &a.Outcome)
	small(w, &a.Code)
	w.text(&a.Text, textBytes)
	w.uint(&a.Index)
	w.bin(&a.Result, forwardResultBytes)
}

// Kind implements Message.
func (*Forward) Kind() Kind   { return KindForward }
func (*Forwarded) Kind() Kind { return KindForwarded }

// AppendFrame implements Message.
func (m *Forward) AppendFrame(dst []byte, id uint64) []byte   { return appendControl(dst, m, id) }
func (m *Forwarded) AppendFrame(dst []byte, id uint64) []byte { return appendControl(dst, m, id) }
