package main

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/internal/history"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/protocol"
)

// Figures of the overload.
const (
	overloadTopic   = "overload"
	overloadBody    = 16 << 10
	overloadInsists = 30
	overloadMemory  = 512 << 20 // of a broker: what an idle one has, its tail and caches, and nothing that grows with the load
)

// overloadInFlight is what an identity may have in flight at a node, in bytes. One connection fills it.
func overloadInFlight() int { return lane.Pick(0, 1<<20, 3<<20) }

// TestO04Overload: publishers that want three times of what their identity may have in flight, on each of three nodes, and never rest.
// What is refused is refused as overloaded and never appears, what is acknowledged is there, once, in order, and the brokers' memory
// stays within bounds. In the nightly lane, over ten minutes, at least 80 % of what is published without overload is still published.
func TestO04Overload(t *testing.T) {
	lane.Need(t, 2, "O-04")
	s := newThreeNodes(t)
	for _, name := range threeNames {
		s.spawn(name, fmt.Sprint("WAXWING_LIMITS_IN_FLIGHT_BYTES=", overloadInFlight()), fmt.Sprint("WAXWING_LIMITS_WINDOW_BYTES=", overloadInFlight()))
	}
	s.await(threeNames...)
	c := s.dial("load")
	var spent [2]time.Duration
	var acked [2]int64
	most := int64(overloadMemory)
	if withRaceDetector() {
		most *= 4 // what it keeps of every access is memory of the broker, too
	}
	rounds := lane.Pick(0, 1, 5)
	for round := range rounds {
		for phase, connections := range []int{1, 3} { // of each node
			topic := fmt.Sprintf("%s.%d.%d", overloadTopic, round, phase)
			if _, err := c.Topics().Create(t.Context(), topic, client.TopicSpec{}); err != nil {
				t.Fatal(err)
			}
			o := &overload{s: s, topic: topic, goal: int64(lane.Pick(0, 1500, 1<<40)), recorder: history.NewRecorder()}
			if lane.Current() >= 3 {
				o.until = time.Now().Add(time.Minute)
			}
			start := time.Now()
			o.run(connections)
			spent[phase] += time.Since(start)
			acked[phase] += o.acked.Load()
			t.Logf("%d connections to each node: %d acknowledged, %d overloaded, %d unknown at first, %d MiB of memory at most", connections, o.acked.Load(), o.refused.Load(), o.unknown.Load(), o.peak.Load()>>20)
			if phase == 1 && o.refused.Load() == 0 {
				t.Error("nothing was refused: there was no overload")
			}
			if o.peak.Load() > most {
				t.Errorf("a broker has %d bytes of memory, at most %d are expected", o.peak.Load(), most)
			}
			o.verify(c)
			if err := c.Topics().Delete(t.Context(), topic); err != nil {
				t.Fatal(err)
			}
		}
	}
	if lane.Current() >= 3 {
		ratio := float64(acked[1]) / spent[1].Seconds() / (float64(acked[0]) / spent[0].Seconds())
		if t.Logf("under overload %.2f of what is published without", ratio); ratio < 0.8 {
			t.Errorf("under overload only %.2f of what is published without", ratio)
		}
	}
}

// withRaceDetector says how this program was built.
func withRaceDetector() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// overload is a run of many connections.
type overload struct {
	s        *threeNodes
	topic    string
	goal     int64     // acknowledgements; then it ends
	until    time.Time // or then; zero = never
	recorder *history.Recorder

	acked, refused, unknown, peak atomic.Int64
}

func (o *overload) over() bool {
	return o.acked.Load() >= o.goal || !o.until.IsZero() && time.Now().After(o.until)
}

// run publishes over so many connections to each node until it is over and everything is answered.
func (o *overload) run(connections int) {
	o.s.t.Helper()
	conf := o.s.keepsSession("load")
	conf.ServerName = ""
	var work sync.WaitGroup
	for i, node := range threeNames {
		for n := range connections {
			work.Go(func() {
				if err := o.connection(fmt.Sprint(node, "-", n), o.s.client(i), conf.Clone()); err != nil {
					o.s.t.Errorf("connection %d to %s: %v", n, node, err)
				}
			})
		}
	}
	work.Wait()
}

// connection keeps a publish of each of its lanes unanswered. When its node has no leader for long and closes it, it comes back.
func (o *overload) connection(name, address string, conf *tls.Config) error {
	lanes := make([]overloadLane, overloadInFlight()/(overloadBody+1<<10))
	for i := range lanes {
		rand.Read(lanes[i].producer[:])
		lanes[i].name = fmt.Sprint(name, "-", i)
		lanes[i].begin(o)
	}
	for {
		if err := o.carry(lanes, address, conf); !errors.Is(err, errNoQuorum) {
			return err
		}
		for i := range lanes {
			lanes[i].unsure = true
		}
	}
}

// errNoQuorum is a node's that has no contact to a leader.
var errNoQuorum = errors.New("no quorum")

