// Package protocol is the wire: frames, messages, codes and limits. PROTOCOL.md is the
// normative text, testdata holds golden vectors that any language can run.
//
// A frame is a big-endian uint32, the length of the rest, and one msgpack array
// [kind, request id, fields...]. The length is checked against a cap before anything is allocated
// for it, and every frame passes the strict scan of protocol/codec before it is decoded.
//
// PUBLISH, PUBLISHED, DELIVER and CREDIT are encoded by appending and decoded by slicing; all other
// messages go through the msgpack library.
package protocol
