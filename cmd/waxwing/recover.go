package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/storage"
)

func newClusterRecover(a *app) *cobra.Command {
	var file, dir string
	var dry bool
	c := &cobra.Command{
		Use:   "recover -c FILE | --data-dir DIR",
		Short: "Majority lost for good: make a cluster of one stopped node that has survived",
		Long: `Make a cluster of one node, out of the data folder of a node that is stopped, when the majority of its cluster is lost for good.
It needs access to the folder and nothing else. As long as the others may come back, bring them back instead: nothing is lost then.

It reads everything first, and says what is there: of several survivors recover the one with the highest last term and, where
that is the same, the highest last entry. --dry-run ends there. What is damaged is refused before anything is touched.

Then the node is the only member of a new cluster, with a new id. All records that it has are kept, with their offsets; topics, policy, revocations
and producers too. Records that others had acknowledged and this node has not got are lost. The ids of all other nodes can never be used
again: new nodes join under new ones. If it is cut off, nothing starts on the folder; run it again. A repeat changes nothing.`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			o, err := a.survivorOf(file, dir)
			if err != nil {
				return err
			}
			return a.recover(c.Context(), o, dry)
		},
	}
	f := c.Flags()
	f.StringVarP(&file, "config", "c", "", "configuration file of the node")
	f.StringVar(&dir, "data-dir", "", "its data folder (node.data_dir), where there is no configuration")
	f.BoolVar(&dry, "dry-run", false, "only say what is there")
	return c
}

// survivorAt is a folder, and how its node is set up.
type survivorAt struct {
	dir, node string // node: "" = whichever
	options   cluster.RecoverOptions
}

// survivorOf reads the flags.
func (a *app) survivorOf(file, dir string) (survivorAt, error) {
	if (file == "") == (dir == "") {
		return survivorAt{}, usage("cluster recover: give the node's configuration with -c, or its data folder with --data-dir")
	}
	if dir != "" {
		return survivorAt{dir: dir}, nil
	}
	c, err := loadConfig(file, a.env, nil)
	if err != nil {
		return survivorAt{}, err
	}
	return survivorAt{c.DataDir, c.NodeID, cluster.RecoverOptions{SegmentBytes: int64(c.SegmentBytes), GuardBytes: uint64(c.GuardBytes)}}, nil
}

// survivorJSON is what recover found, and did, as -o json prints it.
type survivorJSON struct {
	Dir        string            `json:"dir"`
	Node       string            `json:"node"`
	State      string            `json:"state"` // lost, unfinished or alone
	Cluster    string            `json:"cluster"`
	Members    []foundMemberJSON `json:"members"`
	Removed    []string          `json:"removed"` // ids that cannot be used again, after a recovery
	Log        foundLogJSON      `json:"log"`
	Segment    uint64            `json:"segment"` // newest sealed one; 0 = none
	Sealed     uint64            `json:"sealed"`  // entry up to which is sealed
	Records    int64             `json:"records"`
	Partitions []foundPartJSON   `json:"partitions"`
	Recovered  *recoveredJSON    `json:"recovered"` // null: nothing was changed
}

type foundMemberJSON struct {
	ID    string `json:"id"`
	Peer  string `json:"peer"`
	Voter bool   `json:"voter"`
}

type foundLogJSON struct {
	First    uint64 `json:"first"`
	Last     uint64 `json:"last"`
	LastTerm uint64 `json:"last_term"`
}

type foundPartJSON struct {
	Topic     string `json:"topic"`
	Partition uint32 `json:"partition"`
	First     int64  `json:"first"`
	Next      int64  `json:"next"`
}

type recoveredJSON struct {
	Cluster string `json:"cluster"` // the new id
	Term    uint64 `json:"term"`
	Index   uint64 `json:"index"` // of the entry with which it begins
}

// states are the words for a survivor's progress.
var states = map[cluster.Progress]string{cluster.Lost: "lost", cluster.Unfinished: "unfinished", cluster.Alone: "alone"}

