package client_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/protocol"
)

// Every management call sends one request and gives back its answer in Go's terms.
func TestManagementCalls(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_123)
	info := protocol.TopicInfo{Name: "orders", Incarnation: 3, CreatedMs: at.UnixMilli(), CreatedBy: "spiffe://test/client/a",
		Spec: protocol.TopicSpec{Partitions: 1, MaxAgeMs: 1000}, Partitions: []protocol.PartitionInfo{{ID: 9, Low: 1, Next: 5}}}
	wantInfo := client.TopicInfo{Name: "orders", Incarnation: 3, Created: at, CreatedBy: "spiffe://test/client/a",
		Spec: client.TopicSpec{Partitions: 1, MaxAge: time.Second}, Partitions: []client.PartitionInfo{{ID: 9, Low: 1, Next: 5}}}
	age := time.Minute
	revoked := protocol.Revocation{What: protocol.RevokeSerial, Value: "0a", Issuer: "CN=x", Reason: "lost", ByWhom: "me", AtMs: at.UnixMilli()}
	for name, tt := range map[string]struct {
		call   func(ctx context.Context, c *client.Client) (any, error)
		sent   protocol.Message
		answer protocol.Message
		want   any
	}{
		"topic create": {
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Topics().Create(ctx, "orders", client.TopicSpec{Partitions: 2, MaxAge: time.Second, MaxBytes: 3, MaxRecords: 4})
			},
			&protocol.TopicCreate{Name: "orders", Spec: protocol.TopicSpec{Partitions: 2, MaxAgeMs: 1000, MaxBytes: 3, MaxRecords: 4}},
			&protocol.Topic{Info: info}, wantInfo,
		},
		"topic get": {
			func(ctx context.Context, c *client.Client) (any, error) { return c.Topics().Get(ctx, "orders") },
			&protocol.TopicGet{Name: "orders"}, &protocol.Topic{Info: info}, wantInfo,
		},
		"topic alter": {
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Topics().Alter(ctx, "orders", client.TopicChange{MaxAge: &age})
			},
			&protocol.TopicAlter{Name: "orders", Mask: protocol.AlterMaxAge, Spec: protocol.TopicSpec{MaxAgeMs: 60_000}},
			&protocol.Topic{Info: info}, wantInfo,
		},
		"topic delete": {
			func(ctx context.Context, c *client.Client) (any, error) { return nil, c.Topics().Delete(ctx, "orders") },
			&protocol.TopicDelete{Name: "orders"}, &protocol.OK{}, nil,
		},
		"policy get": {
			func(ctx context.Context, c *client.Client) (any, error) { return c.Policy().Get(ctx) },
			&protocol.PolicyGet{}, &protocol.Policy{Version: 4, ChangedBy: "me", ChangedMs: at.UnixMilli(), Document: []byte("roles:")},
			client.PolicyDocument{Version: 4, ChangedBy: "me", Changed: at, Document: []byte("roles:")},
		},
		"policy apply": {
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Policy().Apply(ctx, client.PolicyChange{Document: []byte("x"), Expect: 4, Force: true})
			},
			&protocol.PolicyApply{Expect: 4, Force: true, Document: []byte("x")}, &protocol.Policy{Version: 5, Document: []byte("x")},
			client.PolicyDocument{Version: 5, Document: []byte("x")},
		},
		"policy explain": {
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Policy().Explain(ctx, "dns:x", "publish", "orders")
			},
			&protocol.PolicyExplain{Identity: "dns:x", Action: "publish", Resource: "orders"},
			&protocol.Decision{Allow: true, Rule: "r", Line: 3, Version: 4, Reason: "because"},
			client.Decision{Allow: true, Rule: "r", Line: 3, Version: 4, Reason: "because"},
		},
		"revoke a serial": {
			func(ctx context.Context, c *client.Client) (any, error) {
				return nil, c.Revocations().Add(ctx, client.Revocation{Serial: "0a", Issuer: "CN=x", Reason: "lost"}, true)
			},
			&protocol.Revoke{Force: true, Entry: protocol.Revocation{What: protocol.RevokeSerial, Value: "0a", Issuer: "CN=x", Reason: "lost"}},
			&protocol.OK{}, nil,
		},
		"revoke an identity no longer": {
			func(ctx context.Context, c *client.Client) (any, error) {
				return nil, c.Revocations().Remove(ctx, client.Revocation{Identity: "dns:x"})
			},
			&protocol.Revoke{Remove: true, Entry: protocol.Revocation{What: protocol.RevokeIdentity, Value: "dns:x"}}, &protocol.OK{}, nil,
		},
		"storage status": {
			func(ctx context.Context, c *client.Client) (any, error) { return c.Storage().Status(ctx) },
			&protocol.StorageStatus{},
			&protocol.Storage{Node: "n1", Space: protocol.StorageSpace{Free: 3, Total: 4, Guard: 2}, LogFirst: 5, LogLast: 6,
				Scrub:    protocol.ScrubInfo{Segment: "1-1", AskedMs: at.UnixMilli(), OldestMs: at.UnixMilli(), Due: 1, DueBytes: 2, Sealed: 3, Damaged: 4, BytesPerSecond: 5, IntervalMs: 6000},
				Segments: []protocol.SegmentInfo{{Name: "1-1", Dir: "/d", State: protocol.SegmentDamaged, First: 1, Last: 2, From: 3, Index: 4, Partitions: 5, Values: 6, Batches: 7, Records: 8, Bytes: 9, DiskBytes: 10, Digest: "d", CheckedMs: at.UnixMilli(), Fault: "f", Files: []protocol.SegmentFile{{Name: "x", Size: 1, Sum: 2}}}}},
			client.StorageInfo{Node: "n1", Free: 3, Total: 4, Guard: 2, LogFirst: 5, LogLast: 6,
				Scrub:    client.ScrubInfo{Segment: "1-1", Asked: at, Oldest: at, Due: 1, DueBytes: 2, Sealed: 3, Damaged: 4, BytesPerSecond: 5, Interval: 6 * time.Second},
				Segments: []client.SegmentInfo{{Name: "1-1", Dir: "/d", State: client.SegmentDamaged, First: 1, Last: 2, From: 3, Index: 4, Partitions: 5, Values: 6, Batches: 7, Records: 8, Bytes: 9, DiskBytes: 10, Digest: "d", Checked: at, Fault: "f", Files: []client.SegmentFile{{Name: "x", Size: 1, Sum: 2}}}}},
		},
		"storage extents": {
			func(ctx context.Context, c *client.Client) (any, error) { return c.Storage().Extents(ctx, "1-1") },
			&protocol.StorageExtents{Segment: "1-1"}, &protocol.Extents{Extents: []protocol.ExtentInfo{{Partition: 1, Base: 2, Next: 3, Bytes: 4, FirstMs: at.UnixMilli(), LastMs: at.UnixMilli()}}},
			[]client.SegmentExtent{{Partition: 1, Base: 2, Next: 3, Bytes: 4, First: at, Last: at}},
		},
		"storage verify": {
			func(ctx context.Context, c *client.Client) (any, error) { return c.Storage().Verify(ctx, "1-1", 7) },
			&protocol.StorageVerify{Segment: "1-1", BytesPerSecond: 7}, &protocol.StorageVerified{Segment: protocol.SegmentInfo{Name: "1-1", State: protocol.SegmentSealed}},
			client.SegmentInfo{Name: "1-1", State: client.SegmentSealed},
		},
		"storage scrub": {
			func(ctx context.Context, c *client.Client) (any, error) { return c.Storage().Scrub(ctx, true) },
			&protocol.StorageScrub{Start: true}, &protocol.StorageScrubbed{Scrub: protocol.ScrubInfo{Due: 3}}, client.ScrubInfo{Due: 3},
		},
		"list revocations": {
			func(ctx context.Context, c *client.Client) (any, error) { return c.Revocations().List(ctx) },
			&protocol.RevokeList{}, &protocol.Revocations{Entries: []protocol.Revocation{revoked}},
			[]client.Revocation{{Serial: "0a", Issuer: "CN=x", Reason: "lost", By: "me", At: at}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				c := w.dial()
				var sent protocol.Message
				w.broker.onFrame = func(fc *fakeConn, id uint64, m protocol.Message) bool {
					sent = m
					fc.send(id, tt.answer)
					return true
				}
				got, err := tt.call(t.Context(), c)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.sent, sent); diff != "" {
					t.Errorf("request (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("answer (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// A list goes on page after page, from behind the last name.
func TestTopicListPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.dial()
		var from []string
		w.broker.onFrame = func(fc *fakeConn, id uint64, m protocol.Message) bool {
			l := m.(*protocol.TopicList)
			from = append(from, l.From)
			page := &protocol.Topics{More: len(from) < 3}
			for i := range 2 {
				page.Topics = append(page.Topics, protocol.TopicInfo{Name: fmt.Sprintf("t%d%d", len(from), i)})
			}
			fc.send(id, page)
			return true
		}
		var names []string
		for info, err := range c.Topics().List(t.Context(), ">") {
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, info.Name)
		}
		if diff := cmp.Diff([]string{"t10", "t11", "t20", "t21", "t30", "t31"}, names); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"", "t11", "t21"}, from); diff != "" {
			t.Error(diff)
		}
	})
}

