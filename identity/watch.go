package identity

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// How files are followed. Directories are watched, not files: Kubernetes swaps a symbolic link beside
// them. The poll finds what file systems do not tell.
const (
	pollEvery    = time.Minute
	settle       = 200 * time.Millisecond // a certificate and its key are two writes
	ticketRotate = 24 * time.Hour
)

// Run follows the files and rotates ticket keys until ctx ends. A bad file is logged and
// shown in Status; what was loaded before stays.
func (s *Source) Run(ctx context.Context) error {
	rotate := time.NewTicker(ticketRotate)
	defer rotate.Stop()
	o := &s.options
	return follow(ctx, []string{o.CertFile, o.KeyFile, o.CAFile, o.CRLFile}, rotate.C, s.rotateTickets, func() {
		if err := s.Reload(); err != nil {
			o.Logger.Error("reload of certificates failed; the ones from before stay in use", "error", err)
		}
	})
}

// follow calls changed when one of the files may have changed, until ctx ends.
func follow(ctx context.Context, files []string, tick <-chan time.Time, onTick, changed func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch certificates: %w", err)
	}
	defer w.Close()
	for dir := range dirsOf(files) {
		if err := w.Add(dir); err != nil {
			return fmt.Errorf("watch certificates: %s: %w", dir, err)
		}
	}
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	settled := time.NewTimer(0)
	if !settled.Stop() {
		<-settled.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.Events:
			settled.Reset(settle)
		case <-w.Errors:
			settled.Reset(settle) // events were lost: look
		case <-settled.C:
			changed()
		case <-poll.C:
			changed()
		case <-tick:
			onTick()
		}
	}
}

func dirsOf(files []string) map[string]struct{} {
	dirs := map[string]struct{}{}
	for _, f := range files {
		if f != "" {
			dirs[filepath.Dir(f)] = struct{}{}
		}
	}
	return dirs
}