func survivorOfFound(dir string, f *cluster.Found) *survivorJSON {
	j := &survivorJSON{Dir: dir, Node: f.Node, State: states[f.Progress], Cluster: f.Cluster, Members: []foundMemberJSON{}, Removed: append([]string{}, f.Shut...), Log: foundLogJSON{f.First, f.Last, f.LastTerm},
		Segment: f.Segment, Sealed: f.Sealed, Partitions: []foundPartJSON{}}
	for _, m := range f.Members {
		j.Members = append(j.Members, foundMemberJSON{m.Node, m.Peer, m.Voter})
	}
	for _, p := range f.Partitions {
		j.Records += p.Next - p.First
		j.Partitions = append(j.Partitions, foundPartJSON(p))
	}
	slices.SortFunc(j.Partitions, func(a, b foundPartJSON) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return j
}

// partitionsShown is how many partitions the table has; -o json has all.
const partitionsShown = 50

func (j *survivorJSON) table() *table {
	t := &table{}
	add := func(name string, format string, values ...any) { t.add(name, fmt.Sprintf(format, values...)) }
	add("node", "%s", j.Node)
	add("cluster", "%s", j.Cluster)
	for _, m := range j.Members {
		role := "votes"
		if !m.Voter {
			role = "does not vote yet"
		}
		add("member", "%s at %s, %s", m.ID, m.Peer, role)
	}
	add("last term", "%d", j.Log.LastTerm)
	add("last entry", "%d", j.Log.Last)
	add("sealed", "up to entry %d (segment %d)", j.Sealed, j.Segment)
	add("records", "%d in %s", j.Records, count(len(j.Partitions), "partition"))
	for i, p := range j.Partitions {
		if i == partitionsShown {
			add("partition", "%d more: -o json", len(j.Partitions)-i)
			break
		}
		if p.First == p.Next {
			add("partition", "%s/%d: empty, the next offset is %d", p.Topic, p.Partition, p.Next)
			continue
		}
		add("partition", "%s/%d: offsets %d to %d", p.Topic, p.Partition, p.First, p.Next-1)
	}
	return t
}

// recover says what is in the folder and, once that is confirmed, makes a cluster of it.
func (a *app) recover(ctx context.Context, at survivorAt, dry bool) (err error) {
	setUmask()
	s, err := cluster.OpenSurvivor(ctx, at.dir, func(st storage.SegmentStatus) { a.say("read: %s %s %s", st.Name, st.State, st.Fault) })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if at.node != "" && at.node != s.Found.Node {
		return usage("%s belongs to node %q, the configuration is of node %q", at.dir, s.Found.Node, at.node)
	}
	j := survivorOfFound(at.dir, &s.Found)
	text := a.flags.output != "json"
	if text || dry {
		if err := a.show(j, j.table); err != nil {
			return err
		}
	}
	done := s.Found.Progress == cluster.Alone
	a.advise(&s.Found)
	if dry {
		return nil
	}
	if !done {
		if err := a.confirm(fmt.Sprintf("Make a new cluster of node %s alone, with the %d records above, and shut out %s for ever?", j.Node, j.Records, orNobody(j.Removed))); err != nil {
			return err
		}
		if err := s.Recover(ctx, at.options); err != nil {
			return err
		}
		j.Recovered = &recoveredJSON{s.Found.Cluster, s.Found.LastTerm, s.Found.Last}
		a.say("node %[1]s is cluster %[2]s now, alone. Start it; then give each new node a new id, and let it in: waxwing cluster join ID@HOST:PORT. Never start %[3]s again: empty their folders.",
			j.Node, s.Found.Cluster, orNobody(j.Removed))
	}
	if !text {
		return a.json(j)
	}
	return nil
}

func orNobody(nodes []string) string {
	if len(nodes) == 0 {
		return "nobody"
	}
	return strings.Join(nodes, ", ")
}

// advise says what a look means.
func (a *app) advise(f *cluster.Found) {
	switch f.Progress {
	case cluster.Alone:
		a.say("node %s is a majority of cluster %s by itself: there is nothing to recover. Start it.", f.Node, f.Cluster)
	case cluster.Unfinished:
		a.say("A recovery of this folder was decided and did not end: cluster %s begins with node %s. It goes on where it was.", f.Cluster, f.Node)
	default:
		a.say("Everything above is kept, whether or not it was ever acknowledged. What the others acknowledged behind it is lost: records at and behind the ends above, and changes behind entry %d. Nobody can tell from here whether there are any.", f.Last)
		a.say("If the disk of another member has survived, look at it in the same way, and recover the one with the highest last term; where that is the same, the highest last entry. This one: term %d, entry %d.", f.LastTerm, f.Last)
	}
}
