package state_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

var update = flag.Bool("update", false, "rewrite the expected parts of testdata")

// TestScenarios runs testdata/*.txt. A line is one entry of one command, "name
// key=value ... => result"; the part behind the arrow is what -update rewrites.
//
//	limits topics=N partitions=N producers=N principal=N windows=N revocations=N policy=N   (first line)
//	at DURATION                               log time from here on
//	init ID
//	create NAME [partitions=N max_age=N max_bytes=N max_records=N by=WHO topics_max=N partitions_max=N if_not_exists]
//	alter NAME [inc=N partitions=N max_age=N max_bytes=N max_records=N]
//	delete NAME [inc=N]
//	pub NAME/N [who=W id=N epoch=N seq=N n=N inc=N times=N]   times: repeat with rising seq, last result shown
//	policy DOC expect=N | reset [by=WHO]
//	revoke KIND VALUE [issuer=S remove]
//	member NODE [disk=D peer=A client=A software=V commands=N] | remove NODE
//	recover NODE [LOST ...] from=ID cluster=ID
//	sealkey NODE key=N | ticket NUMBER [NODE:KEY ...]
//	group NAME topics=P,... [at=NAME/N:OFFSET,... wait=N max=N dead=TOPIC flight=N] | altergroup NAME [paused=yes max=N dead=TOPIC]
//	reset NAME at=NAME/N:OFFSET,... [resets=N] | rmgroup NAME
//	settle GROUP ack|retry|dead NAME/N OFFSET [id=N resets=N count=N attempt=N delay=N reason=S target=NAME/N]
//	cursor GROUP NAME/N | groups
//	topics [from] | partition NAME/N | policy? | revocations | members | tickets | cluster | drops
func TestScenarios(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) { runScenario(t, path) })
	}
}

