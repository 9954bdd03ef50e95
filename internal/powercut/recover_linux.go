package powercut

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// ErrNoStart says that no broker starts on what a cut left: a finding, like a *LossError.
var ErrNoStart = errors.New("the broker does not start on what is left")

// recoverMax is for the recovered broker to start, answer and end.
const recoverMax = 3 * time.Minute

// recover starts a broker on the copy and compares it with the journal. The acknowledgements that
// were still on their way when the process stopped count: it sent them. Of the copies that hold a journal every second
// one takes the place of the disk that was cut, so that the next cut meets a disk that was cut before.
func (h *Harness) recover(ctx context.Context, c *Cut, image string) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, recoverMax, fmt.Errorf("the recovered broker took longer than %v", recoverMax))
	defer cancel()
	e := h.machine.journal.expect()
	for _, acked := range e.acked {
		c.Acked += acked
	}
	disk, err := Mount(image, strings.TrimSuffix(image, filepath.Ext(image)))
	if err != nil {
		return err
	}
	defer func() {
		if c.Adopted {
			return
		}
		if discarded := disk.Discard(); err == nil {
			err = discarded
		}
	}()
	n, err := serve(ctx, h.site, disk)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoStart, err)
	}
	adopt := h.machine.client != nil && h.options.Under == nil && h.random.IntN(2) == 0
	err = h.compare(ctx, n, e, !adopt)
	c.Found = e.found()
	if err == nil && adopt {
		c.Adopted = true
		return h.machine.adopt(disk, n)
	}
	defer n.kill()
	if err != nil {
		return n.explain(err)
	}
	return n.shutdown(ctx)
}

// compare reads everything, and may write and read on.
func (h *Harness) compare(ctx context.Context, n *node, e *expectation, on bool) error {
	var g gate
	g.open(n.p.Ready.Client)
	client, err := h.site.dial(ctx, successorName, &g)
	if err != nil {
		return fmt.Errorf("dial the recovered broker: %w", err)
	}
	defer client.Close(ctx)
	if err := verify(ctx, client, e); err != nil || !on {
		return err
	}
	return goOn(ctx, client, e)
}
