package cluster_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/cluster/clustertest"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
	"github.com/waxwing-mq/waxwing/topic"
)

var update = flag.Bool("update", false, "make the golden data folder of today's format anew")

// A golden folder is data.tar.gz, a node's data folder as it was killed, and expect.txt, what is in it.
const (
	goldenDir  = "testdata/golden"
	goldenNow  = "v1" // today's format
	goldenSize = 200 << 10
)

// TestU02GoldenFolders: the data folder of every version opens, verifies, replays, and holds the same state and the same
// records. `go test ./cluster -run U02 -update` makes the one of today's format; only a change of format may need that,
// and then the old one is kept beside it.
func TestU02GoldenFolders(t *testing.T) {
	if *update {
		makeGolden(t, filepath.Join(goldenDir, goldenNow))
	}
	versions, err := filepath.Glob(filepath.Join(goldenDir, "*"))
	if err != nil || len(versions) == 0 {
		t.Fatalf("no golden folders: %v", err)
	}
	for _, version := range versions {
		t.Run(filepath.Base(version), func(t *testing.T) {
			want, err := os.ReadFile(filepath.Join(version, "expect.txt"))
			if err != nil {
				t.Fatal(err)
			}
			dir := unpackGolden(t, version)
			got := segmentsOf(t, dir)
			n := clustertest.StartWith(t, dir, smallSegment)
			if got += describeNode(t, n); got != string(want) {
				t.Errorf("it holds\n%s\nwant\n%s", got, want)
			}
			takesMore(t, n)
		})
	}
}

// takesMore: the node knows the producers of before, and takes new records.
func takesMore(t *testing.T, n *clustertest.Node) {
	t.Helper()
	found, ok := n.Group.View().Topic("golden.full")
	if !ok {
		t.Fatal("no topic golden.full")
	}
	p := found.Partitions[0]
	end := n.Log.End(p)
	r, _, err := n.Group.Do(t.Context(), publish(p, 1, uint64(end)-1, smallBody(int(end)-1)))
	if err != nil || r.Status != state.StatusDuplicate || r.Offset != end-1 {
		t.Errorf("a repeat of the last record: %+v, %v", r, err)
	}
	r, _, err = n.Group.Do(t.Context(), publish(p, 1, uint64(end), smallBody(int(end))))
	if err != nil || r.Status != state.StatusOK || r.Offset != end {
		t.Errorf("a new record: %+v, %v", r, err)
	}
}

