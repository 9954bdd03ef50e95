package storage

import (
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"
)

// Space is what the disk has, and what must stay free for publishes to be taken.
type Space struct {
	Free, Total, Guard uint64 // bytes
}

// Full says that nothing more should be published: settles, trims and reads go on.
func (s Space) Full() bool { return s.Free < s.Guard }

// Take lowers what is free by what is about to be written.
func (s *Space) Take(bytes uint64) { s.Free -= min(bytes, s.Free) }

// DiskFactor is how many times a published byte is written: to the raft log and to a segment.
const DiskFactor = 2

// Rules of the guard.
const (
	spaceEvery    = 250 * time.Millisecond
	guardPercent  = 10
	guardSegments = 3
	guardSpare    = 16 << 20 // for what files take beside their content, and entries in flight
)

// LogFileBytes is the size of a file of the raft log, beside segments of a size. The guard counts with it.
func LogFileBytes(segmentBytes int64) int64 { return min(max(segmentBytes/4, 4<<20), 64<<20) }

// GuardMin is the least guard: what the raft log may take for its next file, with as much in reserve, and what a segment
// needs that is opened.
func GuardMin(segmentBytes int64) uint64 {
	return uint64(2*LogFileBytes(segmentBytes)) + openBytes(segmentBytes, ballastBytes) + openSpareBytes + guardSpare
}

// space watches the free space.
type space struct {
	guard uint64 // 0 = by the size of the disk and the segments
	now   atomic.Pointer[Space]
	taken atomic.Int64 // bytes appended since the last look
}

// Space is the last look at the disk, at most a quarter of a second old while Run runs, less what was appended since and
// what Badger does not have yet.
func (l *Log) Space() Space {
	s := *l.disk.now.Load()
	s.Take(uint64(DiskFactor*l.disk.taken.Load() + l.queue.size()))
	return s
}

// look updates what is known.
func (l *Log) look() error {
	taken := l.disk.taken.Load()
	free, total, err := diskSpace(l.options.Dir)
	if err != nil {
		return err
	}
	guard := l.disk.guard
	if guard == 0 {
		guard = max(total/100*guardPercent, uint64(guardSegments*l.options.SegmentBytes), GuardMin(l.options.SegmentBytes))
	}
	before, s := l.disk.now.Load(), Space{free, total, guard}
	l.disk.now.Store(&s)
	l.disk.taken.Add(-taken) // what was appended before the look is in it, or in the queue
	switch {
	case s.Full() && (before == nil || !before.Full()):
		l.options.Logger.Error("the disk is below its guard: publishes are refused", "free_bytes", free, "guard_bytes", guard, "total_bytes", total)
	case !s.Full() && before != nil && before.Full():
		l.options.Logger.Info("the disk is above its guard again", "free_bytes", free, "guard_bytes", guard)
	}
	return nil
}

// spaceLoop looks until ctx ends.
func (l *Log) spaceLoop(ctx context.Context) {
	tick := time.NewTicker(spaceEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := l.look(); err != nil {
				l.options.Logger.Error("free space is not known", "error", err)
			}
		}
	}
}

// roomFor says whether so many bytes are free. The error is that of a full disk, with the numbers.
func roomFor(dir string, bytes uint64) error {
	free, _, err := diskSpace(dir)
	if err == nil && free < bytes {
		err = fmt.Errorf("%w: %d MiB are free, %d MiB are needed", syscall.ENOSPC, free>>20, bytes>>20)
	}
	return err
}
