// Package batch is the one format of records for the wire, the raft entry and the disk.
//
// A client sends 1 to 65,535 records of one partition as one blob: the records, one after another.
// The broker validates the blob once (Scan) and from then on carries it as it is: it puts a
// header in front, which only the broker writes (Append), and that stored batch is what the disk
// holds and what consumers get (Parse, Records). Nothing re-encodes a record.
//
// One record is a msgpack array:
//
//	[key: bin|nil, headers: map str->str|nil, body: bin, ttl_ms: uint|nil]
//
// A stored batch, all integers big-endian:
//
//	 0      1          5          9
//	+------+----------+----------+-----------------------+-----------------+
//	| 0x01 | len u32  | crc u32  | header: msgpack array | records (blob)  |
//	+------+----------+----------+-----------------------+-----------------+
//	len counts the whole batch; crc is CRC-32C (Castagnoli) of all bytes but its own four.
//
//	header = [flags, partition id, base offset, count, append time (unix ms), minimum ttl ms,
//	          publisher, SHA-256 of its key, policy version, producer id, epoch, base sequence, origin|nil]
//	origin = [topic, partition, offset, time (unix ms), publisher, SHA-256 of its key, reason, count]
//
// Record i of a batch has offset base + i; its time to live counts from the append time.
package batch
