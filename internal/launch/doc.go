// Package launch starts brokers as child processes and waits until they serve: for demo,
// dev, benchmarks and tests. The child tells over a pipe when it is ready and on which
// addresses, so nobody polls and port 0 works.
//
// The binary is the caller's choice: the running executable for commands, the test binary itself
// (which then runs the command's main) for tests. A child dies with its parent on Linux.
package launch
