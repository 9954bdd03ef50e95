package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/waxwing-mq/waxwing/snapshot"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
)

// Snapshot cuts the log now and returns everything up to the cut, and so every record that was acknowledged before the
// call, as a stream. It waits until the cut is sealed. Deleting and merging of what is in it waits until the export is
// closed. Records that are published meanwhile are not in it.
func (g *Group) Snapshot(ctx context.Context, program string) (*storage.Export, error) {
	hold := g.options.Log.Hold() // before the cut: what is deleted from here on could be missing behind it
	number, err := g.cutNow(ctx)
	if err == nil {
		err = g.options.Log.WaitSealed(ctx, number)
	}
	if err != nil {
		hold.Release()
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return hold.Export(number, snapshot.Head{Cluster: g.View().ClusterID(), Node: g.options.NodeID, Program: program, TimeMs: time.Now().UnixMilli()})
}

// cutNow ends the active segment and returns its number.
func (g *Group) cutNow(ctx context.Context) (uint64, error) {
	if !g.alone() { // this node may lag: the cut of a segment that ended long ago changes nothing, but says how far the log is
		judged, _ := g.judge()
		_, index, err := g.Ask(ctx, judged, state.AppendRotate(nil, &state.Rotate{}))
		if err == nil {
			err = g.WaitApplied(ctx, index)
		}
		if err != nil {
			return 0, err
		}
	}
	for {
		number := g.View().Segment()
		judged, _ := g.judge()
		r, index, err := g.Ask(ctx, judged, state.AppendRotate(nil, &state.Rotate{Segment: number}))
		if err != nil {
			return number, err
		}
		if err := g.WaitApplied(ctx, index); err != nil || r.Status.Done() {
			return number, err
		}
		// The entry holds the cut of the segment before, too, and cuts only once: again, with the next entry.
	}
}

// SnapshotReport says what a good snapshot holds.
type SnapshotReport struct {
	Head        snapshot.Head
	Digest      string // SHA-256 of what it holds, hex
	Contents    storage.Contents
	Topics      int
	Partitions  int
	Revocations int
	Policy      uint64 // version
}

// VerifySnapshot reads a snapshot to its end and checks all of it: the sums of the file, every batch, every segment, and
// that the state fits the records. Errors wrap snapshot.ErrForeign, snapshot.ErrNewer, snapshot.ErrDamaged, or say that a
// part is of a newer program.
func VerifySnapshot(ctx context.Context, in io.Reader) (*SnapshotReport, error) {
	r, err := snapshot.NewReader(in)
	if err != nil {
		return nil, err
	}
	var m *state.Machine
	contents, err := storage.VerifySnapshot(ctx, r, func(chunks iter.Seq2[[]byte, error]) (err error) {
		m, err = restoreState(r.Head(), chunks)
		return err
	})
	if err != nil {
		return nil, err
	}
	view := m.View()
	report := &SnapshotReport{Head: *r.Head(), Digest: r.Digest(), Contents: contents.Contents, Topics: view.TopicCount(), Revocations: len(view.Revocations()), Policy: view.Policy().Version}
	for p := range view.Partitions() {
		report.Partitions++
		if err := contents.Covered(p.ID, p.Low, p.Next); err != nil {
			return nil, fmt.Errorf("topic %s, %w", p.Topic, err)
		}
	}
	return report, nil
}

// restoreState makes a machine of a snapshot's state, and compares it with what the snapshot says of itself.
func restoreState(h *snapshot.Head, chunks iter.Seq2[[]byte, error]) (*state.Machine, error) {
	m, err := state.Restore(state.Limits{}, chunks)
	if errors.Is(err, state.ErrCheckpoint) {
		return nil, fmt.Errorf("%w: %w", snapshot.ErrDamaged, err)
	}
	if err != nil {
		return nil, err
	}
	view, last := m.View(), h.Segments[len(h.Segments)-1].Last
	if view.Applied() != h.Index || view.Segment() != last+1 || view.ClusterID() != h.Cluster {
		return nil, fmt.Errorf("%w: it says entry %d and segment %d of cluster %s, its state is of entry %d and segment %d of cluster %s", snapshot.ErrDamaged,
			h.Index, last, h.Cluster, view.Applied(), view.Segment()-1, view.ClusterID())
	}
	return m, nil
}
