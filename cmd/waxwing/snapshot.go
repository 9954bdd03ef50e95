package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/snapshot"
	"github.com/waxwing-mq/waxwing/storage"
)

func newSnapshotCommand(a *app) *cobra.Command {
	return group("snapshot", "Back up a running broker, and make a data folder of a backup", newSnapshotSave(a), newSnapshotInspect(a), newSnapshotVerify(a), newSnapshotRestore(a))
}

// snapshotJSON is a snapshot as -o json prints it.
type snapshotJSON struct {
	File        string                `json:"file,omitempty"`
	Cluster     string                `json:"cluster"`
	Node        string                `json:"node"`
	Program     string                `json:"program,omitempty"`
	Index       uint64                `json:"index"`
	Term        uint64                `json:"term,omitempty"`
	Taken       string                `json:"taken"`
	Records     uint64                `json:"records"`
	Bytes       uint64                `json:"bytes,omitempty"`
	SHA256      string                `json:"sha256,omitempty"`
	Verified    bool                  `json:"verified"`
	Topics      *int                  `json:"topics,omitempty"`
	Partitions  *int                  `json:"partitions,omitempty"`
	Policy      *uint64               `json:"policy_version,omitempty"`
	Revocations *int                  `json:"revocations,omitempty"`
	Segments    []snapshotSegmentJSON `json:"segments,omitempty"`
	NewCluster  string                `json:"new_cluster,omitempty"`
	DataDir     string                `json:"data_dir,omitempty"`
}

type snapshotSegmentJSON struct {
	First   uint64 `json:"first"`
	Last    uint64 `json:"last"`
	From    uint64 `json:"from_index"`
	Index   uint64 `json:"index"`
	Records uint64 `json:"records"`
	Bytes   uint64 `json:"bytes"`
}

// headJSON is what a file says of itself.
func headJSON(name string, h *snapshot.Head) *snapshotJSON {
	j := &snapshotJSON{File: name, Cluster: h.Cluster, Node: h.Node, Program: h.Program, Index: h.Index, Term: h.Term, Taken: stamp(h.Time())}
	j.Records, _ = h.Totals()
	for _, s := range h.Segments {
		j.Segments = append(j.Segments, snapshotSegmentJSON(s))
	}
	return j
}

// reportJSON is what a verified file holds.
func reportJSON(name string, r *cluster.SnapshotReport) *snapshotJSON {
	j := headJSON(name, &r.Head)
	j.SHA256, j.Verified = r.Digest, true
	j.Topics, j.Partitions, j.Policy, j.Revocations = &r.Topics, &r.Partitions, &r.Policy, &r.Revocations
	return j
}

// showSnapshot prints one.
func (a *app) showSnapshot(j *snapshotJSON) error {
	return a.show(j, func() *table {
		t := &table{}
		add := func(name, value string) { t.add(name, value) }
		number := func(n uint64) string { return strconv.FormatUint(n, 10) }
		add("cluster", j.Cluster)
		if j.NewCluster != "" {
			add("new cluster", j.NewCluster)
		}
		add("node", j.Node)
		add("taken", j.Taken)
		add("index", number(j.Index))
		add("records", number(j.Records))
		for _, v := range []struct {
			name  string
			value *int
		}{{"topics", j.Topics}, {"partitions", j.Partitions}, {"revocations", j.Revocations}} {
			if v.value != nil {
				add(v.name, strconv.Itoa(*v.value))
			}
		}
		if j.SHA256 != "" {
			add("sha256", j.SHA256)
		}
		add("verified", yesNo(j.Verified))
		for _, s := range j.Segments {
			add("segment", fmt.Sprintf("cuts %d to %d, entries %d to %d, %d records, %d bytes", s.First, s.Last, s.From, s.Index, s.Records, s.Bytes))
		}
		return t
	})
}

