package cluster_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/cluster"
)

func summed(b []byte) []byte {
	return binary.BigEndian.AppendUint32(bytes.Clone(b), crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// FuzzUnseal (P-04): an entry of the raft log is given back as it was written, or refused; never another.
func FuzzUnseal(f *testing.F) {
	type seed struct {
		index, term      uint64
		kind             byte
		data, extensions []byte
		flip             int
	}
	seeds := []seed{{1, 1, 0, []byte("data"), nil, -1}, {1 << 60, 7, 3, nil, []byte("own"), -1}, {1, 1, 0, []byte("data"), nil, 0}, {5, 2, 0, []byte("x"), []byte("y"), 9}}
	if len(seeds) != 4 {
		f.Fatalf("%d seeds", len(seeds))
	}
	for _, s := range seeds {
		f.Add(s.index, s.term, s.kind, s.data, s.extensions, s.flip)
	}
	f.Fuzz(func(t *testing.T, index, term uint64, kind byte, data, extensions []byte, flip int) {
		l := &raft.Log{Index: index, Term: term, Type: raft.LogType(kind), Data: data, Extensions: extensions}
		read := *cluster.Sealed(l)
		read.Data = bytes.Clone(read.Data)
		if flip >= 0 && flip < 8*(len(read.Extensions)+len(read.Data)) {
			if at := flip / 8; at < len(read.Extensions) {
				read.Extensions[at] ^= 1 << (flip % 8)
			} else {
				read.Data[at-len(read.Extensions)] ^= 1 << (flip % 8)
			}
			if cluster.Unseal(&read) == nil {
				t.Errorf("bit %d is another, and nobody saw it", flip)
			}
			return
		}
		if err := cluster.Unseal(&read); err != nil || !bytes.Equal(read.Data, data) || !bytes.Equal(read.Extensions, extensions) {
			t.Errorf("%v, %q and %q", err, read.Data, read.Extensions)
		}
		cluster.Unseal(&raft.Log{Index: index, Extensions: data, Data: extensions}) // what no program wrote
	})
}

// FuzzLogFiles (P-04): any MARK and META are refused or read; META says the same again when it is written.
func FuzzLogFiles(f *testing.F) {
	seeds := [][]byte{{1, 0, 0, 0, 0, 0, 0, 0, 9}, []byte("\x01{}"), []byte("\x01{\"NextSegmentID\":1}"), []byte("\x01{\"unknown\":1}"), {2}, nil}
	if len(seeds) != 6 {
		f.Fatalf("%d seeds", len(seeds))
	}
	if index, err := cluster.ParseMark(summed(seeds[0])); index != 9 || err != nil {
		f.Fatal(index, err)
	}
	if _, err := cluster.ParseMeta(summed(seeds[1])); err != nil {
		f.Fatal(err)
	}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		cluster.ParseMark(b)
		if index, err := cluster.ParseMark(summed(b)); err == nil && (len(b) != 9 || binary.BigEndian.Uint64(b[1:]) != index) {
			t.Errorf("the mark %x is read as %d", b, index)
		}
		cluster.ParseMeta(b)
		first, err := cluster.ParseMeta(summed(b))
		if err != nil {
			return
		}
		if again, err := cluster.ParseMeta(first); err != nil || !bytes.Equal(first, again) {
			t.Errorf("META %q is written as %q, and that as %q, %v", b, first, again, err)
		}
	})
}

// FuzzNodeFile (P-04): a data folder with any node.json is refused, or it is the node's that it names.
func FuzzNodeFile(f *testing.F) {
	seeds := []string{`{"version":1,"node":"n1"}`, `{"version":1,"node":"n2"}`, `{"version":2,"node":"n1"}`, `{"version":0}`, `{`, ``, `null`, `[1]`, `{"version":1e99}`}
	if len(seeds) != 9 {
		f.Fatalf("%d seeds", len(seeds))
	}
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "node.json"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := cluster.Lock(dir, "n1")
		if err == nil {
			d.Close()
			if !bytes.Contains(b, []byte("n1")) && !bytes.Contains(b, []byte(`\u`)) {
				t.Errorf("a folder of %q was taken for node n1's", b)
			}
		}
		if now, _ := os.ReadFile(filepath.Join(dir, "node.json")); !bytes.Equal(now, b) {
			t.Errorf("%q was changed to %q", b, now)
		}
	})
}
