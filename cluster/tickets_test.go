package cluster_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/cluster/clustertest"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/state"
)

// secrets are the ticket secrets that all running nodes can open, which must be the same ones.
func (f *fleet) secrets() []identity.TicketSecret {
	f.t.Helper()
	f.settle()
	var first []identity.TicketSecret
	for i, id := range f.running() {
		got := f.nodes[id].Group.TicketSecrets()
		if i == 0 {
			first = got
		}
		if len(got) == 0 || got[0] != first[0] {
			f.t.Fatalf("%s opens %d ticket keys, or the newest is another one than the others'", id, len(got))
		}
	}
	return first
}

// TestTicketKeys: three nodes share a ticket key, and still do after all of them were stopped. After
// half a day there is another one, and after a day the first is gone.
func TestTicketKeys(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		f.startAll()
		f.ready(f.ids...)
		first := f.secrets()
		if len(first) != 1 {
			t.Fatalf("%d keys", len(first))
		}
		restart := func() []identity.TicketSecret {
			f.stopAll()
			time.Sleep(13 * time.Hour)
			f.startAll()
			f.ready(f.ids...)
			time.Sleep(5 * time.Second)
			return f.secrets()
		}
		f.stopAll()
		f.startAll()
		leader := f.ready(f.ids...)
		for id, m := range f.nodes {
			if got := m.Group.TicketSecrets(); len(got) != 1 || got[0] != first[0] {
				t.Errorf("%s opens %d keys after a restart, or another one", id, len(got))
			}
		}
		if n := leader.Group.View().TicketNumber(); n != 1 {
			t.Errorf("a restart made key %d", n)
		}
		second := restart()
		if len(second) != 2 || second[1] != first[0] || second[0] == first[0] {
			t.Errorf("%d keys after half a day, or the first one is not behind a new one", len(second))
		}
		if third := restart(); len(third) != 2 || third[1] != second[0] {
			t.Errorf("%d keys after a day, or the second one is not behind a new one", len(third))
		}
		f.same()
	})
}

// TestTicketKeyByAge: while all goes on a key is replaced by its age, also if the clock was far ahead when it was made.
func TestTicketKeyByAge(t *testing.T) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	for name, c := range map[string]struct {
		made, seen time.Duration // ago
		want       bool
	}{
		"young":                     {time.Hour, time.Hour, false},
		"old, since a start":        {12 * time.Hour, time.Second, true},
		"seen for long":             {time.Second, 12 * time.Hour, true},
		"made by a clock far ahead": {-1000 * time.Hour, 12 * time.Hour, true},
		"far ahead, a moment ago":   {-1000 * time.Hour, 11 * time.Hour, false},
	} {
		if got := cluster.TicketDue(now, now.Add(-c.made), now.Add(-c.seen)); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestTicketKeysRemoved: a node that is removed takes what it knew with it: no key that it could open is left.
func TestTicketKeysRemoved(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		f.startAll()
		n := f.ready(f.ids...)
		before := f.secrets()
		gone := f.nodes[other2(string(n.id))]
		if gone == n {
			gone = f.nodes["n2"]
		}
		r, _, err := n.Group.Do(t.Context(), state.AppendRemoveMember(nil, &state.RemoveMember{Node: string(gone.id)}))
		if err != nil || !r.Status.Done() {
			t.Fatalf("%+v, %v", r, err)
		}
		time.Sleep(5 * time.Second)
		f.stop(string(gone.id))
		after := f.secrets()
		if len(after) != 1 || after[0] == before[0] {
			t.Errorf("%d keys, or the one from before", len(after))
		}
		for _, k := range n.Group.View().TicketKeys() {
			if _, ok := k.Copy(string(gone.id)); ok {
				t.Error("the removed node has a copy")
			}
		}
	})
}

// TestTicketKeysLostKey: a node that lost its sealing key, or whose key is damaged, opens nothing until the leader has made a
// ticket key for its new one. A file of a newer program is left as it is, and the node does not start.
func TestTicketKeysLostKey(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		f.startAll()
		f.ready(f.ids...)
		file := filepath.Join(f.dir("n2"), "seal.key")
		for name, damage := range map[string]func() error{
			"lost":    func() error { return os.Remove(file) },
			"damaged": func() error { return os.WriteFile(file, []byte("{\"version\":1,\"key\":\"AAAA\"}"), 0o600) },
			"no JSON": func() error { return os.WriteFile(file, []byte("garbage"), 0o600) },
		} {
			before := f.secrets()
			f.stop("n2")
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			m := f.start("n2")
			f.ready(f.ids...)
			if got := m.Group.TicketSecrets(); len(got) > 1 || len(got) == 1 && got[0] == before[0] {
				t.Errorf("%s: opened %d keys without the key for them", name, len(got))
			}
			time.Sleep(15 * time.Second)
			if after := f.secrets(); after[0] == before[0] {
				t.Errorf("%s: no new key", name)
			}
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", name, info, err)
			}
		}
		f.same()
		f.stop("n2")
		newer := []byte("{\"version\":2,\"key\":\"AAAA\"}")
		if err := os.WriteFile(file, newer, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.open("n2"); err == nil || !strings.Contains(err.Error(), "newer program") {
			t.Errorf("a file of a newer program: %v", err)
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, newer) {
			t.Errorf("the file is now %q, %v", got, err)
		}
	})
}

