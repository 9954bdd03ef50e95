// Package fault names the moments at which a disk or a process can fail us, so that a test
// can make it fail exactly there.
//
// points.go lists every step; tests meet each of them with each failure. A persistent step stands between two points of one name:
//
//	if err := fault.Before("wal.append"); err != nil { return err }
//	... the step ...
//	return fault.After("wal.append")
//
// Off, a point costs one atomic load. A point is armed by Arm, or by ArmFromEnv, which only
// test binaries call: the release binary never reads the variable.
package fault