func runScenario(t *testing.T, path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{log: newLog(t, state.Limits{}), parts: map[string]topic.PartitionID{}}
	var got strings.Builder
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(strings.TrimSuffix(line, "\n"), " => ")
		got.WriteString(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			if answer := s.line(line); answer != "" {
				got.WriteString(" => " + answer)
			}
		}
		got.WriteByte('\n')
	}
	if *update {
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(strings.Split(string(text), "\n"), strings.Split(got.String(), "\n")); diff != "" && !*update {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// scene is a scenario in progress.
type scene struct {
	*log
	parts map[string]topic.PartitionID // "name/index" as last seen alive
	drops []topic.PartitionID
}

// args are the words of a line.
type args struct {
	t    *testing.T
	pos  []string
	vals map[string]string
}

func (a args) num(key string, def uint64) uint64 {
	v, ok := a.vals[key]
	if !ok {
		return def
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		a.t.Fatalf("%s=%s: %v", key, v, err)
	}
	return n
}

func (a args) text(key, def string) string {
	if v, ok := a.vals[key]; ok {
		return v
	}
	return def
}

func (s *scene) line(line string) string {
	a := args{s.t.(*testing.T), nil, map[string]string{}}
	words := strings.Fields(line)
	for _, w := range words[1:] {
		if k, v, ok := strings.Cut(w, "="); ok {
			a.vals[k] = v
		} else {
			a.pos = append(a.pos, w)
		}
	}
	switch words[0] {
	case "limits":
		s.m = state.New(state.Limits{
			Topics: int(a.num("topics", 0)), Partitions: int(a.num("partitions", 0)), TopicPartitions: int(a.num("each", 0)),
			Producers: int(a.num("producers", 0)), PrincipalProducers: int(a.num("principal", 0)), Windows: int(a.num("windows", 0)),
			Revocations: int(a.num("revocations", 0)), PolicyBytes: int(a.num("policy", 0)),
		})
		return ""
	case "at":
		d, err := time.ParseDuration(a.pos[0])
		if err != nil {
			s.t.Fatal(err)
		}
		s.at = d.Milliseconds()
		return ""
	case "pub":
		return s.publish(a)
	case "cursor":
		return s.cursor(a)
	case "topics", "partition", "policy?", "revocations", "members", "tickets", "cluster", "groups", "drops":
		return s.look(words[0], a)
	}
	r := s.apply(s.command(words[0], a))[0]
	return s.describe(r)
}

func (s *scene) command(name string, a args) []byte {
	if name == "group" || name == "altergroup" || name == "reset" || name == "rmgroup" || name == "settle" {
		return s.group(name, a)
	}
	spec := state.Spec{
		Partitions: uint32(a.num("partitions", 0)), MaxAgeMs: a.num("max_age", 0),
		MaxBytes: a.num("max_bytes", 0), MaxRecords: a.num("max_records", 0),
	}
	inc := topic.Incarnation(a.num("inc", 0))
	last := a.pos[len(a.pos)-1]
	switch name {
	case "init":
		return state.AppendInit(nil, &state.Init{ClusterID: a.pos[0]})
	case "create":
		return state.AppendCreateTopic(nil, &state.CreateTopic{
			Name: topic.Name(a.pos[0]), Spec: spec, IfNotExists: last == "if_not_exists", By: a.text("by", "test"),
			TopicsMax: a.num("topics_max", 0), PartitionsMax: a.num("partitions_max", 0),
		})
	case "alter":
		return state.AppendAlterTopic(nil, &state.AlterTopic{Name: topic.Name(a.pos[0]), Incarnation: inc, Mask: mask(a), Spec: spec, By: "test", PartitionsMax: a.num("partitions_max", 0)})
	case "delete":
		return state.AppendDeleteTopic(nil, &state.DeleteTopic{Name: topic.Name(a.pos[0]), Incarnation: inc, By: "test"})
	case "policy":
		return state.AppendSetPolicy(nil, &state.SetPolicy{Document: []byte(a.pos[0]), Expect: a.num("expect", 0), Reset: last == "reset", By: a.text("by", "test")})
	case "member":
		return state.AppendSetMember(nil, &state.SetMember{Member: state.Member{Node: a.text("node", a.pos[0]), Disk: a.text("disk", ""), Peer: a.text("peer", ""),
			Client: a.text("client", ""), Software: a.text("software", ""), Commands: a.num("commands", 0)}})
	case "remove":
		return state.AppendRemoveMember(nil, &state.RemoveMember{Node: a.text("node", a.pos[0])})
	case "recover":
		return state.AppendRecover(nil, &state.Recover{From: a.text("from", ""), Cluster: a.text("cluster", ""), Node: a.pos[0], Lost: a.pos[1:]})
	case "sealkey":
		return state.AppendSetSealKey(nil, &state.SetSealKey{Node: a.text("node", a.pos[0]), Key: state.SealKey{byte(a.num("key", 0))}})
	case "ticket":
		return ticketCommand(s.t, a.pos)
	case "revoke":
		kind, err := strconv.Atoi(a.pos[0])
		if err != nil {
			s.t.Fatal(err)
		}
		return state.AppendRevoke(nil, &state.Revoke{
			Remove: last == "remove", By: a.text("by", "test"),
			Entry: state.Revocation{Kind: state.RevocationKind(kind), Value: a.pos[1], Issuer: a.text("issuer", "")},
		})
	}
	s.t.Fatalf("unknown command %q", name)
	return nil
}

// ticketCommand adds a ticket key with copies for nodes: "NUMBER NODE:KEY ...".
func ticketCommand(t testing.TB, words []string) []byte {
	number, err := strconv.ParseUint(words[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	c := state.SetTicketKey{Number: number}
	for _, w := range words[1:] {
		node, key, _ := strings.Cut(w, ":")
		n, err := strconv.Atoi(key)
		if err != nil {
			t.Fatal(err)
		}
		c.Copies = append(c.Copies, state.TicketCopy{Node: node, To: state.SealKey{byte(n)}, Sealed: []byte("sealed for " + node)})
	}
	return state.AppendSetTicketKey(nil, &c)
}

func mask(a args) (m uint8) {
	for key, bit := range map[string]uint8{
		"partitions": state.AlterPartitions, "max_age": state.AlterMaxAge,
		"max_bytes": state.AlterMaxBytes, "max_records": state.AlterMaxRecords,
	} {
		if _, ok := a.vals[key]; ok {
			m |= bit
		}
	}
	return m
}

// publish sends one batch, or with times several as one entry each.
func (s *scene) publish(a args) string {
	part, ok := s.parts[a.pos[0]]
	if !ok {
		s.t.Fatalf("no partition %s was ever seen", a.pos[0])
	}
	records, info := blob(int(a.num("n", 1)), "x")
	c := state.Publish{
		Partition: part, Incarnation: topic.Incarnation(a.num("inc", 0)), Producer: [16]byte{byte(a.num("id", 1))},
		Epoch: a.num("epoch", 0), Sequence: a.num("seq", 0), Info: info, Principal: a.text("who", "w"), Records: records,
	}
	var r state.Result
	for range a.num("times", 1) {
		r = s.apply(state.AppendPublish(nil, &c))[0]
		if len(s.e.Appends) != 0 != (r.Status == state.StatusOK) {
			s.t.Fatalf("%d batches stored with %v", len(s.e.Appends), r.Status)
		}
		c.Sequence += uint64(info.Count)
	}
	if !r.Status.Done() {
		return s.describe(r)
	}
	return fmt.Sprintf("%v offset=%d time=%v", r.Status, r.Offset, time.Duration(r.TimeMs)*time.Millisecond)
}

// describe words a result, and what changed.
func (s *scene) describe(r state.Result) string {
	w := []string{r.Status.String()}
	if r.Created {
		w = append(w, "created")
	}
	if r.Incarnation != 0 {
		w = append(w, fmt.Sprintf("inc=%d", r.Incarnation))
	}
	if r.Version != 0 {
		w = append(w, fmt.Sprintf("version=%d", r.Version))
	}
	if t := r.Topic; t != nil {
		w = append(w, fmt.Sprintf("partitions=%v age=%d bytes=%d records=%d", t.Partitions, t.Spec.MaxAgeMs, t.Spec.MaxBytes, t.Spec.MaxRecords))
		for i, id := range t.Partitions {
			s.parts[fmt.Sprintf("%s/%d", t.Name, i)] = id
		}
	}
	for bit, name := range []string{"topics", "policy", "revocations", "members", "tickets", "groups"} {
		if s.e.Change&(1<<bit) != 0 {
			w = append(w, "changed:"+name)
		}
	}
	s.drops = append(s.drops, s.e.Dropped...)
	if r.Text != "" {
		w = append(w, "("+r.Text+")")
	}
	return strings.Join(w, " ")
}

// look reads the view.
func (s *scene) look(what string, a args) string {
	v := s.m.View()
	var w []string
	switch what {
	case "topics":
		from := ""
		if len(a.pos) > 0 {
			from = a.pos[0]
		}
		v.Topics(from, func(t *state.Topic) bool {
			w = append(w, fmt.Sprintf("%s#%d", t.Name, t.Incarnation))
			return true
		})
		w = append(w, fmt.Sprintf("count=%d partitions=%d generation=%d", v.TopicCount(), v.PartitionCount(), v.Generation()))
	case "partition":
		p, ok := v.Partition(s.parts[a.pos[0]])
		if !ok {
			return "none"
		}
		return fmt.Sprintf("%s/%d inc=%d low=%d next=%d", p.Topic, p.Index, p.Incarnation, p.Low, p.Next)
	case "policy?":
		p := v.Policy()
		return fmt.Sprintf("%s version=%d by=%s at=%dms", p.Document, p.Version, p.By, p.AtMs)
	case "revocations":
		for _, r := range v.Revocations() {
			w = append(w, fmt.Sprintf("%d:%s:%.12s", r.Kind, r.Issuer, r.Value))
		}
		w = append(w, fmt.Sprintf("version=%d", v.RevocationVersion()))
	case "members":
		for _, m := range v.Members() {
			w = append(w, fmt.Sprintf("%s:%s:%s:%s:%d@%dms:%v", m.Node, m.Disk, m.Peer, m.Client, m.Commands, m.AtMs, m.Removed))
		}
	case "tickets":
		for _, k := range v.TicketKeys() {
			w = append(w, fmt.Sprintf("%d@%v:", k.Number, time.Duration(k.AtMs)*time.Millisecond))
			for _, c := range k.Copies {
				w = append(w, fmt.Sprintf("%s:%d", c.Node, c.To[0]))
			}
		}
		w = append(w, fmt.Sprintf("number=%d", v.TicketNumber()))
	case "groups":
		v.Groups("", func(g *state.Group) bool {
			w = append(w, fmt.Sprintf("%s#%d%v", g.Name, g.ID, g.Spec.Topics))
			return true
		})
	case "cluster":
		return v.ClusterID()
	case "drops":
		return fmt.Sprint(s.drops)
	}
	return strings.Join(w, " ")
}