// TestTicketKeysOneDown: a node that is down when a key is made has its copy when it is back.
func TestTicketKeysOneDown(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		f.startAll()
		n := f.ready(f.ids...)
		before := f.secrets()
		down := other2(string(n.id))
		if f.nodes[down] == n {
			down = "n2"
		}
		f.stopAll()
		time.Sleep(13 * time.Hour)
		for _, id := range f.ids {
			if id != down {
				f.start(id)
			}
		}
		f.ready(f.running()...)
		time.Sleep(5 * time.Second)
		made := f.secrets()
		if made[0] == before[0] {
			t.Fatal("no new key")
		}
		f.start(down)
		f.ready(f.ids...)
		if got := f.nodes[down].Group.TicketSecrets(); len(got) == 0 || got[0] != made[0] {
			t.Errorf("it opens %d keys, or another one", len(got))
		}
	})
}

// TestTicketKeysBadKey: a node that tells a key to which nothing can be sealed gets no copy, and costs the others nothing.
func TestTicketKeysBadKey(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		f.startAll()
		n := f.ready(f.ids...)
		f.secrets()
		down := other2(string(n.id))
		if f.nodes[down] == n {
			down = "n2"
		}
		f.stop(down)
		bad := state.AppendSetSealKey(nil, &state.SetSealKey{Node: down, Key: state.SealKey{1}}) // a point of low order
		if r, _, err := n.Group.Do(t.Context(), bad); err != nil || !r.Status.Done() {
			t.Fatalf("%+v, %v", r, err)
		}
		number := n.Group.View().TicketNumber()
		f.stopAll() // no leader has heard what the node really tells
		for _, id := range f.ids {
			if id != down {
				f.start(id)
			}
		}
		n = f.ready(f.running()...)
		time.Sleep(time.Minute)
		if m, _ := n.Group.View().Member(down); m.SealKey != (state.SealKey{1}) {
			t.Fatal("the key was replaced: the test proves nothing")
		}
		if now := n.Group.View().TicketNumber(); now != number {
			t.Errorf("%d keys were made for it", now-number)
		}
	})
}

// TestA11TicketKeys looks for the ticket keys in everything that three nodes write: raft logs, segments, all else in their
// folders, logs, and a backup. Only the sealing keys open them. What is restored from the backup is another cluster,
// without ticket keys.
func TestA11TicketKeys(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		var out said
		f.log = slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
		f.startAll()
		n := f.ready(f.ids...)
		p := createTopic(t, n.Group, "orders")
		n.fill(t, p, 0, 50)
		secrets := f.secrets()
		backup := filepath.Join(t.TempDir(), "backup")
		if _, err := saveSnapshot(t.Context(), n.Group, backup); err != nil {
			t.Fatal(err)
		}
		f.settle()
		sealed := n.Group.View().TicketKeys()[0].Copies[0].Sealed
		f.stopAll()

		var forms [][]byte
		for _, s := range secrets {
			forms = append(forms, s[:16], s[16:], []byte(hex.EncodeToString(s[:8])), []byte(base64.StdEncoding.EncodeToString(s[:12])), []byte(base64.RawURLEncoding.EncodeToString(s[:12])))
		}
		copies := 0
		scan := func(name string, b []byte) {
			if bytes.Contains(b, sealed) {
				copies++
			}
			if slices.ContainsFunc(forms, func(form []byte) bool { return bytes.Contains(b, form) }) {
				t.Errorf("%s holds a ticket secret", name)
			}
		}
		for _, dir := range []string{f.root, filepath.Dir(backup)} {
			err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				b, err := os.ReadFile(path)
				scan(path, b)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if copies < 2*len(f.ids)+1 { // a raft log and a segment each, and the backup
			t.Errorf("the scan met the sealed key in %d files", copies)
		}
		scan("the log", []byte(out.String()))
		if !strings.Contains(out.String(), "a new ticket key") {
			t.Error("the log says nothing of ticket keys: the scan proves little")
		}

		in, err := os.Open(backup)
		if err != nil {
			t.Fatal(err)
		}
		restored := filepath.Join(t.TempDir(), "restored")
		_, err = cluster.Restore(t.Context(), cluster.RestoreOptions{File: in, Dir: restored, NodeID: "n1"})
		if err := errors.Join(err, in.Close()); err != nil {
			t.Fatal(err)
		}
		alone := clustertest.Start(t, restored)
		if v := alone.Group.View(); v.TicketNumber() != 0 || len(v.TicketKeys()) != 0 {
			t.Errorf("the restored cluster has ticket keys %v", v.TicketKeys())
		}
		if err := alone.Stop(); err != nil {
			t.Error(err)
		}
	})
}
