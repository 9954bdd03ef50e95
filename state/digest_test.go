package state_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/internal/lane"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// crowded are limits that a random log reaches.
var crowded = state.Limits{Topics: 20, Partitions: 60, TopicPartitions: 10, Producers: 40, PrincipalProducers: 15, Windows: 70, Revocations: 12}

// randomLog writes entries of random commands: always the same for the same seed and
// the same views.
type randomLog struct {
	*rand.Rand
	nowMs int64
	parts []topic.PartitionID  // alive
	seq   map[[3]uint64]uint64 // a plausible next sequence by partition, principal, producer
	old   bool                 // no command that is younger than the golden digest
	view  *state.View
}

func newRandomLog(seed uint64) *randomLog {
	return &randomLog{Rand: rand.New(rand.NewPCG(seed, 1)), nowMs: 1_000, seq: map[[3]uint64]uint64{}}
}

// entry writes the next entry for a machine that shows v.
func (r *randomLog) entry(v *state.View) []byte {
	r.view = v
	r.parts = r.parts[:0]
	v.Topics("", func(t *state.Topic) bool {
		r.parts = append(r.parts, t.Partitions...)
		return true
	})
	switch n := r.IntN(500); {
	case n == 0:
		r.nowMs += 25 * 3600 * 1000
	case n < 5:
		r.nowMs -= 5_000
	default:
		r.nowMs += int64(r.IntN(600_000))
	}
	b := state.AppendEntryHeader(nil, max(r.nowMs, 0))
	for range r.IntN(6) {
		b = state.AppendCommand(b, r.command())
	}
	return b
}

func (r *randomLog) command() []byte {
	name := topic.Name(fmt.Sprintf("t%d", r.IntN(25)))
	by := fmt.Sprintf("spiffe://x/client/%d", r.IntN(5))
	spec := state.Spec{Partitions: uint32(r.IntN(6)), MaxAgeMs: r.Uint64N(3)}
	if !r.old && r.IntN(12) == 0 {
		return r.ticket()
	}
	if !r.old && r.IntN(6) == 0 {
		return r.group()
	}
	switch r.IntN(24) {
	case 22:
		node := r.IntN(6)
		return state.AppendSetMember(nil, &state.SetMember{Member: state.Member{Node: fmt.Sprintf("n%d", node), Disk: fmt.Sprintf("d%d", r.IntN(2)), Peer: by, Commands: r.Uint64N(3)}})
	case 23:
		return state.AppendRemoveMember(nil, &state.RemoveMember{Node: fmt.Sprintf("n%d", 4+r.IntN(2))})
	case 20:
		return state.AppendRotate(nil, &state.Rotate{Segment: r.Uint64N(40)})
	case 21:
		return state.AppendTrim(nil, &state.Trim{Cuts: []state.Cut{{Partition: topic.PartitionID(r.Uint64N(80)), Low: topic.Offset(r.IntN(60))}, {Partition: 1, Low: 2}}})
	case 0:
		return state.AppendInit(nil, &state.Init{ClusterID: fmt.Sprintf("c%d", r.IntN(2))})
	case 1, 2:
		return state.AppendCreateTopic(nil, &state.CreateTopic{Name: name, Spec: spec, IfNotExists: r.IntN(2) == 0, By: by})
	case 3:
		return state.AppendAlterTopic(nil, &state.AlterTopic{Name: name, Mask: uint8(r.IntN(16)), Spec: spec, By: by})
	case 4:
		if r.IntN(3) == 0 {
			return state.AppendDeleteTopic(nil, &state.DeleteTopic{Name: name, By: by})
		}
		return state.AppendSetPolicy(nil, &state.SetPolicy{Expect: r.Uint64N(20), Reset: r.IntN(9) == 0, Document: []byte(name), By: by})
	case 5:
		return state.AppendRevoke(nil, &state.Revoke{Remove: r.IntN(3) == 0, Entry: state.Revocation{Kind: state.RevokeIdentity, Value: string(name)}, By: by})
	}
	return r.publish(by)
}

