package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/storage/plan"
)

// Names in the log's folder.
const (
	segmentsDir   = "segments"   // one folder a segment
	quarantineDir = "quarantine" // segments whose SEALED is damaged
)

// segmentID names a segment: the cuts that it covers, equal unless it was merged, and how often it was written again
// under the same numbers.
type segmentID struct {
	first, last uint64
	generation  uint64
}

// String is the name of its folder: 0000000003-0000000006, or 0000000003-0000000006.1 written again.
func (id segmentID) String() string {
	name := fmt.Sprintf("%010d-%010d", id.first, id.last)
	if id.generation > 0 {
		name += fmt.Sprintf(".%d", id.generation)
	}
	return name
}

// parseSegmentID is the reverse; ok is false for any other name.
func parseSegmentID(name string) (id segmentID, ok bool) {
	numbers, generation, again := strings.Cut(name, ".")
	_, err := fmt.Sscanf(numbers, "%d-%d", &id.first, &id.last)
	if err == nil && again {
		id.generation, err = strconv.ParseUint(generation, 10, 64)
	}
	return id, err == nil && id.String() == name && id.first > 0 && id.first <= id.last
}

// found is what a look at the segments' folder brought.
type found struct {
	sealed   []*segment // in order, none inside another
	unsealed []string   // folders without SEALED, or inside a merged segment: to be deleted
	damaged  []string   // folders whose SEALED cannot be read
}

// scan reads every manifest and changes nothing.
func scan(dir string) (f found, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return f, err
	}
	for _, e := range entries {
		id, ok := parseSegmentID(e.Name())
		if !ok || !e.IsDir() {
			return f, fmt.Errorf("%s is no segment: take it away", filepath.Join(dir, e.Name()))
		}
		folder := filepath.Join(dir, e.Name())
		text, err := os.ReadFile(filepath.Join(folder, manifestFile))
		switch {
		case errors.Is(err, os.ErrNotExist):
			f.unsealed = append(f.unsealed, folder)
			continue
		case err != nil:
			return f, err
		}
		m, err := parseManifest(text)
		switch {
		case errors.Is(err, ErrNewer):
			return f, fmt.Errorf("%s: %w", folder, err)
		case err != nil || m.First != id.first || m.Last != id.last:
			f.damaged = append(f.damaged, folder)
			continue
		}
		f.sealed = append(f.sealed, newSealed(folder, id, m))
	}
	return f, f.resolve()
}

// resolve sorts the sealed segments and sorts out those that a merged one covers.
func (f *found) resolve() error {
	cuts := make([]plan.Cuts, len(f.sealed))
	for i, s := range f.sealed {
		cuts[i] = plan.Cuts{First: s.first, Last: s.last, Generation: s.generation}
	}
	keep, covered, err := plan.Resolve(cuts)
	if err != nil {
		return err
	}
	for _, i := range covered {
		f.unsealed = append(f.unsealed, f.sealed[i].dir)
	}
	kept := make([]*segment, 0, len(keep))
	for _, i := range keep {
		kept = append(kept, f.sealed[i])
	}
	f.sealed = kept
	return nil
}

// remove deletes a segment's folder for good. SEALED goes first: what is half deleted is not sealed.
func remove(folder string) error {
	if err := unseal(folder); err != nil {
		return err
	}
	return fault.Step("segment.delete", func() error {
		if err := os.RemoveAll(folder); err != nil {
			return err
		}
		return syncDir(filepath.Dir(folder))
	})
}

// unseal makes a folder one that a start deletes.
func unseal(folder string) error {
	return fault.Step("segment.unseal", func() error {
		if err := os.Remove(filepath.Join(folder, manifestFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return syncDir(folder)
	})
}

// quarantine moves a damaged folder out of the way. Nothing is destroyed: it may be all there is.
func quarantine(root, folder string) (to string, err error) {
	away := filepath.Join(root, quarantineDir)
	if err := os.MkdirAll(away, 0o700); err != nil {
		return "", err
	}
	to = filepath.Join(away, filepath.Base(folder))
	for n := 1; ; n++ {
		if _, err := os.Lstat(to); errors.Is(err, os.ErrNotExist) {
			break
		}
		to = fmt.Sprintf("%s.%d", strings.TrimSuffix(to, fmt.Sprintf(".%d", n-1)), n)
	}
	if err := os.Rename(folder, to); err != nil {
		return "", err
	}
	return to, errors.Join(syncDir(away), syncDir(filepath.Dir(folder)))
}