// Segments and extents come in pages, each from behind the last.
func TestStoragePages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.dial()
		w.broker.onFrame = func(fc *fakeConn, id uint64, m protocol.Message) bool {
			switch m := m.(type) {
			case *protocol.StorageStatus:
				fc.send(id, &protocol.Storage{Segments: []protocol.SegmentInfo{{First: m.After + 1, Last: m.After + 2}}, More: m.After < 4})
			case *protocol.StorageExtents:
				fc.send(id, &protocol.Extents{Extents: []protocol.ExtentInfo{{Partition: m.From + 10}}, More: m.From < 20})
			}
			return true
		}
		info, err := c.Storage().Status(t.Context())
		if err != nil || len(info.Segments) != 3 || info.Segments[2].First != 5 {
			t.Errorf("%+v, %v", info, err)
		}
		extents, err := c.Storage().Extents(t.Context(), "x")
		if err != nil || len(extents) != 3 || extents[2].Partition != 32 {
			t.Errorf("%+v, %v", extents, err)
		}
	})
}

// The revocation list comes in pages, each from behind the last.
func TestRevocationPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.dial()
		var skips []uint32
		w.broker.onFrame = func(fc *fakeConn, id uint64, m protocol.Message) bool {
			skips = append(skips, m.(*protocol.RevokeList).Skip)
			entry := protocol.Revocation{What: protocol.RevokeIdentity, Value: "dns:x"}
			fc.send(id, &protocol.Revocations{Entries: []protocol.Revocation{entry, entry}, More: len(skips) < 3})
			return true
		}
		list, err := c.Revocations().List(t.Context())
		if err != nil || len(list) != 6 {
			t.Errorf("%d entries, %v", len(list), err)
		}
		if diff := cmp.Diff([]uint32{0, 2, 4}, skips); diff != "" {
			t.Error(diff)
		}
	})
}

