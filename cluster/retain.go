package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/topic"
)

// retainLoop holds topics to their limits, as long as this node leads, and keeps the reserve of the raft log.
func (g *Group) retainLoop(ctx context.Context) {
	tick := time.NewTicker(g.options.RetainEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		case <-g.stopped:
			return
		}
		if err := g.Retain(ctx); err != nil {
			g.options.Logger.Warn("retention", "error", err)
		}
		if err := g.reserve.look(g.options.Log.Space()); err != nil {
			g.options.Logger.Warn("a full disk may end this node", "error", err)
		}
	}
}

// Retain proposes the low offsets that the limits of topics ask for: age (by this node's clock), bytes, records. Only
// the leader does; every replica trims where the command stands. A partition whose data is damaged is passed over and
// reported.
func (g *Group) Retain(ctx context.Context) error {
	if leads, err := g.leads(); !leads || err != nil {
		return err
	}
	var errs []error
	var cuts []state.Cut
	propose := func() {
		if len(cuts) == 0 {
			return
		}
		if _, _, err := g.Do(ctx, state.AppendTrim(nil, &state.Trim{Cuts: cuts})); err != nil {
			errs = append(errs, err)
		}
		cuts = cuts[:0]
	}
	view := g.View()
	nowMs := time.Now().UnixMilli()
	view.Topics("", func(t *state.Topic) bool {
		if t.Spec.MaxAgeMs == 0 && t.Spec.MaxBytes == 0 && t.Spec.MaxRecords == 0 {
			return true
		}
		for _, id := range t.Partitions {
			p, _ := view.Partition(id)
			low, err := g.retained(&t.Spec, &p, nowMs)
			if err != nil {
				errs = append(errs, fmt.Errorf("topic %s: %w", t.Name, err))
				continue
			}
			if low > p.Low {
				cuts = append(cuts, state.Cut{Partition: id, Low: low})
			}
			if len(cuts) == state.TrimCutsMax {
				propose()
			}
		}
		return ctx.Err() == nil
	})
	propose()
	return errors.Join(errs...)
}

// retained is the first offset that a topic's limits keep.
func (g *Group) retained(spec *state.Spec, p *state.Partition, nowMs int64) (low topic.Offset, err error) {
	if p.Low == p.Next {
		return p.Low, nil
	}
	if spec.MaxRecords > 0 && uint64(p.Next-p.Low) > spec.MaxRecords {
		low = p.Next - topic.Offset(spec.MaxRecords)
	}
	if spec.MaxAgeMs > 0 && spec.MaxAgeMs < uint64(nowMs) {
		at, err := g.options.Log.AgeLow(p.ID, nowMs-int64(spec.MaxAgeMs))
		if err != nil {
			return 0, err
		}
		low = max(low, at)
	}
	if spec.MaxBytes > 0 {
		at, err := g.options.Log.BytesLow(p.ID, spec.MaxBytes)
		if err != nil {
			return 0, err
		}
		low = max(low, at)
	}
	return low, nil
}
