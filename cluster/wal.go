package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	wal "github.com/hashicorp/raft-wal"

	"github.com/waxwing-mq/waxwing/storage"
)

// openStore opens the raft log of a folder: raft-wal with our META and MARK beside it. fileBytes is the size of one
// of its files; 0 = raft-wal's default.
func openStore(dir string, fileBytes int, r *reserve, sealed func() (storage.Head, bool), log *slog.Logger, fail func(error), m *metrics) (*store, error) {
	w, err := openWAL(dir, log, fileBytes, r, fail)
	if err != nil {
		return nil, fmt.Errorf("raft log: %w", corrupt(err))
	}
	s := &store{wal: w, sealed: sealed, fail: fail, metrics: m}
	if s.mark, err = openMark(dir); s.mark == nil {
		return nil, errors.Join(fmt.Errorf("raft log: %w", err), w.Close())
	}
	if err != nil {
		log.Warn("whether the newest entries of the raft log are all there cannot be checked at this start", "error", err)
	}
	return s, nil
}

// corrupt makes raft-wal's words about damage ours.
func corrupt(err error) error {
	if errors.Is(err, wal.ErrCorrupt) || errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// settle checks the log, and makes sure of what is in it before anything is added.
func (s *store) settle(dir string) error {
	if err := s.check(); err != nil {
		return err
	}
	if err := syncFiles(dir); err != nil {
		return fmt.Errorf("raft log: %w", err)
	}
	last, err := s.LastIndex()
	if err == nil {
		err = s.mark.raise(last)
	}
	return err
}

// syncFiles makes durable what a killed process wrote and had not synced: raft-wal counts it in.
func syncFiles(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil {
		return err
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return syncDir(dir)
}

// close ends the log.
func (s *store) close() error { return errors.Join(s.wal.Close(), s.mark.close()) }

// markEvery is how far the mark may lag behind after a power cut.
const markEvery = time.Second

// markLoop makes the mark durable now and then, off the way of the appends.
func (g *Group) markLoop(ctx context.Context) {
	tick := time.NewTicker(markEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		case <-g.stopped:
			return
		}
		if err := g.store.mark.sync(); err != nil {
			_ = g.store.failing("sync the mark", err)
			return
		}
	}
}
