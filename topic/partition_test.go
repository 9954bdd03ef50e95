package topic_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/topic"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// place is one golden vector: the partition of a key for some numbers of partitions.
type place struct {
	Key        string            `json:"key_hex"`
	Partitions map[string]uint32 `json:"partition_of"` // by number of partitions
}

var counts = map[string]uint32{"1": 1, "2": 2, "3": 3, "12": 12, "64": 64, "1000": 1000, "4294967295": 1<<32 - 1}

// TestPartitionVectors holds the placement of keys, which must never change: testdata/partition.json.
func TestPartitionVectors(t *testing.T) {
	const file = "testdata/partition.json"
	var want []place
	for _, key := range []string{"", "a", "order-17", "ü", "\x00\xff", strings.Repeat("k", 31), strings.Repeat("k", 32), strings.Repeat("k", 33), strings.Repeat("0123456789", 410)} {
		p := place{hex.EncodeToString([]byte(key)), map[string]uint32{}}
		for name, n := range counts {
			p.Partitions[name] = topic.PartitionFor([]byte(key), n)
		}
		want = append(want, p)
	}
	got, err := json.MarshalIndent(want, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, got) {
		t.Errorf("placement changed:\n%s", got)
	}
}

// TestPublishedHashes ties the vectors to xxh64 itself, by values that others publish for it.
func TestPublishedHashes(t *testing.T) {
	for key, sum := range map[string]uint64{"": 0xef46db3751d8e999, "a": 0xd24ec4f1a98c6e5b, "abc": 0x44bc2cf5ad770999} {
		if got, want := topic.PartitionFor([]byte(key), 1<<32-1), uint32(sum%(1<<32-1)); got != want {
			t.Errorf("%q: %d, want %d", key, got, want)
		}
	}
}

func TestFewPartitions(t *testing.T) {
	for _, n := range []uint32{0, 1} {
		if got := topic.PartitionFor([]byte("key"), n); got != 0 {
			t.Errorf("of %d: %d", n, got)
		}
	}
}