// carry sends what each lane has on its way, and what follows, over one connection.
func (o *overload) carry(lanes []overloadLane, address string, conf *tls.Config) error {
	conn, err := tls.Dial("tcp", address, conf)
	if err != nil {
		return err
	}
	defer conn.Close()
	frames := protocol.NewFrameReader(conn, 1<<20)
	if _, err := conn.Write((&protocol.Hello{Versions: []uint64{protocol.Version}}).AppendFrame(nil, 0)); err != nil {
		return err
	}
	if _, m, err := nextFrame(frames); err != nil || m.Kind() != protocol.KindWelcome {
		if refused, ok := m.(*protocol.Refused); ok && refused.Code == protocol.CodeNoQuorum {
			return errNoQuorum
		}
		return fmt.Errorf("HELLO was answered with %#v, %w", m, err)
	}
	waiting := 0
	for i := range lanes {
		if lanes[i].message == nil {
			continue
		}
		if _, err := conn.Write(lanes[i].message.AppendFrame(nil, uint64(i))); err != nil {
			return err
		}
		waiting++
	}
	for answers := 0; waiting > 0; answers++ {
		id, m, err := nextFrame(frames)
		if err != nil {
			return err
		}
		if id >= uint64(len(lanes)) || m.Kind() == protocol.KindEvent {
			continue
		}
		if err := lanes[id].answered(o, m); err != nil {
			return err
		}
		if lanes[id].message == nil {
			waiting--
			continue
		}
		if _, err := conn.Write(lanes[id].message.AppendFrame(nil, id)); err != nil {
			return err
		}
		if answers%256 == 0 {
			o.weigh()
		}
	}
	return nil
}

func nextFrame(frames *protocol.FrameReader) (uint64, protocol.Message, error) {
	body, err := frames.Next()
	if err != nil {
		return 0, nil, err
	}
	return protocol.Decode(body)
}

// overloadLane is a producer that has one record on its way.
type overloadLane struct {
	name     string
	producer [16]byte
	sequence uint64
	tries    uint64            // records that were begun
	insists  int               // how often the one on its way was refused and sent again
	unsure   bool              // nobody knows whether it is there already: no refusal ends it
	message  *protocol.Publish // nil = it is over
	end      func(history.Outcome, int64, error)
}

// begin makes the next record.
func (l *overloadLane) begin(o *overload) {
	l.tries, l.insists, l.unsure = l.tries+1, 0, false
	value := fmt.Sprint(l.name, " ", l.tries)
	body := make([]byte, overloadBody)
	binary.BigEndian.PutUint16(body, uint16(len(value)))
	copy(body[2:], value)
	records := batch.AppendRecord(nil, &batch.Record{Body: body})
	l.end = o.recorder.Append(l.name, o.topic, value)
	l.message = &protocol.Publish{Topic: o.topic, Producer: l.producer, Sequence: l.sequence, Count: 1, Records: records}
}

// overloadValue is what begin put into a body.
func overloadValue(body []byte) string {
	if n := binary.BigEndian.Uint16(body); int(n)+2 <= len(body) {
		return string(body[2 : 2+n])
	}
	return "damaged"
}

// answered notes an answer and decides what is sent next: the same again if nobody knows, or if it was refused, as overloaded or while
// a leader is elected; after many refusals, the next record under the same number.
func (l *overloadLane) answered(o *overload, m protocol.Message) error {
	switch m := m.(type) {
	case *protocol.Published:
		l.end(history.OK, m.Offset, nil)
		l.sequence++
		o.acked.Add(1)
	case *protocol.Error:
		switch {
		case m.Code == protocol.CodeNoQuorum:
			return errNoQuorum
		case m.Outcome == protocol.OutcomeUnknown:
			o.unknown.Add(1)
			l.unsure = true
			return nil
		case m.Outcome != protocol.OutcomeRejected || m.Code != protocol.CodeOverloaded && m.Code != protocol.CodeNotLeader:
			return fmt.Errorf("refused with %v, outcome %d: %s", m.Code, m.Outcome, m.Text)
		case m.Code == protocol.CodeOverloaded:
			o.refused.Add(1)
		}
		if l.unsure || l.insists < overloadInsists && !o.over() {
			l.insists++
			return nil
		}
		l.end(history.Rejected, 0, errors.New(m.Text))
	default:
		return fmt.Errorf("answered with %v", m.Kind())
	}
	if l.message = nil; !o.over() {
		l.begin(o)
	}
	return nil
}

// weigh notes how much memory the brokers have.
func (o *overload) weigh() {
	for _, p := range o.s.nodes {
		bytes := anonymousMemory(p.PID())
		for old := o.peak.Load(); bytes > old && !o.peak.CompareAndSwap(old, bytes); old = o.peak.Load() {
		}
	}
}

// anonymousMemory of a process, in bytes; 0 = it is gone.
func anonymousMemory(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, ok := strings.Cut(string(text), "RssAnon:")
	if err != nil || !ok {
		return 0
	}
	kib, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	return kib << 10
}

// verify reads the topic back and holds it against what was told.
func (o *overload) verify(c *client.Client) {
	o.s.t.Helper()
	sub, err := c.Subscribe(o.s.t.Context(), client.SubscribeOptions{Topics: []string{o.topic}, From: client.Earliest(), StopAtEnd: true, Linearizable: true})
	if err != nil {
		o.s.t.Fatal(err)
	}
	defer sub.Close()
	var log []history.Record
	for m, err := range sub.Messages() {
		if err != nil {
			o.s.t.Fatal(err)
		}
		log = append(log, history.Record{Offset: m.Offset, Value: overloadValue(m.Body), Publisher: m.Publisher})
	}
	if int64(len(log)) != o.acked.Load() {
		o.s.t.Errorf("%d records are there, %d were acknowledged", len(log), o.acked.Load())
	}
	for i, f := range history.CheckLog(o.topic, log, o.recorder.Ops(), func(string) string { return identity.ClientID(siteTrustDomain, "load") }) {
		if o.s.t.Error(f); i == 10 {
			break
		}
	}
}
