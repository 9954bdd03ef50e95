package broker_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/waxwing-mq/waxwing/batch"
	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/protocol"
)

// TestStorageRequests lists segments and extents page by page, and verifies and scrubs them.
func TestStorageRequests(t *testing.T) {
	dir := t.TempDir()
	n := brokertest.Start(t, brokertest.Options{Dir: dir})
	c := n.Dial(t, "admin")
	const topics, segments = 7, 4
	for i := range topics {
		c.Ask(&protocol.TopicCreate{Name: fmt.Sprintf("t%d", i)})
	}
	for sequence := range uint64(segments) {
		for i := range topics {
			m := c.Ask(&protocol.Publish{Topic: fmt.Sprintf("t%d", i), Sequence: sequence, Count: 1, Records: batch.AppendRecord(nil, &batch.Record{Body: make([]byte, 3000)})})
			if m.Kind() != protocol.KindPublished {
				t.Fatalf("%#v", m)
			}
		}
		if err := n.Group.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Log.WaitSealed(t.Context(), segments); err != nil {
		t.Fatal(err)
	}

	var list []protocol.SegmentInfo
	for after := uint64(0); ; {
		page, ok := c.Ask(&protocol.StorageStatus{After: after, Max: 2}).(*protocol.Storage)
		if !ok || len(page.Segments) > 2 || page.Space.Free == 0 || page.LogLast == 0 || page.Scrub.Sealed != segments {
			t.Fatalf("%+v", page)
		}
		list = append(list, page.Segments...)
		after = list[len(list)-1].Last
		if !page.More {
			break
		}
	}
	if len(list) != segments+1 {
		t.Fatalf("%d segments: %+v", len(list), list)
	}
	for i, s := range list[:segments] {
		if s.State != protocol.SegmentSealed || s.First != uint64(i+1) || s.Records != topics || s.Partitions != topics || len(s.Digest) != 32 || s.CheckedMs == 0 || len(s.Files) < 4 || s.From == 0 || s.Index <= s.From {
			t.Errorf("segment %d: %+v", i, s)
		}
	}
	if last := list[segments]; last.State != protocol.SegmentActive || last.Digest != "" {
		t.Errorf("the last: %+v", last)
	}

	var extents []protocol.ExtentInfo
	for from := uint64(0); ; {
		page, ok := c.Ask(&protocol.StorageExtents{Segment: list[1].Name, From: from, Max: 3}).(*protocol.Extents)
		if !ok || len(page.Extents) > 3 {
			t.Fatalf("%+v", page)
		}
		extents = append(extents, page.Extents...)
		from = extents[len(extents)-1].Partition + 1
		if !page.More {
			break
		}
	}
	if len(extents) != topics {
		t.Errorf("%d extents: %+v", len(extents), extents)
	}
	for _, e := range extents {
		if e.Base != 1 || e.Next != 2 || e.Bytes < 3000 || e.FirstMs == 0 {
			t.Errorf("extent %+v", e)
		}
	}

	for _, m := range []protocol.Message{&protocol.StorageExtents{Segment: "none"}, &protocol.StorageVerify{Segment: "none"}} {
		if m := c.Ask(m); brokertest.Code(m) != protocol.CodeNotFound {
			t.Errorf("%#v", m)
		}
	}
	if m := c.Ask(&protocol.StorageVerify{Segment: list[0].Name, BytesPerSecond: 1}); brokertest.Code(m) != protocol.CodeInvalid {
		t.Errorf("one byte a second: %#v", m)
	}
	if m, ok := c.Ask(&protocol.StorageVerify{Segment: list[0].Name}).(*protocol.StorageVerified); !ok || m.Segment.Fault != "" || m.Segment.CheckedMs < list[0].CheckedMs {
		t.Errorf("verify: %#v", m)
	}
	name := filepath.Join(list[1].Dir, "MANIFEST")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if m, ok := c.Ask(&protocol.StorageVerify{Segment: list[1].Name}).(*protocol.StorageVerified); !ok || m.Segment.Fault == "" || m.Segment.State != protocol.SegmentDamaged {
		t.Errorf("verify of a damaged one: %#v", m)
	}
	if m, ok := c.Ask(&protocol.StorageScrub{Start: true}).(*protocol.StorageScrubbed); !ok || m.Scrub.AskedMs == 0 || m.Scrub.Damaged != 1 || m.Scrub.Sealed != segments {
		t.Errorf("scrub: %#v", m)
	}
}