// group makes, changes or removes a group, or settles records that it may have.
func (r *randomLog) group() []byte {
	name := topic.Name(fmt.Sprintf("g%d", r.IntN(4)))
	var starts []state.Position
	for _, id := range r.parts[:r.IntN(len(r.parts)+1)] {
		starts = append(starts, state.Position{Partition: id, Offset: topic.Offset(r.IntN(20))})
	}
	spec := fullSpec()
	p, _ := topic.ParsePattern([]string{"*", "t1", "t2"}[r.IntN(3)])
	spec.Topics[0] = p
	g, ok := r.view.Group(name)
	switch n := r.IntN(40); {
	case !ok || n == 0:
		return state.AppendCreateGroup(nil, &state.CreateGroup{Name: name, Spec: spec, Starts: starts, By: "x"})
	case n == 1:
		return state.AppendAlterGroup(nil, &state.AlterGroup{Name: name, Mask: uint8(r.IntN(64)), Spec: state.GroupSpec{AckWaitMs: r.Uint64N(3)}, Paused: r.IntN(2) == 0})
	case n == 2:
		return state.AppendResetGroup(nil, &state.ResetGroup{Name: name, Resets: g.Resets, Starts: starts})
	case n == 3 && r.IntN(3) == 0:
		return state.AppendDeleteGroup(nil, &state.DeleteGroup{Name: name})
	}
	return r.settle(g)
}

func (r *randomLog) settle(g *state.Group) []byte {
	c := state.Settle{Group: g.Name, ID: g.ID, Resets: g.Resets}
	for range r.IntN(4) {
		id := topic.PartitionID(1 + r.Uint64N(80))
		if len(r.parts) > 0 {
			id = r.parts[r.IntN(len(r.parts))]
		}
		part, _ := r.view.Partition(id)
		s := state.Settlement{Op: state.SettleOp(1 + r.IntN(3)), Partition: id, Count: 1, Offset: topic.Offset(r.Int64N(int64(part.Next) + 1)), Attempt: r.Uint64N(4)}
		if s.Op == state.SettleDead {
			s.Letter = &state.Letter{Reason: "dead"}
			if r.IntN(2) == 0 {
				records, info := blob(1, "x")
				s.Letter.Target, s.Letter.Records, s.Letter.Info = 1+topic.PartitionID(r.Uint64N(80)), records, info
			}
		}
		c.Items = append(c.Items, s)
	}
	return state.AppendSettle(nil, &c)
}

// ticket tells a node's key, or adds a ticket key that is mostly sealed to what the nodes have told.
func (r *randomLog) ticket() []byte {
	if r.IntN(3) == 0 {
		return state.AppendSetSealKey(nil, &state.SetSealKey{Node: fmt.Sprintf("n%d", r.IntN(6)), Key: state.SealKey{byte(r.IntN(3))}})
	}
	c := state.SetTicketKey{Number: r.view.TicketNumber() + uint64(r.IntN(3))}
	for _, m := range r.view.Members() {
		if m.SealKey != (state.SealKey{}) || r.IntN(20) == 0 {
			c.Copies = append(c.Copies, state.TicketCopy{Node: m.Node, To: m.SealKey, Sealed: []byte{byte(r.IntN(256))}})
		}
	}
	return state.AppendSetTicketKey(nil, &c)
}

// publish is mostly the next batch of its producer, sometimes a repeat or nonsense.
func (r *randomLog) publish(by string) []byte {
	part, who, id := 1+r.Uint64N(80), uint64(by[len(by)-1]), r.Uint64N(12)
	if len(r.parts) > 0 && r.IntN(20) != 0 {
		part = uint64(r.parts[r.IntN(len(r.parts))])
	}
	key := [3]uint64{part, who, id}
	records, info := blob(1+int(part%3), "x")
	seq, epoch := r.seq[key], uint64(0)
	switch r.IntN(12) {
	case 0:
		seq = r.Uint64N(seq + 3)
	case 1:
		seq = max(seq, uint64(info.Count)) - uint64(info.Count)
	case 2:
		epoch, seq = 1, 0
	case 3:
		seq = 0
	default:
		r.seq[key] += uint64(info.Count)
	}
	return state.AppendPublish(nil, &state.Publish{
		Partition: topic.PartitionID(part), Producer: [16]byte{byte(id)}, Epoch: epoch, Sequence: seq, Info: info, Principal: by, Records: records,
	})
}

