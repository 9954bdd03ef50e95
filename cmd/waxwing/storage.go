package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/waxwing-mq/waxwing/client"
)

func newStorageCommand(a *app) *cobra.Command {
	return group("storage", "Look at a node's log on disk, and check it", newStorageStatus(a), newStorageVerify(a), newStorageScrub(a))
}

// segmentJSON is a segment as -o json prints it.
type segmentJSON struct {
	Name       string       `json:"name"`
	Dir        string       `json:"dir"`
	State      string       `json:"state"` // active, sealing, sealed, damaged, repairing; of a stopped node also unsealed
	First      uint64       `json:"first"` // cuts that it covers
	Last       uint64       `json:"last"`
	From       uint64       `json:"from"` // raft indexes; 0 = not sealed
	Index      uint64       `json:"index"`
	Partitions int          `json:"partitions"`
	Batches    uint64       `json:"batches"` // 0 = not sealed
	Records    uint64       `json:"records"`
	Bytes      uint64       `json:"bytes"`
	DiskBytes  uint64       `json:"disk_bytes"`
	Digest     string       `json:"digest"`
	Checked    string       `json:"checked"`
	Fault      string       `json:"fault"`
	Files      []fileJSON   `json:"files"`
	Extents    []extentJSON `json:"extents,omitempty"` // with --extents
}

type fileJSON struct {
	Name string `json:"name"`
	Size uint64 `json:"size"`
	CRC  string `json:"crc32c"` // "" = not kept: batches carry their own
}

type extentJSON struct {
	Partition uint64 `json:"partition"` // id
	Base      int64  `json:"base"`
	Next      int64  `json:"next"`
	Bytes     uint64 `json:"bytes"`
	First     string `json:"first"` // append times
	Last      string `json:"last"`
}

// segmentHead are the columns of a list of segments.
var segmentHead = []string{"SEGMENT", "STATE", "ENTRIES", "PARTITIONS", "RECORDS", "BATCHES", "BYTES", "DISK", "DIGEST", "CHECKED", "FAULT"}

func (s *segmentJSON) cells() []string {
	entries := "-"
	if s.Index > 0 {
		entries = fmt.Sprintf("%d..%d", s.From, s.Index)
	}
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	return []string{s.Name, s.State, entries, strconv.Itoa(s.Partitions), number(s.Records), number(s.Batches), number(s.Bytes), number(s.DiskBytes), orDash(s.Digest), orDash(s.Checked), orDash(s.Fault)}
}

func crcText(sum uint32) string {
	if sum == 0 {
		return ""
	}
	return fmt.Sprintf("%08x", sum)
}

func segmentOf(s *client.SegmentInfo) segmentJSON {
	j := segmentJSON{Name: s.Name, Dir: s.Dir, State: string(s.State), First: s.First, Last: s.Last, From: s.From, Index: s.Index, Partitions: s.Partitions, Batches: s.Batches, Records: s.Records,
		Bytes: s.Bytes, DiskBytes: s.DiskBytes, Digest: s.Digest, Checked: stamp(s.Checked), Fault: s.Fault, Files: []fileJSON{}}
	for _, f := range s.Files {
		j.Files = append(j.Files, fileJSON{f.Name, f.Size, crcText(f.Sum)})
	}
	return j
}

// scrubJSON is a scrub as -o json prints it.
type scrubJSON struct {
	Segment        string `json:"segment"` // being read
	Asked          string `json:"asked"`
	Oldest         string `json:"oldest"`
	Due            int    `json:"due"`
	DueBytes       uint64 `json:"due_bytes"`
	Sealed         int    `json:"sealed"`
	Damaged        int    `json:"damaged"`
	BytesPerSecond uint64 `json:"bytes_per_second"`
	IntervalMs     int64  `json:"interval_ms"`
}

func scrubOf(s *client.ScrubInfo) scrubJSON {
	return scrubJSON{s.Segment, stamp(s.Asked), stamp(s.Oldest), s.Due, s.DueBytes, s.Sealed, s.Damaged, s.BytesPerSecond, s.Interval.Milliseconds()}
}

func newStorageStatus(a *app) *cobra.Command {
	var extents bool
	c := &cobra.Command{Use: "status", Short: "List the segments of a node's log, with state, folder, files and ranges", Args: args(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
		return a.with(c.Context(), func(ctx context.Context, c *client.Client) error { return a.storageStatus(ctx, c, extents) })
	}}
	c.Flags().BoolVar(&extents, "extents", false, "with -o json: what each segment holds of each partition, too")
	return c
}

