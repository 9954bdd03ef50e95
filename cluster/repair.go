package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/storage"
)

// Times between two tries of a repair that nobody could help with: the first, doubled up to the last.
const (
	repairAgain    = 10 * time.Second
	repairAgainMax = 5 * time.Minute
)

// mended says whether other nodes repair what is damaged here.
func (g *Group) mended() bool { return g.installs.dial != nil }

// repairLoop has damaged and missing segments fetched from other members, one at a time, and compares what is sealed here with
// what they have sealed, now and then.
func (g *Group) repairLoop(ctx context.Context) {
	if !g.mended() {
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(g.installs.ctx, func() { cancel(ErrShutdown) })()
	r := repairer{g: g, log: g.options.Log}
	timer := time.NewTimer(0)
	defer timer.Stop()
	compared, pause := time.Now(), repairAgain
	for {
		select {
		case <-timer.C:
		case <-r.log.RepairSignal():
			r.said, pause = false, repairAgain
		case <-ctx.Done():
			return
		case <-g.stopped:
			return
		}
		needed, due := r.needed(), time.Since(compared) >= g.options.CompareEvery
		if needed || due {
			r.round(ctx)
			compared = time.Now()
		}
		in := g.options.CompareEvery - time.Since(compared)
		if needed = r.needed(); needed {
			in, pause = min(in, pause), min(2*pause, repairAgainMax)
		}
		timer.Reset(max(in, 0))
	}
}

// repairer is what repairLoop remembers. It is for one goroutine.
type repairer struct {
	g    *Group
	log  *storage.Log
	said bool // that nobody can help now

	differ map[string]bool // segment and node that were reported to differ
}

// source is a member and what it has sealed.
type source struct {
	raft.Server
	listing *storage.Listing
}

// needed says whether something is damaged or missing. What was fetched for it goes when it is not.
func (r *repairer) needed() bool {
	if r.log.NeedsRepair() {
		if r.log.FindHoles(); r.log.NeedsRepair() { // missing records may have been trimmed
			return true
		}
	}
	if err := r.log.ForgetRepairs(); err != nil {
		r.g.options.Logger.Warn("what was fetched for a repair is not deleted", "error", err)
	}
	return false
}

// round asks every member what it has sealed, compares, and repairs what one of them can repair.
func (r *repairer) round(ctx context.Context) {
	var sources []source
	var errs []error
	for _, s := range r.members() {
		li, err := r.ask(ctx, s)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.ID, err))
			continue
		}
		sources = append(sources, source{s, li})
	}
	if ctx.Err() != nil {
		return
	}
	disputed := r.compare(ctx, sources)
	for _, s := range sources {
		for _, repair := range r.log.Repairs(s.listing) {
			if err := r.from(ctx, s, repair, disputed); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", s.ID, err))
			}
		}
	}
	if r.needed() && !r.said && ctx.Err() == nil {
		r.said = true
		r.g.options.Logger.Error("nobody can repair what is damaged now; it is tried again", "every", repairAgainMax, "damage", r.log.Damage(), "error", errors.Join(errs...))
	}
}

// members are the others, the leader first.
func (r *repairer) members() (list []raft.Server) {
	_, leader := r.g.raft.LeaderWithID()
	for _, s := range r.g.raft.GetConfiguration().Configuration().Servers {
		switch {
		case string(s.ID) == r.g.options.NodeID:
		case s.ID == leader:
			list = slices.Insert(list, 0, s)
		default:
			list = append(list, s)
		}
	}
	return list
}

// on runs something over a link to a member.
func (r *repairer) on(ctx context.Context, to raft.Server, do func(k *segmentLink) error) error {
	c, err := r.g.installs.dial(ctx, to)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	return do(newSegmentLink(c))
}

// ask asks a member what it has sealed.
func (r *repairer) ask(ctx context.Context, to raft.Server) (li *storage.Listing, err error) {
	err = r.on(ctx, to, func(k *segmentLink) error { li, err = k.listing(); return err })
	return li, err
}

// from repairs something with a member's segments.
func (r *repairer) from(ctx context.Context, s source, repair *storage.Repair, disputed map[string]bool) error {
	repair.Mending(true)
	defer repair.Mending(false)
	want := repair.Want()
	names := make([]string, len(want))
	for i := range want {
		names[i] = want[i].Name()
		if len(repair.Own()) == 0 && disputed[names[i]] {
			return fmt.Errorf("segment %s: %w: two other nodes have other batches in it, and this one has none", names[i], storage.ErrDiffers)
		}
	}
	begin := time.Now()
	err := r.fetch(ctx, s.Server, repair)
	if err == nil {
		err = repair.Swap()
	}
	if err != nil {
		if !r.said {
			r.g.options.Logger.Warn("a damaged segment was not repaired from a node", "segments", repair.Own(), "from", s.ID, "with", names, "error", err)
		}
		return err
	}
	r.said = false
	r.g.options.Logger.Info("damaged or missing segments repaired: their records were fetched from another node, compared, and can be read again", "segments", strings.Join(repair.Own(), " "), "from", s.ID,
		"with", strings.Join(names, " "), "took", time.Since(begin).Round(time.Millisecond))
	return nil
}

// fetch takes what a repair wants and is not here yet.
func (r *repairer) fetch(ctx context.Context, from raft.Server, repair *storage.Repair) error {
	return r.on(ctx, from, func(k *segmentLink) error {
		var sealed [][]byte
		for _, want := range repair.Want() {
			text, err := k.sealedFile(want.Name())
			if err != nil {
				return err
			}
			sealed = append(sealed, text)
		}
		if err := repair.Fits(sealed); err != nil {
			return err
		}
		for _, want := range repair.Want() {
			if repair.Has(want) {
				continue
			}
			if err := k.fetch(ctx, repair.Receive(want), want, true); err != nil {
				return err
			}
		}
		return nil
	})
}

// compare tells of segments that two nodes cut at the same entries and that hold other batches; a segment of this node's that
// differs is read again, and if it is damaged it gets repaired. It returns the segments that two other nodes differ about.
func (r *repairer) compare(ctx context.Context, sources []source) (disputed map[string]bool) {
	differ, segments := map[string]bool{}, map[string]bool{}
	for _, s := range sources {
		for _, d := range r.log.Differences(s.listing) {
			key := d.Segment + " " + string(s.ID)
			differ[key], segments[d.Segment] = true, true
			if r.differ[key] {
				continue
			}
			agree := r.agreeing(sources, &d)
			st, err := r.log.VerifySegment(ctx, d.Segment, storage.ScrubBytesPerSecondDefault)
			r.g.options.Logger.Error("a segment holds other batches here than on another node: one of them is wrong", "segment", d.Segment, "digest", d.Own.String(), "node", s.ID, "its_digest", d.Other.String(),
				"nodes_as_that_one", agree, "damaged_here", st.Fault, "error", err, "do", "keep the data folders of all nodes, and report it")
		}
	}
	r.differ = differ
	r.g.metrics.divergent.Set(float64(len(segments)))
	disputed = map[string]bool{}
	for i, a := range sources {
		for _, b := range sources[i+1:] {
			for _, name := range a.listing.Disputes(b.listing) {
				disputed[name] = true
			}
		}
	}
	return disputed
}

// agreeing names the members whose segment has the digest that differs from this node's.
func (r *repairer) agreeing(sources []source, d *storage.Difference) (list []raft.ServerID) {
	for _, s := range sources {
		if slices.ContainsFunc(r.log.Differences(s.listing), func(o storage.Difference) bool { return o == *d }) {
			list = append(list, s.ID)
		}
	}
	return list
}
