package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/snapshot"
	"github.com/waxwing-mq/waxwing/state"
	"github.com/waxwing-mq/waxwing/storage"
)

// restoreFile stands in a data folder from before a restore writes anything until all of it is durable. Where it
// stands nothing starts.
const restoreFile = "RESTORING"

// storageDir is where a data folder has its segments.
const storageDir = "storage"

// errRestoring says that a restore did not finish.
var errRestoring = errors.New("a restore into this folder did not finish, and what is in it is not whole; restore again, or delete the folder")

// errNotEmpty says that a restore would mix two nodes' data.
var errNotEmpty = errors.New("the folder is not empty; a restore writes into an empty or a new one only")

// RestoreOptions name a snapshot and what becomes of it.
type RestoreOptions struct {
	File   io.ReadSeeker // read twice: whatever is wrong with it is found before anything is written
	Dir    string        // the data folder: missing, with its parent there, or empty
	NodeID string        // of the node that will run on it
	Logger *slog.Logger
}

// Restored says what was made.
type Restored struct {
	SnapshotReport
	Cluster string // id of the new cluster
}

// Restore makes a data folder of a snapshot: that of a new cluster, with this node alone, whose log goes on behind the
// snapshot's index. Records, offsets, publishers, topics, policy, revocations and producers are those of the index.
//
// The snapshot is verified whole, and the folder looked at, before anything is touched. A crash in the middle leaves a
// folder on which nothing starts; another Restore begins anew there. Errors are those of VerifySnapshot, and of the disk.
func Restore(ctx context.Context, o RestoreOptions) (*Restored, error) {
	if o.NodeID == "" {
		return nil, errors.New("restore: no node id")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	report, err := VerifySnapshot(ctx, o.File)
	if err != nil {
		return nil, err
	}
	if _, err := o.File.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	r := restorer{RestoreOptions: o, ctx: ctx, out: Restored{*report, rand.Text()}}
	if _, err := r.target(); err != nil {
		return nil, err
	}
	if err := r.run(); err != nil {
		return nil, fmt.Errorf("restore into %s: %w", o.Dir, err)
	}
	return &r.out, nil
}

// restorer writes a data folder.
type restorer struct {
	RestoreOptions
	ctx context.Context
	out Restored
}

// target looks at the folder, and says whether a restore was there before that did not finish.
func (r *restorer) target() (again bool, err error) {
	entries, err := os.ReadDir(r.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("data folder: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != lockFile && e.Name() != "lost+found" { // a file system's own
			names = append(names, e.Name())
		}
	}
	again = slices.Contains(names, restoreFile)
	for _, name := range names {
		if !again || !slices.Contains(restoredNames, name) {
			return again, fmt.Errorf("%s: %w: it has %s", r.Dir, errNotEmpty, name)
		}
	}
	return again, nil
}

// restoredNames is what a restore writes.
var restoredNames = []string{restoreFile, storageDir, raftDir, nodeFile, nodeFile + ".tmp"}

// run writes the folder, between its mark and the mark's end.
func (r *restorer) run() error {
	err := fault.Step("restore.mkdir", func() error {
		if err := os.Mkdir(r.Dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		return syncParent(r.Dir)
	})
	if err != nil {
		return err
	}
	lock, err := lockFolder(r.Dir)
	if err != nil {
		return err
	}
	err = r.locked()
	return errors.Join(err, lock.Close())
}

// locked writes the folder, which nobody else uses.
func (r *restorer) locked() error {
	again, err := r.target()
	if err != nil {
		return err
	}
	mark := filepath.Join(r.Dir, restoreFile)
	step := func(name string, do func() error) {
		if err == nil {
			err = fault.Step(name, do)
		}
	}
	step("restore.mark", func() error { return errors.Join(writeSynced(mark, []byte(r.out.Digest+"\n")), syncDir(r.Dir)) })
	if again && err == nil {
		err = r.clean() // as harmless to end in as the steps before it: the mark stands
	}
	var head storage.Head
	step("restore.segments", func() (err error) { head, err = r.segments(); return err })
	step("restore.log", func() error { return r.log(head) })
	step("restore.node", func() error {
		return writeNode(filepath.Join(r.Dir, nodeFile), nodeMeta{Version: nodeVersion, Node: r.NodeID, Disk: rand.Text()})
	})
	step("restore.unmark", func() error { return os.Remove(mark) })
	step("restore.syncdir", func() error { return syncDir(r.Dir) })
	return err
}

// clean deletes what a restore left that did not finish.
func (r *restorer) clean() error {
	for _, name := range restoredNames {
		if name == restoreFile {
			continue
		}
		if err := os.RemoveAll(filepath.Join(r.Dir, name)); err != nil {
			return err
		}
	}
	return syncDir(r.Dir)
}

// segments writes what was stored, and the state of the new cluster.
func (r *restorer) segments() (storage.Head, error) {
	in, err := snapshot.NewReader(r.File)
	if err != nil {
		return storage.Head{}, err
	}
	var machine *state.Machine
	head, err := storage.Restore(r.ctx, in, storage.RestoreOptions{
		Dir: filepath.Join(r.Dir, storageDir), Logger: r.Logger,
		State: func(chunks iter.Seq2[[]byte, error]) (err error) {
			machine, err = restoreState(in.Head(), chunks)
			return err
		},
		Checkpoint: func() (iter.Seq[[]byte], []byte) {
			m := members{index: in.Head().Index, encoded: raft.EncodeConfiguration(r.members())}
			return machine.Checkpoint().OfCluster(r.out.Cluster).Chunks(), m.append(nil)
		},
	})
	if err == nil && in.Digest() != r.out.Digest {
		err = fmt.Errorf("%w: the file changed while it was restored", snapshot.ErrDamaged)
	}
	return head, err
}

// members is the new cluster: this node.
func (r *restorer) members() raft.Configuration {
	return raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(r.NodeID), Address: raft.ServerAddress(r.NodeID)}}}
}

// log writes a raft log that begins with the entry of the snapshot's index, of its term: what follows it goes on from there.
// The entry holds the members of the new cluster, as the segment's meta data says.
func (r *restorer) log(head storage.Head) error {
	dir := filepath.Join(r.Dir, raftDir)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	var failed error
	s, err := openStore(dir, 0, nil, func() (storage.Head, bool) { return storage.Head{}, false }, r.Logger, func(err error) { failed = err }, newMetrics(nil))
	if err != nil {
		return err
	}
	err = s.SetUint64([]byte(termKey), head.Point.Term)
	if err == nil {
		err = s.StoreLog(&raft.Log{Index: head.Point.Index, Term: head.Point.Term, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(r.members())})
	}
	if err = errors.Join(err, s.close(), failed); err != nil {
		return err
	}
	return errors.Join(syncFiles(dir), syncDir(r.Dir))
}

// syncParent makes a folder's own name durable, as far as we may.
func syncParent(dir string) error {
	err := syncDir(filepath.Dir(dir))
	if errors.Is(err, os.ErrPermission) {
		return nil // whoever made ours for us sees to it
	}
	return err
}
