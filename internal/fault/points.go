package fault

import "slices"

// points are the persistent steps, in the order of a life. A test holds this list to the code, and others meet each of
// them with each of Failures: a step that stands here and is never reached fails.
var points = []string{
	"node.write", "node.rename", "node.syncdir", "sealkey.write", // whose folder it is, and its key
	"meta.write", "meta.rename", "meta.syncdir", "raft.set", "raft.append", "raft.delete", "raft.compact", // the raft log
	"fsm.apply",
	"storage.empty", "segment.open", "storage.write", "segment.cut", "segment.turn", // the active segment
	"seal.checkpoint", "seal.close", "seal.sync", "seal.verify", "seal.manifest", "seal.rename", "seal.syncdir",
	"merge.swap", "segment.unseal", "segment.delete", "file.sync",
	"install.begin", "install.write", "install.sync", "install.seal", // a segment from another node
	"install.commit", "install.clear", "install.move", "install.done", "raft.wipe", // and in its place
	"repair.move", "repair.leave", // and in the place of a damaged one
	"snapshot.create", "export.read", "snapshot.write", "snapshot.sync", "snapshot.prove", "snapshot.rename", "snapshot.syncdir", // a backup
	"restore.mkdir", "restore.mark", "restore.segments", "restore.log", "restore.node", "restore.unmark", "restore.syncdir", // and its way back
}

// Points lists every persistent step of the program.
func Points() []string { return slices.Clone(points) }