func newSnapshotSave(a *app) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "save FILE",
		Short: "Write everything that a running broker has stored to a file",
		Long: `Write a backup of a running broker to FILE: every record that was acknowledged before, with its publisher, offset and
time; topics, policy, revocations, and what producers need to go on without a double. It needs the right admin.

The file appears under its name only once it was fsynced, read back from the disk and verified whole. With - as FILE the
backup goes to standard output, checked as it goes. It is not encrypted and holds all records: its mode is 0600.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, list []string) error {
			return a.with(c.Context(), func(ctx context.Context, c *client.Client) error { return a.saveSnapshot(ctx, c, list[0], force) })
		},
	}
	c.Flags().BoolVar(&force, "force", false, "replace FILE if it exists")
	return c
}

// saveSnapshot writes the backup, and prints what is in it.
func (a *app) saveSnapshot(ctx context.Context, c *client.Client, name string, force bool) error {
	setUmask()
	var saved client.Snapshot
	fill := func(w io.Writer) (err error) {
		buffered := bufio.NewWriterSize(w, 1<<20)
		saved, err = c.SaveSnapshot(ctx, buffered, client.SnapshotOptions{})
		return errors.Join(err, buffered.Flush())
	}
	if name == "-" {
		if isTerminal(a.stdout) {
			return usage("snapshot save -: standard output is a terminal; redirect it to a file or a pipe")
		}
		if err := fill(a.stdout); err != nil {
			return err
		}
		a.say("snapshot of cluster %s at index %d: %d records, %d bytes, sha256 %s", saved.Cluster, saved.Index, saved.Records, saved.Bytes, saved.SHA256)
		return nil
	}
	var report *cluster.SnapshotReport
	err := storage.WriteBackup(name, force, fill, func(r io.Reader) (err error) {
		if report, err = cluster.VerifySnapshot(ctx, r); err == nil && report.Digest != saved.SHA256 {
			err = fmt.Errorf("%w: the disk gave back sha256 %s, the broker sent %s", snapshot.ErrDamaged, report.Digest, saved.SHA256)
		}
		return err
	})
	if errors.Is(err, storage.ErrExists) {
		return usage("%w", err)
	}
	if err != nil {
		return err
	}
	j := reportJSON(name, report)
	j.Bytes = saved.Bytes
	return a.showSnapshot(j)
}

func newSnapshotInspect(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "inspect FILE",
		Short: "Show what a backup says of itself, without reading it whole",
		Args:  args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, list []string) error {
			f, err := os.Open(list[0])
			if err != nil {
				return usage("%w", err)
			}
			defer f.Close()
			r, err := snapshot.NewReader(f)
			if err != nil {
				return fmt.Errorf("%s: %w", list[0], err)
			}
			return a.showSnapshot(headJSON(list[0], r.Head()))
		},
	}
}

func newSnapshotVerify(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "verify FILE",
		Short: "Read a backup whole and check all of it",
		Long: `Read a backup to its end and check all of it: the sums of the file, the checksum of every batch, that no record is
missing, and that the state fits the records. With - it reads standard input. Exit code 0 means that restore will take it.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, list []string) error {
			in := a.stdin
			if list[0] != "-" {
				f, err := os.Open(list[0])
				if err != nil {
					return usage("%w", err)
				}
				defer f.Close()
				in = f
			}
			report, err := cluster.VerifySnapshot(c.Context(), in)
			if err != nil {
				return fmt.Errorf("%s: %w", list[0], err)
			}
			return a.showSnapshot(reportJSON(list[0], report))
		},
	}
}

func newSnapshotRestore(a *app) *cobra.Command {
	var dir, node string
	c := &cobra.Command{
		Use:   "restore FILE --data-dir DIR --node-id ID",
		Short: "Make a data folder of a backup, for a new cluster",
		Long: `Make a data folder of a backup. The result is a new cluster of one node, with a new cluster id: all records, offsets,
publishers, topics, policy, revocations and producers as of the backup's index. Start it with serve.

FILE is verified whole, and DIR looked at, before anything is touched: DIR must be empty, or missing with its parent there. If
the restore is cut off, nothing starts on DIR; run it again, or delete DIR.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, list []string) error {
			if dir == "" || node == "" {
				return usage("snapshot restore: give --data-dir and --node-id")
			}
			return a.restoreSnapshot(c.Context(), list[0], dir, node)
		},
	}
	f := c.Flags()
	f.StringVar(&dir, "data-dir", "", "data folder to make (node.data_dir)")
	f.StringVar(&node, "node-id", "", "name of the node that will run on it (node.id)")
	return c
}

// restoreSnapshot makes the folder, and prints what is in it.
func (a *app) restoreSnapshot(ctx context.Context, name, dir, node string) error {
	setUmask()
	f, err := os.Open(name)
	if err != nil {
		return usage("%w", err)
	}
	defer f.Close()
	restored, err := cluster.Restore(ctx, cluster.RestoreOptions{File: f, Dir: dir, NodeID: node})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	j := reportJSON(name, &restored.SnapshotReport)
	j.NewCluster, j.DataDir = restored.Cluster, dir
	a.say("restored into %s as cluster %s; start it with: waxwing serve, node.id %s, node.data_dir %s", dir, restored.Cluster, node, dir)
	return a.showSnapshot(j)
}
