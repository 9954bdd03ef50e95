package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/storage/plan"
	"github.com/waxwing-mq/waxwing/topic"
)

// errSurvivorDamaged is wrapped by what a survivor has lost.
var errSurvivorDamaged = errors.New("nobody is left to give it back. Recover on another survivor, or restore a backup")

// verify reads every sealed segment, and makes sure that no record that the state speaks of is missing.
func (s *Survivor) verify(ctx context.Context, report func(storage.SegmentStatus)) error {
	spans := map[topic.PartitionID][]plan.Span{}
	damaged := 0
	var first string
	err := storage.Verify(ctx, s.storage(), func(st storage.SegmentStatus) {
		report(st)
		if st.Fault != "" {
			if damaged++; damaged == 1 {
				first = st.Name + ": " + st.Fault
			}
		}
		for _, e := range st.Extents {
			spans[e.Partition] = addSpan(spans[e.Partition], plan.Span{Base: int64(e.Base), Next: int64(e.Next)})
		}
	})
	switch {
	case err != nil:
		return err
	case damaged > 0:
		return fmt.Errorf("%d sealed segments are damaged, and %w; the first: %s", damaged, errSurvivorDamaged, first)
	}
	for p := range s.machine.View().Partitions() {
		var tail plan.Span
		if base, there := s.tails[p.ID]; there {
			tail = plan.Span{Base: int64(base), Next: int64(p.Next)}
		}
		if hole, _, missing := plan.Hole(int64(p.Low), int64(p.Next), spans[p.ID], tail); missing {
			return fmt.Errorf("topic %s, partition %d: records %d to %d are missing, and %w", p.Topic, p.Index, hole.Base, hole.Next-1, errSurvivorDamaged)
		}
	}
	return nil
}

// addSpan adds what the next segment has; without a hole it stays one span.
func addSpan(list []plan.Span, next plan.Span) []plan.Span {
	if n := len(list); n > 0 && list[n-1].Next >= next.Base {
		list[n-1].Next = max(list[n-1].Next, next.Next)
		return list
	}
	return append(list, next)
}
