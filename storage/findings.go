package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/waxwing-mq/waxwing/protocol/codec"
)

// The file SCRUB says when each sealed segment was read whole for the last time, and what was wrong with it. It lies beside
// the segments, which are never written again. Without it a segment counts as read when it was sealed.
//
//	+---------+--------------------------------------------------------+----------+
//	| version | msgpack array: [name, checked (unix ms), fault, held]  | CRC-32C  |
//	| 0x01    | for each segment                                       | 4 B, BE  |
//	+---------+--------------------------------------------------------+----------+
const (
	scrubFile     = "SCRUB"
	scrubVersion  = 1
	scrubFields   = 4
	faultBytesMax = 1024
)

var errScrubFile = errors.New("the file SCRUB is damaged")

// saveScrub writes the file. It is not synced: losing it costs a check too many, and damage that is found again.
func (l *Log) saveScrub() {
	name := filepath.Join(l.options.Dir, scrubFile)
	l.saving.Lock()
	defer l.saving.Unlock()
	err := os.WriteFile(name+".tmp", l.appendFindings(nil), 0o600)
	if err == nil {
		err = os.Rename(name+".tmp", name)
	}
	if err != nil {
		l.options.Logger.Warn("when segments were checked is not kept over a restart", "error", err)
	}
}

// appendFindings encodes the file, and forgets segments that are gone.
func (l *Log) appendFindings(dst []byte) []byte {
	var sealed []*segment
	for _, s := range l.set.segments() {
		if s.manifest.Load() != nil {
			sealed = append(sealed, s)
		}
	}
	c := &l.scrub
	c.mu.Lock()
	defer c.mu.Unlock()
	known := make(map[string]finding, len(sealed))
	start := len(dst)
	dst = append(dst, scrubVersion)
	dst = codec.AppendArray(dst, len(sealed))
	for _, s := range sealed {
		f := c.known[s.name()]
		known[s.name()] = f
		dst = codec.AppendArray(dst, scrubFields)
		dst = codec.AppendStr(dst, s.name())
		dst = codec.AppendInt(dst, f.checked.UnixMilli())
		dst = codec.AppendStr(dst, clip(f.fault, faultBytesMax))
		dst = codec.AppendBool(dst, f.held)
	}
	c.known = known
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// clip cuts words that are too long.
func clip(s string, most int) string {
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return s
}

// loadScrub takes the findings of earlier runs over, for the segments that are there.
func (l *Log) loadScrub(sealed []*segment) {
	text, err := os.ReadFile(filepath.Join(l.options.Dir, scrubFile))
	var known map[string]finding
	if err == nil {
		known, err = parseFindings(text)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		l.options.Logger.Warn("when segments were checked is not known: they count as checked when they were sealed", "error", err)
	}
	now := time.Now()
	for _, s := range sealed {
		f, ok := known[s.name()]
		if !ok {
			f.checked = s.sealedAt()
		}
		if f.checked.After(now) { // a clock was wrong: it would not be due for as long
			f.checked = now
		}
		l.scrub.note(s, func(now *finding) { *now = f })
		if f.fault != "" {
			l.repairs.wake()
			l.options.Logger.Error("a segment was found damaged before: records in it are refused, not skipped", "segment", s.name(), "dir", s.dir, "error", f.fault, "do", l.advice(f.held))
		}
	}
}

// sealedAt is when the segment was sealed and with that read whole.
func (s *segment) sealedAt() time.Time {
	info, err := os.Stat(filepath.Join(s.dir, manifestFile))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// parseFindings reads and checks the file.
func parseFindings(b []byte) (map[string]finding, error) {
	if len(b) < 5 {
		return nil, fmt.Errorf("%w: it has %d bytes", errScrubFile, len(b))
	}
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[len(body):]) || body[0] != scrubVersion {
		return nil, fmt.Errorf("%w: version %d or CRC-32C", errScrubFile, body[0])
	}
	c := codec.NewCursor(body[1:])
	known := map[string]finding{}
	for range c.Array(math.MaxUint16) {
		if c.Array(scrubFields) != scrubFields {
			c.Fail(codec.ErrCount)
		}
		name := string(c.Str(nameBytesMax))
		known[name] = finding{checked: time.UnixMilli(c.Int()), fault: string(c.Str(faultBytesMax)), held: c.Bool()}
	}
	if err := c.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", errScrubFile, err)
	}
	return known, nil
}
