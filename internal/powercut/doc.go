// Package powercut cuts the power of a broker and looks at what is left. It is for tests.
//
// The broker is a real process with its data folder on an ext4 file system in an image file,
// behind a loop device. A client publishes to it over mutual TLS and keeps a journal of what was
// acknowledged, outside the image. At some moment the process is stopped with SIGSTOP and the image
// file is copied as it is: what the file system had only in memory is not in the copy, just as it
// would not be on the disk after a power cut. The copy is mounted, a second broker starts on it,
// and everything that the journal holds must be there, with its bytes, in its order, by its
// publisher, at offsets without a gap; and the broker must go on from there. After every second cut the copy takes the
// place of the disk: the client goes on with it, so that later cuts meet a disk that was cut before. After the others
// the broker goes on on the disk as if nothing had been, or is killed and started again.
//
// A moment is either random or the n-th time that the process reaches a named fault point
// (internal/fault). The names come from the caller; the process must be a test binary then, since no
// other reads them.
//
// Cluster does the same with three brokers, each on an image of its own: their power goes within 50 ms, all three start on what their
// cuts left, each must hold everything that a majority acknowledged, and they go on from there to the next cut.
//
// # By hand
//
// As root, with mkfs.ext4 (e2fsprogs):
//
//	make build
//	go run ./internal/powercut/cmd/powercut -binary bin/waxwing -cuts 20
//
// and at fault points, with a program that knows them:
//
//	go test -c -o bin/waxwing.test ./cmd/waxwing
//	go run ./internal/powercut/cmd/powercut -binary bin/waxwing.test -env WAXWING_TEST_PROGRAM=1 \
//		-cuts 40 -point raft.append@60 -point fsm.apply@60 -first-start node.rename
//
// The same runs as a test: `WAXWING_LANE=2 go test -run 'TestC0[234]' ./cmd/waxwing`.
//
// # What it does not do
//
// Every write that reached the device is in the copy: a drive that loses or reorders what it took
// before a flush is not played. A system call is in the copy whole or not at all, as the stop waits for those
// that are under way: torn writes need a test of their own.
//
// A harness that is killed leaves its mounts behind: unmount what /proc/mounts shows below a folder
// named powercut-*; the loop devices go by themselves.
package powercut