// makeGolden fills a node with one of everything and packs its folder as a kill would leave it.
func makeGolden(t *testing.T, to string) {
	t.Helper()
	dir := t.TempDir()
	n, err := clustertest.OpenOptions(t.Context(), storage.Options{SegmentBytes: smallSegment}, cluster.Options{Dir: dir, SegmentBytes: smallSegment, LogFileBytes: 1 << 20, StallReject: clustertest.Patience, StallEnd: clustertest.Patience})
	if err != nil {
		t.Fatal(err)
	}
	full, trimmed := createTopic(t, n.Group, "golden.full"), createLimited(t, n.Group, "golden.trimmed", state.Spec{MaxRecords: 1_000_000, MaxBytes: 1 << 30, MaxAgeMs: 1 << 50})
	gone := createTopic(t, n.Group, "golden.deleted")
	do := func(cmd []byte) {
		t.Helper()
		if r, _, err := n.Group.Do(t.Context(), cmd); err != nil || !r.Status.Done() {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	do(state.AppendSetPolicy(nil, &state.SetPolicy{Reset: true, Document: []byte("bindings: []\n"), By: "golden"}))
	do(state.AppendRevoke(nil, &state.Revoke{By: "golden", Entry: state.Revocation{Kind: state.RevokeIdentity, Value: "spiffe://td/client/revoked", Reason: "lost"}}))
	at := 0
	fill := func(records int, parts ...topic.PartitionID) {
		for range records {
			for _, p := range parts {
				do(publish(p, 1, uint64(at), smallBody(at)))
			}
			at++
		}
	}
	for segment := range 12 { // ten small ones, of which eight become one, and the newest two
		fill(2, full, trimmed, gone)
		if segment == 4 {
			do(state.AppendTrim(nil, &state.Trim{Cuts: []state.Cut{{Partition: trimmed, Low: 5}}}))
		}
		if err := n.Group.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	do(state.AppendDeleteTopic(nil, &state.DeleteTopic{Name: "golden.deleted", By: "golden"}))
	if err := errors.Join(n.Log.WaitSealed(t.Context(), 12), n.Log.Tidy(t.Context())); err != nil {
		t.Fatal(err)
	}
	fill(3, full, trimmed) // these are in the raft log, and in a segment that is not sealed
	do(state.AppendAlterTopic(nil, &state.AlterTopic{Name: "golden.full", Mask: state.AlterPartitions, Spec: state.Spec{Partitions: 2}, By: "golden"}))
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil { // as a kill leaves it: nothing is closed
		t.Fatal(err)
	}
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	packGolden(t, copied, filepath.Join(to, "data.tar.gz"))
	dir = unpackGolden(t, to)
	text := segmentsOf(t, dir)
	text += describeNode(t, clustertest.StartWith(t, dir, smallSegment))
	if err := os.WriteFile(filepath.Join(to, "expect.txt"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// segmentsOf verifies the segments of a stopped node and lists them.
func segmentsOf(t *testing.T, dir string) string {
	t.Helper()
	var lines []string
	err := storage.Verify(t.Context(), filepath.Join(dir, "storage"), func(s storage.SegmentStatus) {
		lines = append(lines, fmt.Sprintf("segment %s %s: entries %d to %d, %d records in %d batches, digest %016x%016x, fault %q\n",
			s.Name, s.State, s.From, s.Index, s.Contents.Records, s.Contents.Batches, s.Contents.Sum[0], s.Contents.Sum[1], s.Fault))
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// describeNode is everything in a node that a client could see, and the digest of the rest.
func describeNode(t *testing.T, n *clustertest.Node) (s string) {
	t.Helper()
	view := n.Group.View()
	digest := n.Group.Digest()
	s = fmt.Sprintf("state %s\ncluster %s\npolicy %d %q\nrevocations %+v\nsegment %d\n", hex.EncodeToString(digest[:]), view.ClusterID(), view.Policy().Version, view.Policy().Document, view.Revocations(), view.Segment())
	view.Topics("", func(found *state.Topic) bool {
		s += fmt.Sprintf("topic %s incarnation %d by %s %+v\n", found.Name, found.Incarnation, found.CreatedBy, found.Spec)
		for _, id := range found.Partitions {
			p, _ := view.Partition(id)
			s += fmt.Sprintf("partition %d from %d to %d\n", id, p.Low, p.Next)
			s += describeRecords(t, n, p.ID, p.Low, p.Next)
		}
		return true
	})
	return s
}

func describeRecords(t *testing.T, n *clustertest.Node, id topic.PartitionID, at, next topic.Offset) (s string) {
	t.Helper()
	for at < next {
		data, after, _, err := n.Log.Read(id, at, 1<<20, nil)
		if err != nil || after == at {
			t.Fatalf("read partition %d at %d: %d, %v", id, at, after, err)
		}
		var b batch.Batch
		for len(data) > 0 {
			if data, err = batch.Parse(data, &b); err != nil {
				t.Fatal(err)
			}
			var r batch.Record
			for c, i := batch.Records(b.Records), b.Base; c.Next(&r); i++ {
				if i >= at {
					s += fmt.Sprintf("  %d %q at %d by %s, producer %x sequence %d\n", i, r.Body, b.TimeMs, b.Publisher, b.Producer[:2], b.Sequence)
				}
			}
		}
		at = after
	}
	return s
}

// sizeRecord says how large a packed file is: its zeros at the end are not packed. Files of a log are set aside ahead
// of what is written to them.
const sizeRecord = "WAXWING.size"

func packGolden(t *testing.T, dir, name string) {
	t.Helper()
	var packed bytes.Buffer
	z, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	w := tar.NewWriter(z)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		base := filepath.Base(path)
		if err != nil || d.IsDir() || base == "RESERVE" || base == "BALLAST" || base == "LOCK" {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		size := len(b)
		b = bytes.TrimRight(b, "\x00")
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		h := &tar.Header{Name: filepath.ToSlash(rel), Mode: 0o600, Size: int64(len(b)), PAXRecords: map[string]string{sizeRecord: strconv.Itoa(size)}}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	})
	if err := errors.Join(err, w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	if packed.Len() > goldenSize {
		t.Fatalf("%d bytes packed, want at most %d", packed.Len(), goldenSize)
	}
	for _, secret := range []string{"PRIVATE KEY", "CERTIFICATE"} {
		if bytes.Contains(packed.Bytes(), []byte(secret)) {
			t.Fatalf("there is a %s in it", secret)
		}
	}
	if err := os.WriteFile(name, packed.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// unpackGolden copies a golden folder.
func unpackGolden(t *testing.T, version string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	f, err := os.Open(filepath.Join(version, "data.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(z)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		size, err2 := strconv.ParseInt(h.PAXRecords[sizeRecord], 10, 64)
		name := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err := errors.Join(err, err2, os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, b, 0o600), os.Truncate(name, size)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestU02NewerFormats: a folder in which one thing is of a newer format is refused with a text that says so, and
// nothing in it is changed.
func TestU02NewerFormats(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(t *testing.T, dir string)
		why     string
		written bool // it is met when the log is replayed: raft has begun a term by then
	}{
		"node.json": {func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "node.json"), func(b []byte) []byte {
				return bytes.Replace(b, []byte(`"version":1`), []byte(`"version":2`), 1)
			})
		}, "format version 2, this program knows 1; a newer program wrote it", false},
		"SEALED of the newest segment": {func(t *testing.T, dir string) {
			edit(t, sealedFiles(t, dir)[2], newer)
		}, "segment format version 2, this program knows 1: a newer waxwing wrote it", false},
		"SEALED of a merged segment": {func(t *testing.T, dir string) {
			edit(t, sealedFiles(t, dir)[0], newer)
		}, "segment format version 2, this program knows 1: a newer waxwing wrote it", false},
		"raft/META": {func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "raft", "META"), newer)
		}, "version 2", false},
		"raft/MARK": {func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "raft", "MARK"), newer)
		}, "version 2", false},
		"an entry of the raft log": {func(t *testing.T, dir string) { newerEntry(t, dir, false) }, "format version 2, this program knows 1", false},
		"commands of an entry":     {func(t *testing.T, dir string) { newerEntry(t, dir, true) }, "version 2 is unknown (this program knows 1)", true},
		"the checkpoint":           {newerCheckpoint, "checkpoint version 2 is unknown (this program knows 1)", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := unpackGolden(t, filepath.Join(goldenDir, goldenNow))
			c.change(t, dir)
			before := filesOf(t, dir)
			ctx, cancel := context.WithTimeout(t.Context(), clustertest.Patience)
			defer cancel()
			failed := make(chan error, 1)
			n, err := clustertest.OpenWith(ctx, dir, func(err error) {
				select {
				case failed <- err:
				default:
				}
				cancel()
			}, smallSegment)
			if err == nil {
				err = n.Stop()
			}
			select {
			case first := <-failed:
				err = errors.Join(first, err)
			default:
			}
			if err == nil || !strings.Contains(err.Error(), c.why) {
				t.Errorf("start: %v\nwant %q", err, c.why)
			}
			if c.written {
				return
			}
			after := filesOf(t, dir)
			for file, sum := range before {
				if after[file] != sum {
					t.Errorf("%s was changed", file)
				}
			}
		})
	}
	var b batch.Batch
	raw := batch.Append(nil, &batch.Meta{Count: 1, Publisher: "a"}, []byte{0x94, 0xc0, 0xc0, 0xc4, 0, 0xc0})
	raw[0]++
	if _, err := batch.Parse(raw, &b); !errors.Is(err, batch.ErrVersion) || !strings.Contains(err.Error(), "version 2, known is 1") {
		t.Errorf("a newer batch: %v", err)
	}
}

// newer raises the version of a file whose first byte it is and whose last four are a CRC-32C of what is before.
func newer(b []byte) []byte {
	b[0]++
	b = b[:len(b)-4]
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

func edit(t *testing.T, name string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func sealedFiles(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "storage", "segments", "*", "SEALED"))
	if err != nil || len(list) < 3 {
		t.Fatalf("%v, %v", list, err)
	}
	return list
}

// newerEntry makes the last command entry one that a newer program wrote: its seal, or the commands in it.
func newerEntry(t *testing.T, dir string, inside bool) {
	t.Helper()
	editLog(t, dir, func(w *wal.WAL) error {
		last, err := w.LastIndex()
		if err != nil {
			return err
		}
		var l raft.Log
		if err := w.GetLog(last, &l); err != nil {
			return err
		}
		if l.Type != raft.LogCommand {
			return fmt.Errorf("the last entry is %v, not a command", l.Type)
		}
		l.Data, l.Extensions = bytes.Clone(l.Data), bytes.Clone(l.Extensions)
		if inside {
			l.Data[0]++
			l.Extensions = nil
			l = *cluster.Sealed(&l)
		} else {
			l.Extensions[0]++
		}
		return errors.Join(w.DeleteRange(last, last), w.StoreLog(&l))
	})
}

// newerCheckpoint seals another segment, whose checkpoint a newer program made.
func newerCheckpoint(t *testing.T, dir string) {
	t.Helper()
	log, err := storage.Open(storage.Options{Dir: filepath.Join(dir, "storage"), SegmentBytes: smallSegment})
	if err != nil {
		t.Fatal(err)
	}
	h, _ := log.Head()
	var chunks [][]byte
	for chunk, err := range log.Checkpoint() {
		if err != nil {
			t.Fatal(err)
		}
		chunks = append(chunks, bytes.Clone(chunk))
	}
	chunks[0][0]++
	h.Point.Index++ // an entry that the raft log has
	if err := log.Cut(storage.Cut{Number: h.Number + 1, Point: h.Point, Checkpoint: slices.Values(chunks)}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- log.Run(ctx) }()
	err = log.WaitSealed(t.Context(), h.Number+1)
	cancel()
	if err := errors.Join(err, <-done, log.Close()); err != nil {
		t.Fatal(err)
	}
}

// filesOf sums every file that a start may not change when it refuses; an unsealed segment may go at any time.
func filesOf(t *testing.T, dir string) map[string]uint32 {
	t.Helper()
	sums := map[string]uint32{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		folder := filepath.Dir(path)
		if filepath.Base(filepath.Dir(folder)) == "segments" {
			if _, err := os.Stat(filepath.Join(folder, "SEALED")); err != nil {
				return nil
			}
		}
		if base := filepath.Base(path); base == "LOCK" || base == "RESERVE" {
			return nil
		}
		b, err := os.ReadFile(path)
		sums[path] = crc32.ChecksumIEEE(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sums
}
