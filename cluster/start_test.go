package cluster_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/cluster/clustertest"
	"github.com/waxwing-mq/waxwing/storage"
)

// TestStartSaysHowMuch: the log says how much a start replayed, from where, and how long that took.
func TestStartSaysHowMuch(t *testing.T) {
	dir, _, h := sealedNode(t)
	var words said
	log, err := storage.Open(storage.Options{Dir: filepath.Join(dir, "storage")})
	if err != nil {
		t.Fatal(err)
	}
	g, err := cluster.Open(t.Context(), cluster.Options{Dir: dir, NodeID: "n1", Log: log, StallReject: clustertest.Patience, StallEnd: clustertest.Patience, Logger: slog.New(slog.NewTextHandler(&words, nil)), Fail: func(err error) { t.Errorf("fail-stop: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { _ = g.Run(ctx) })
	work.Go(func() { _ = log.Run(ctx) })
	if err := g.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if err := g.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	cancel()
	work.Wait()
	if err := log.Close(); err != nil {
		t.Error(err)
	}
	line := regexp.MustCompile(`msg="log replayed" .*entries=(\d+) bytes=(\d+) behind=(\d+) took=\d+.*s topics=1`).FindStringSubmatch(words.String())
	if line == nil {
		t.Fatalf("nothing about the replay in:\n%s", words.String())
	}
	if line[1] == "0" || len(line[2]) < 6 || line[3] != fmt.Sprint(h.Point.Index) { // five records of 64 KiB
		t.Errorf("%q, the point is %d", line[0], h.Point.Index)
	}
}

// TestCheckpointOfAnotherCut: a segment whose checkpoint is not of its own cut refuses to start, and says what to do.
func TestCheckpointOfAnotherCut(t *testing.T) {
	dir, _, h := sealedNode(t)
	log, err := storage.Open(storage.Options{Dir: filepath.Join(dir, "storage")})
	if err != nil {
		t.Fatal(err)
	}
	var older [][]byte
	for chunk, err := range log.Checkpoint() {
		if err != nil {
			t.Fatal(err)
		}
		older = append(older, bytes.Clone(chunk))
	}
	point := h.Point
	point.Index += 3
	if err := log.Cut(storage.Cut{Number: 3, Point: point, Checkpoint: slices.Values(older)}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { _ = log.Run(ctx) })
	if err := log.WaitSealed(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	cancel()
	work.Wait()
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	refusedStart(t, dir, fmt.Sprintf("its checkpoint is of entry %d and segment 3, it was cut at entry %d", h.Point.Index, point.Index))
	refusedStart(t, dir, "start again: the raft log should still have its entries")
}

// TestRefusalsSayWhatToDo: an entry with a wrong CRC names the place and the way out. For a hole TestSegmentLost does.
func TestRefusalsSayWhatToDo(t *testing.T) {
	dir, _, _ := sealedNode(t)
	flip(t, filepath.Join(dir, "raft"), crashBody(22))
	refusedStart(t, dir, "CRC-32C of entry")
	refusedStart(t, dir, "restore the data folder from a copy")
}