func (a *app) storageStatus(ctx context.Context, c *client.Client, extents bool) error {
	info, err := c.Storage().Status(ctx)
	if err != nil {
		return err
	}
	list := []segmentJSON{}
	for i := range info.Segments {
		s := segmentOf(&info.Segments[i])
		if extents {
			if s.Extents, err = extentsOf(ctx, c, s.Name); err != nil {
				return err
			}
		}
		list = append(list, s)
	}
	out := struct {
		Node     string        `json:"node"`
		Free     uint64        `json:"free_bytes"`
		Total    uint64        `json:"total_bytes"`
		Guard    uint64        `json:"guard_bytes"`
		LogFirst uint64        `json:"log_first"`
		LogLast  uint64        `json:"log_last"`
		Scrub    scrubJSON     `json:"scrub"`
		Segments []segmentJSON `json:"segments"`
	}{info.Node, info.Free, info.Total, info.Guard, info.LogFirst, info.LogLast, scrubOf(&info.Scrub), list}
	if err := a.show(out, func() *table { return segmentTable(list) }); err != nil {
		return err
	}
	a.say("node %s: %d bytes free of %d, publishes are refused below %d; raft log %d..%d; %d of %d sealed segments wait to be checked, %d damaged",
		info.Node, info.Free, info.Total, info.Guard, info.LogFirst, info.LogLast, info.Scrub.Due, info.Scrub.Sealed, info.Scrub.Damaged)
	return nil
}

func segmentTable(list []segmentJSON) *table {
	t := &table{head: segmentHead}
	for i := range list {
		t.add(list[i].cells()...)
	}
	return t
}

func extentsOf(ctx context.Context, c *client.Client, segment string) ([]extentJSON, error) {
	list, err := c.Storage().Extents(ctx, segment)
	out := []extentJSON{}
	for _, e := range list {
		out = append(out, extentJSON{e.Partition, e.Base, e.Next, e.Bytes, stamp(e.First), stamp(e.Last)})
	}
	return out, err
}

func newStorageScrub(a *app) *cobra.Command {
	var show, wait bool
	c := &cobra.Command{
		Use:   "scrub",
		Short: "Have every sealed segment read again in the background, or see how far that is",
		Long: `Make every sealed segment due now: the node reads them again in the background, at the rate of
storage.scrub_bytes_per_second, and compares them with what was sealed. It does that by itself once in storage.scrub_interval.
Exit code 1 with --wait or --show: a segment is damaged.`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if show && wait {
				return usage("storage scrub: --show and --wait exclude each other")
			}
			return a.with(c.Context(), func(ctx context.Context, c *client.Client) error { return a.storageScrub(ctx, c, !show, wait) })
		},
	}
	c.Flags().BoolVar(&show, "show", false, "only show how far it is")
	c.Flags().BoolVar(&wait, "wait", false, "wait until the pass is over")
	return c
}

// scrubLookAgain is how often --wait asks.
const scrubLookAgain = time.Second

func (a *app) storageScrub(ctx context.Context, c *client.Client, start, wait bool) error {
	s, err := c.Storage().Scrub(ctx, start)
	tick := time.NewTicker(scrubLookAgain)
	defer tick.Stop()
	for err == nil && wait && s.Due > 0 {
		a.say("%d of %d segments to go, %d bytes", s.Due, s.Sealed, s.DueBytes)
		select {
		case <-tick.C:
			s, err = c.Storage().Scrub(ctx, false)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err != nil {
		return err
	}
	j := scrubOf(&s)
	err = a.show(j, func() *table {
		t := &table{head: []string{"SEALED", "DUE", "DUE_BYTES", "DAMAGED", "READING", "OLDEST", "BYTES_PER_SECOND"}}
		t.add(strconv.Itoa(j.Sealed), strconv.Itoa(j.Due), strconv.FormatUint(j.DueBytes, 10), strconv.Itoa(j.Damaged), orDash(j.Segment), j.Oldest, strconv.FormatUint(j.BytesPerSecond, 10))
		return t
	})
	if err == nil && s.Damaged > 0 && (wait || !start) {
		err = &exitError{exitFailure, fmt.Errorf("%d segments are damaged; see: waxwing storage status", s.Damaged)}
	}
	return err
}