// trace is everything that Apply says, as text.
func trace(e *state.Effects) string {
	var s bytes.Buffer
	for _, r := range e.Results {
		t := r.Topic
		r.Topic = nil
		fmt.Fprintf(&s, "%+v", r)
		if t != nil {
			fmt.Fprintf(&s, "%+v", *t)
		}
	}
	for _, a := range e.Appends {
		fmt.Fprintf(&s, "%d %d %d %d %x", a.Partition, a.Base, a.Count, a.TimeMs, a.Raw)
	}
	fmt.Fprint(&s, e.Dropped, e.Trimmed, e.Rotated, e.Change)
	return s.String()
}

// TestDeterminism: two machines, whose maps are seeded differently, say the same
// about every entry and end in the same state.
func TestDeterminism(t *testing.T) {
	statuses := map[state.Status]int{}
	for seed := range uint64(lane.Pick(3, 30, 300)) {
		r := newRandomLog(seed)
		a, b := state.New(crowded), state.New(crowded)
		for i := range uint64(2_000) {
			entry := r.entry(a.View())
			var ea, eb state.Effects
			if err := a.Apply(i+1, entry, &ea); err != nil {
				t.Fatal(err)
			}
			if err := b.Apply(i+1, bytes.Clone(entry), &eb); err != nil {
				t.Fatal(err)
			}
			if ta, tb := trace(&ea), trace(&eb); ta != tb {
				t.Fatalf("seed %d, entry %d:\n%s\n%s", seed, i, ta, tb)
			}
			for _, res := range ea.Results {
				statuses[res.Status]++
			}
			if i%100 == 0 && a.Digest() != b.Digest() {
				t.Fatalf("seed %d, entry %d: digests differ", seed, i)
			}
		}
		if a.Digest() != b.Digest() {
			t.Fatalf("seed %d: digests differ", seed)
		}
	}
	for s := state.StatusOK; s <= state.StatusInvalid; s++ {
		if statuses[s] == 0 && s != state.StatusRecreated {
			t.Errorf("the logs never gave %v; they prove too little: %v", s, statuses)
		}
	}
}

// TestDigestGolden: the state after a fixed log is the same in every process, on
// every architecture, and in every later version. A change here breaks rolling upgrades.
func TestDigestGolden(t *testing.T) {
	const path = "testdata/digest.golden"
	r := newRandomLog(42)
	r.old = true
	m := state.New(crowded)
	var e state.Effects
	for i := range uint64(3_000) {
		e.Reset()
		if err := m.Apply(i+1, r.entry(m.View()), &e); err != nil {
			t.Fatal(err)
		}
	}
	d := m.Digest()
	got := hex.EncodeToString(d[:]) + "\n"
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("digest %s, want %s", got, want)
	}
}

// TestDigestBuilds replays the fixed logs in other builds: 32 bits, other instructions, without
// optimisation, and another processor where this machine can play one.
func TestDigestBuilds(t *testing.T) {
	lane.Need(t, 2, "R-06")
	if runtime.GOARCH != "amd64" {
		t.Skipf("R-06: the other builds run on amd64, this is %s", runtime.GOARCH)
	}
	builds := map[string][]string{
		"CGO_ENABLED=0 GOARCH=386": nil,
		"CGO_ENABLED=0 GOAMD64=v3": nil,
		"CGO_ENABLED=0 GOFLAGS=":   {"-gcflags=-N -l"},
	}
	if qemu, err := exec.LookPath("qemu-aarch64"); err == nil {
		builds["CGO_ENABLED=0 GOARCH=arm64"] = []string{"-exec", qemu}
	} else {
		t.Logf("R-06: arm64 is not played: %v", err)
	}
	for env, flags := range builds {
		args := append([]string{"test", "-count=1", "-run", "^(TestDigestGolden|TestCheckpointGolden|TestDeterminism|TestCheckpoint|TestScenarios)$"}, flags...)
		cmd := exec.CommandContext(t.Context(), "go", append(args, ".")...)
		cmd.Env = append(os.Environ(), strings.Fields(env)...)
		out, err := cmd.CombinedOutput()
		if bytes.Contains(out, []byte("microarchitecture support")) {
			t.Logf("R-06: %s is not played: this processor is too old", env)
		} else if err != nil {
			t.Errorf("%s %v: %v\n%s", env, flags, err, out)
		}
	}
}

