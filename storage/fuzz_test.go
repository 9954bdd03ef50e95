package storage_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/waxwing-mq/waxwing/storage"
)

// summed puts a CRC-32C behind bytes, as the files have it: without, a fuzzer would only ever see that check.
func summed(b []byte) []byte {
	return binary.BigEndian.AppendUint32(bytes.Clone(b), crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// FuzzManifest (P-04): any SEALED file, with a good sum, is refused or says the same again when it is written.
func FuzzManifest(f *testing.F) {
	full := storage.Manifest{First: 2, Last: 3, From: 5, Cut: storage.Point{Index: 9, Term: 4, Meta: []byte("meta")}, Chunks: 1, ChunkSum: 7,
		Extents: []storage.Extent{{Partition: 1, Base: 0, Next: 10, Bytes: 100, FirstMs: -1, LastMs: 1 << 40}, {Partition: 1 << 60, Base: 5, Next: 6}},
		Files:   []storage.File{{Name: "000001.sst", Size: 1 << 40, Sum: 1<<32 - 1}, {Name: "MANIFEST", Size: 0}}}
	empty := storage.Manifest{First: 1, Last: 1}
	newer := storage.ManifestBytes(&full)
	newer[0]++
	seeds := [][]byte{storage.ManifestBytes(&full), storage.ManifestBytes(&empty), newer, append(storage.ManifestBytes(&full), 0), nil, {1}, {1, 0xdd, 0xff, 0xff, 0xff, 0xff}, {2, 0x90}, {1, 0x91, 0x91, 0x91}}
	if len(seeds) != 9 {
		f.Fatalf("%d seeds", len(seeds))
	}
	for i, s := range seeds {
		f.Add(s)
		if _, err := storage.ParseManifest(summed(s)); (err == nil) != (i < 2) {
			f.Fatalf("seed %d: %v", i, err)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		storage.ParseManifest(b)
		m, err := storage.ParseManifest(summed(b))
		if err != nil {
			return
		}
		if again := storage.ManifestBytes(m); !bytes.Equal(again, b) {
			t.Errorf("%x is read, and written as %x", b, again)
		}
	})
}

// FuzzFindings (P-04): any SCRUB file is refused or read, without a panic.
func FuzzFindings(f *testing.F) {
	seeds := [][]byte{{1, 0x90}, {1, 0x91, 0x94, 0xa1, 'x', 0x01, 0xa1, 'y', 0xc3}, {1, 0xdd, 0xff, 0xff, 0xff, 0xff}, {9}, nil}
	if len(seeds) != 5 {
		f.Fatalf("%d seeds", len(seeds))
	}
	for i, s := range seeds {
		f.Add(s)
		if err := storage.FindingsParse(summed(s)); (err == nil) != (i < 2) {
			f.Fatalf("seed %d: %v", i, err)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = storage.FindingsParse(b)
		_ = storage.FindingsParse(summed(b))
	})
}

// FuzzListing (P-04): any list of segments, with a good sum, is refused or says the same again when it is written.
func FuzzListing(f *testing.F) {
	full := storage.Listing{Point: storage.Point{Index: 20, Term: 4, Meta: []byte("meta")}, Segments: []storage.Listed{
		{First: 2, Last: 3, Generation: 1, From: 5, Index: 9, Term: 3, Batches: 1, Records: 1 << 40, Bytes: 7, Sum: storage.Sum{1, 1<<64 - 1}, Disk: 1 << 62},
		{First: 5, Last: 5, From: 10, Index: 20, Term: 4, Fetched: true}}}
	bytesOf := func(edit func(*storage.Listing)) []byte {
		li := full
		li.Segments = append([]storage.Listed(nil), full.Segments...)
		edit(&li)
		b := li.Append(nil)
		return b[:len(b)-4]
	}
	good := bytesOf(func(*storage.Listing) {})
	seeds := [][]byte{good,
		bytesOf(func(li *storage.Listing) { li.Segments = li.Segments[1:] }),
		bytesOf(func(li *storage.Listing) { li.Segments = nil }),
		bytesOf(func(li *storage.Listing) { li.Segments[1].First, li.Segments[1].Last = 3, 3 }),
		bytesOf(func(li *storage.Listing) { li.Segments[1].From = 9 }),
		bytesOf(func(li *storage.Listing) { li.Point.Index++ }),
		append(bytes.Clone(good), 0), append([]byte{2}, good[1:]...), nil, {1, 0x94}}
	if len(seeds) != 10 {
		f.Fatalf("%d seeds", len(seeds))
	}
	for i, s := range seeds {
		f.Add(s)
		if _, err := storage.ParseListing(summed(s)); (err == nil) != (i < 2) {
			f.Fatalf("seed %d: %v", i, err)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = storage.ParseListing(b)
		li, err := storage.ParseListing(summed(b))
		if err != nil {
			return
		}
		if again := li.Append(nil); !bytes.Equal(again, summed(b)) {
			t.Errorf("%x is read, and written as %x", b, again)
		}
	})
}
