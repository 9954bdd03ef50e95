package storage

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/waxwing-mq/waxwing/topic"
)

// Key of a value, all big-endian, so that byte order is offset order:
//
//	 0              8              16
//	+--------------+--------------+
//	| partition id | base offset  |
//	+--------------+--------------+
//
// The value is one or more whole stored batches of that partition, the first at that offset.
const keyBytes = 16

// timestamp is the one version at which everything is written.
const timestamp = 1

// overshootBytes is how much a segment may grow beyond its size before it is cut: what is proposed and waits in
// memory when the cut is proposed behind it. The value log must hold a segment whole.
const overshootBytes = 64 << 20

func key(p topic.PartitionID, base topic.Offset) []byte {
	k := make([]byte, 0, keyBytes)
	k = binary.BigEndian.AppendUint64(k, uint64(p))
	return binary.BigEndian.AppendUint64(k, uint64(base))
}

// partitionOf reads a key's first half.
func partitionOf(k []byte) topic.PartitionID { return topic.PartitionID(binary.BigEndian.Uint64(k)) }

// baseOf reads its second half.
func baseOf(k []byte) topic.Offset {
	return topic.Offset(binary.BigEndian.Uint64(k[8:]))
}

const (
	valueThreshold = 1024    // smaller values stand in tables instead of the value log
	memtableBytes  = 8 << 20 // then it is written as a table
)

// segmentOptions are the measured options of DESIGN section 7; do not change one without
// repeating the fault tests.
func segmentOptions(dir string, size int64, log badger.Logger) badger.Options {
	o := badger.DefaultOptions(dir)
	o.SyncWrites = false
	o.DetectConflicts = false
	o.NumVersionsToKeep = 1
	o.Compression = options.None
	o.ValueThreshold = valueThreshold
	o.MemTableSize = memtableBytes
	o.NumMemtables = 2
	o.NumCompactors = 0
	o.NumLevelZeroTables = 100_000
	o.NumLevelZeroTablesStall = 200_000
	o.CompactL0OnClose = false
	o.ValueLogFileSize = size + overshootBytes
	o.ValueLogMaxEntries = 1 << 31
	o.BlockCacheSize = 0
	o.IndexCacheSize = 0
	o.MetricsEnabled = false
	o.ChecksumVerificationMode = options.OnTableRead
	o.Logger = log
	return o
}

// badgerLog passes Badger's words on. Whatever it calls an error is one: background
// failures show nowhere else.
type badgerLog struct {
	log  *slog.Logger
	note func(error)
}

func (b badgerLog) Errorf(format string, args ...any) {
	text := line(format, args)
	b.log.Error("badger", "text", text)
	b.note(fmt.Errorf("badger: %s", text))
}

func (b badgerLog) Warningf(format string, args ...any) {
	b.log.Warn("badger", "text", line(format, args))
}
func (b badgerLog) Infof(format string, args ...any) {
	b.log.Debug("badger", "text", line(format, args))
}
func (b badgerLog) Debugf(format string, args ...any) {
	b.log.Debug("badger", "text", line(format, args))
}

func line(format string, args []any) string {
	return strings.TrimSpace(fmt.Sprintf(format, args...))
}
