package cluster_test

import (
	"errors"
	"testing"

	"github.com/waxwing-mq/waxwing/internal/fault"
)

// TestSealKeyFaults: the key of a new folder cannot be written, or its writing seems to fail; the node does not start, and does the
// next time.
func TestSealKeyFaults(t *testing.T) {
	for _, action := range []fault.Action{fault.Error, fault.ErrorDone} {
		t.Run(string(action), func(t *testing.T) {
			inFleet(t, func(t *testing.T, f *fleet) {
				fault.Arm("sealkey.write", action, 1)
				_, err := f.open("n1")
				fault.Disarm()
				if !errors.Is(err, fault.ErrInjected) {
					t.Fatalf("it started: %v", err)
				}
				f.startAll()
				n := f.ready(f.ids...)
				n.fill(t, createTopic(t, n.Group, "orders"), 0, 3)
				f.same()
			})
		})
	}
}
