// Package codec is msgpack as Waxwing speaks it: a strict scan, an append-style writer, a
// cursor that slices instead of copying, and the library's encoder and decoder for control
// messages. It is used for the wire, raft entries, checkpoints and batch headers.
//
// The subset: nil, bool, integers, str (valid UTF-8), bin, array, and map with distinct str keys.
// Integers and lengths are in their shortest form; there are no extension types and nothing
// stands behind the value. One value therefore has one encoding, so that two parsers never
// read one message differently. Floats pass the scan, for fields that a later version may add.
//
// Source: the msgpack specification, github.com/msgpack/msgpack/blob/master/spec.md.
package codec
