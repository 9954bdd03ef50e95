package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/storage"
)

func newStorageVerify(a *app) *cobra.Command {
	var rate string
	c := &cobra.Command{
		Use:   "verify [DIR]",
		Short: "Read every sealed segment whole and compare it with what was sealed (exit code 1: something is damaged)",
		Long: `Without DIR: ask the broker to read its sealed segments now, one after the other.

With DIR, the data folder of a stopped node (node.data_dir): read the segments, every entry of the raft log, and node.json.
Nothing in the folder is changed, and no broker can start on it meanwhile. Whether a whole segment is missing shows at the
next start only, when the log was replayed.`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, list []string) error {
			if len(list) == 1 {
				if rate != "" {
					return usage("storage verify DIR: --rate is for a broker")
				}
				return a.verifyFolder(c.Context(), list[0])
			}
			perSecond := uint64(0)
			if rate != "" {
				var err error
				if perSecond, err = parseSize(rate); err != nil || perSecond == 0 {
					return usage("--rate %q: give bytes a second, such as 64MiB", rate)
				}
			}
			return a.with(c.Context(), func(ctx context.Context, c *client.Client) error { return a.verifyNode(ctx, c, perSecond) })
		},
	}
	c.Flags().StringVar(&rate, "rate", "", "most bytes a second, such as 64MiB; default: as fast as the disk is")
	return c
}

// errDamaged is the end of a verification that found something.
func errDamaged(n int) error {
	return &exitError{exitFailure, fmt.Errorf("%d found damaged; see above", n)}
}

// verifyNode asks a broker to read each of its segments.
func (a *app) verifyNode(ctx context.Context, c *client.Client, perSecond uint64) error {
	info, err := c.Storage().Status(ctx)
	if err != nil {
		return err
	}
	list, damaged := []segmentJSON{}, 0
	for i := range info.Segments {
		s, err := c.Storage().Verify(ctx, info.Segments[i].Name, perSecond)
		if errors.Is(err, client.ErrNotFound) {
			a.say("%s: deleted or merged meanwhile", info.Segments[i].Name)
			continue
		}
		if err != nil {
			return err
		}
		if s.Fault != "" {
			damaged++
		}
		a.say("%d of %d: %s %s", i+1, len(info.Segments), s.Name, s.State)
		list = append(list, segmentOf(&s))
	}
	out := struct {
		Node     string        `json:"node"`
		Damaged  int           `json:"damaged"`
		Segments []segmentJSON `json:"segments"`
	}{info.Node, damaged, list}
	if err := a.show(out, func() *table { return segmentTable(list) }); err != nil || damaged == 0 {
		return err
	}
	return errDamaged(damaged)
}

// folderJSON is a stopped node's data folder as -o json prints it.
type folderJSON struct {
	Dir      string        `json:"dir"`
	Node     string        `json:"node"`
	Damaged  int           `json:"damaged"`
	Faults   []string      `json:"faults"` // of what is not a segment
	Log      folderLogJSON `json:"log"`
	Segments []segmentJSON `json:"segments"`
}

type folderLogJSON struct {
	First   uint64 `json:"first"`
	Last    uint64 `json:"last"`
	Mark    uint64 `json:"mark"` // what it must reach
	Entries uint64 `json:"entries"`
	Bytes   uint64 `json:"bytes"`
	Fault   string `json:"fault"`
}

// verifyFolder reads a stopped node's data folder.
func (a *app) verifyFolder(ctx context.Context, dir string) error {
	lock, err := cluster.LockReading(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	out := folderJSON{Dir: dir, Faults: []string{}, Segments: []segmentJSON{}}
	err = storage.Verify(ctx, filepath.Join(dir, "storage"), func(s storage.SegmentStatus) {
		a.say("%s %s %s", s.Name, s.State, s.Fault)
		out.add(&s)
	})
	if ctx.Err() != nil {
		return err
	}
	head, sealed, err2 := storage.HeadOf(filepath.Join(dir, "storage"))
	for _, err := range []error{err, err2} {
		if err != nil {
			out.Faults = append(out.Faults, fmt.Sprint(err))
		}
	}
	r, err := lock.Check(ctx, func() (storage.Head, bool) { return head, sealed })
	if err != nil {
		return err
	}
	out.report(&r)
	out.Damaged += len(out.Faults)
	if err := a.show(out, out.table); err != nil || out.Damaged == 0 {
		return err
	}
	return errDamaged(out.Damaged)
}

// add takes a segment.
func (f *folderJSON) add(s *storage.SegmentStatus) {
	n := &s.Contents
	j := segmentJSON{Name: s.Name, Dir: s.Dir, State: string(s.State), First: s.First, Last: s.Last, From: s.From, Index: s.Index, Partitions: len(s.Extents), Batches: n.Batches, Records: n.Records, Bytes: n.Bytes,
		DiskBytes: uint64(s.DiskBytes()), Fault: s.Fault, Files: []fileJSON{}}
	if s.State == storage.StateSealed {
		j.Digest = n.Sum.String()
	}
	if s.Fault != "" {
		j.State = string(storage.StateDamaged)
		f.Damaged++
	}
	for _, file := range s.Files {
		j.Files = append(j.Files, fileJSON{file.Name, uint64(file.Size), crcText(file.Sum)})
	}
	f.Segments = append(f.Segments, j)
}

// report takes what is not a segment.
func (f *folderJSON) report(r *cluster.Report) {
	f.Node = r.Node
	f.Log = folderLogJSON{r.First, r.Last, r.Mark, r.Entries, r.Bytes, r.LogFault}
	for _, fault := range []string{r.NodeFault, r.LogFault} {
		if fault != "" {
			f.Faults = append(f.Faults, fault)
		}
	}
}

// table lists the segments, then the log and the node as if they were some.
func (f *folderJSON) table() *table {
	t := segmentTable(f.Segments)
	state := func(fault string) string {
		if fault != "" {
			return string(storage.StateDamaged)
		}
		return "good"
	}
	l := &f.Log
	t.add("raft log", state(l.Fault), fmt.Sprintf("%d..%d", l.First, l.Last), "-", "-", "-", strconv.FormatUint(l.Bytes, 10), "-", "-", "-", orDash(l.Fault))
	for _, fault := range f.Faults {
		if fault != l.Fault {
			t.add("folder", string(storage.StateDamaged), "-", "-", "-", "-", "-", "-", "-", "-", fault)
		}
	}
	return t
}