// What a client has changed it sees: reads ask for the index of its last change.
func TestReadYourWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.dial()
		var after uint64
		w.broker.onFrame = func(fc *fakeConn, id uint64, m protocol.Message) bool {
			switch m := m.(type) {
			case *protocol.TopicDelete:
				fc.send(id, &protocol.OK{Applied: 77})
			case *protocol.TopicGet:
				after = m.After
				fc.reject(id, protocol.CodeNotFound, protocol.OutcomeNone)
			}
			return true
		}
		if err := c.Topics().Delete(t.Context(), "orders"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Topics().Get(t.Context(), "orders"); !errors.Is(err, client.ErrNotFound) || after != 77 {
			t.Errorf("after %d, %v", after, err)
		}
	})
}

// U-03: a broker that chooses a version this client does not speak is refused in words.
func TestU03OtherVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var offered []uint64
		w.broker.onFrame = func(fc *fakeConn, id uint64, m protocol.Message) bool {
			offered = m.(*protocol.Hello).Versions
			fc.send(id, &protocol.Welcome{Version: 2, Limits: protocol.DefaultLimits()})
			return true
		}
		_, err := client.Dial(t.Context(), w.options)
		if e, ok := errors.AsType[*client.RefusedError](err); !ok || e.Code != protocol.CodeUnsupported {
			t.Errorf("got %v", err)
		}
		if diff := cmp.Diff([]uint64{protocol.Version}, offered); diff != "" {
			t.Error(diff)
		}
	})
}
