// Package memnet is an in-memory network for tests: listeners and connections that
// block on channels only, so that they count as idle inside a testing/synctest bubble.
//
// A connection is a pair of bounded byte buffers. Write blocks when the peer's buffer is full,
// as on a socket; deadlines, Close and half-dead peers behave as net.Conn says.
// Network.Hold cuts the way from one host to another: what is sent that way stays on the way until Release, as packets that a
// sender repeats until they arrive. Apart from that it is not a simulation of a network: nothing is delayed, dropped or reordered.
package memnet