// TestDigestProcesses replays one log in many processes: each has another seed for its maps, and another order of
// its goroutines.
func TestDigestProcesses(t *testing.T) {
	for range lane.Pick(3, 20, 100) {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^(TestDigestGolden|TestCheckpointGolden)$", "-test.v")
		out, err := cmd.CombinedOutput()
		if err != nil || bytes.Count(out, []byte("\n--- PASS: ")) != 2 {
			t.Fatalf("%v\n%s", err, out)
		}
	}
}

// TestDigestSeesEverything: one field more or less changes the digest.
func TestDigestSeesEverything(t *testing.T) {
	base := every()
	digests := map[[32]byte]string{}
	add := func(name string, cmds ...[]byte) {
		m := state.New(state.Limits{})
		var e state.Effects
		if err := m.Apply(1, entryOf(cmds...), &e); err != nil {
			t.Fatal(err)
		}
		if other, twice := digests[m.Digest()]; twice {
			t.Errorf("%s and %s have one digest", name, other)
		}
		digests[m.Digest()] = name
	}
	add("nothing")
	add("all but delete", base[:6]...)
	add("all", base...)
	for i, c := range base {
		if i != 0 && i != 6 && i != 8 && i < 11 {
			add(fmt.Sprintf("init and command %d", i), base[0], base[1], c)
		}
	}
	add("publish and trim", base[0], base[1], base[2], base[8])
	add("member", base[9])
	add("member with a key", base[9], base[11])
	add("group", base[1], base[14])
	add("paused group", base[1], base[14], base[15])
	add("group that was reset", base[1], base[14], base[16])
	for i, s := range []state.Settlement{
		{Op: state.SettleAck, Offset: 0}, {Op: state.SettleAck, Offset: 1}, {Op: state.SettleRetry, Attempt: 1}, {Op: state.SettleRetry, Attempt: 2}, {Op: state.SettleRetry, Attempt: 2, DelayMs: 1},
		{Op: state.SettleRetry, Offset: 1, Attempt: 1}, {Op: state.SettleDead, Letter: &state.Letter{}}, {Op: state.SettleDead, Letter: &state.Letter{Reason: "x"}}, {Op: state.SettleDead, Offset: 1, Letter: &state.Letter{}},
	} {
		s.Partition, s.Count = 1, 1
		add(fmt.Sprintf("settlement %d", i), base[1], publish(1, "w", 1, 0, 0, 2), state.AppendCreateGroup(nil, &state.CreateGroup{Name: "g", Spec: groupSpec(t, "orders.eu")}),
			state.AppendSettle(nil, &state.Settle{Group: "g", ID: 1, Items: []state.Settlement{s}}))
	}
	add("ticket key", base[9], base[11], base[12])
	records, _ := blob(2, "body")
	for i, c := range []state.Publish{
		{Partition: 1, Principal: "a"}, {Partition: 2, Principal: "a"}, {Partition: 1, Principal: "b"},
		{Partition: 1, Principal: "a", Producer: [16]byte{1}}, {Partition: 1, Principal: "a", Epoch: 1},
	} {
		c.Info, c.Records = batch.Info{Count: 2}, records
		add(fmt.Sprintf("publish %d", i), base[1], state.AppendPublish(nil, &c))
	}
}
