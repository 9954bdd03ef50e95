package powercut

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/waxwing-mq/waxwing/internal/launch"
)

// Options say what is cut and where. Zero values mean the defaults.
type Options struct {
	Dir        string         // scratch folder for images, mounts and certificates
	Start      launch.Options // how to start the broker; "serve" and its flags are added to Args
	Seed       uint64         // of the random moments
	ImageBytes int64          // size of the disk; default 2 GiB, sparse
	CutsMax    int            // cuts of one disk before a new one is made; default 10
	BodyMax    int            // bytes of most bodies on every second disk; default 1 KiB
	// Under is a program and its arguments that run the broker from its second start on a disk on,
	// such as strace with a fault of the system. The recovered broker runs without it.
	Under []string
	// Keep is a folder for the image of a cut that went wrong; "" = it is removed.
	Keep string
}

// Harness cuts the power again and again. One goroutine uses it.
type Harness struct {
	options Options
	site    *site
	random  *rand.Rand
	machine *machine
	made    int // disks
	copies  int // of disks
}

// open sets defaults and makes the folder of a harness.
func (o *Options) open() (*site, error) {
	if o.ImageBytes == 0 {
		o.ImageBytes = imageBytesDefault
	}
	if o.CutsMax == 0 {
		o.CutsMax = 10
	}
	if o.BodyMax == 0 {
		o.BodyMax = bodyMaxDefault
	}
	dir, err := os.MkdirTemp(o.Dir, "powercut-")
	if err != nil {
		return nil, fmt.Errorf("open harness: %w", err)
	}
	return newSite(dir, o.Start)
}

// Open prepares for cuts; Missing says whether this machine can do them.
func Open(o Options) (*Harness, error) {
	s, err := o.open()
	if err != nil {
		return nil, err
	}
	if err := s.configure(nodeName, net.IPv4(127, 0, 0, 1), `client: "127.0.0.1:0", peer: ""`, ""); err != nil {
		return nil, err
	}
	return &Harness{options: o, site: s, random: rand.New(rand.NewPCG(o.Seed, 0))}, nil
}

// Close ends the broker and removes what was made.
func (h *Harness) Close() error {
	err := h.machine.discard()
	h.machine = nil
	if err != nil {
		return err // the folder may still be a mount: what is in it is not ours to remove
	}
	return os.RemoveAll(h.site.dir)
}

const (
	imageBytesDefault = 2 << 30
	bodyMaxDefault    = 1 << 10

	acksMax   = 1500    // acknowledgements before a random moment
	pointAcks = 200_000 // acknowledgements after which a point counts as not reached
	jitterMax = 5 * time.Millisecond
)

// Cut cuts the power at a moment and checks what a broker finds afterwards. A *LossError says that
// it is not what was acknowledged. After an error the disk is thrown away, and a new Cut is fine.
func (h *Harness) Cut(ctx context.Context, moment Moment) (*Cut, error) {
	begin := time.Now()
	c := &Cut{Moment: moment}
	err := h.cut(ctx, c)
	c.Took = time.Since(begin)
	if err != nil {
		// The error of the cut says more than one of the clearing up.
		_ = h.machine.discard()
		h.machine = nil
		return c, fmt.Errorf("power cut at %v: %w", moment, err)
	}
	return c, nil
}

// keep makes a copy of what the broker that now stands still had on its disk.
func (h *Harness) keep() error {
	if h.options.Keep == "" {
		return nil
	}
	name := filepath.Join(h.options.Keep, fmt.Sprintf("cut-%d.img", time.Now().UnixNano()))
	if err := h.machine.disk.Cut(name); err != nil {
		return fmt.Errorf("keep the image: %w", err)
	}
	return fmt.Errorf("the image is in %s", name)
}

func (h *Harness) cut(ctx context.Context, c *Cut) error {
	if err := h.prepare(ctx, c.Moment); err != nil {
		return err
	}
	if err := h.await(ctx, c); err != nil {
		return err
	}
	h.copies++
	image := h.site.path(fmt.Sprintf("cut%d.img", h.copies))
	begin := time.Now()
	if err := h.machine.disk.Cut(image); err != nil {
		return err
	}
	c.Copy = time.Since(begin)
	if err := h.recover(ctx, c, image); err != nil {
		return errors.Join(err, h.keep())
	}
	h.machine.cuts++
	if c.Adopted {
		return nil
	}
	return h.goOn(ctx)
}

// prepare has a machine that publishes, or for a first start one that never ran.
func (h *Harness) prepare(ctx context.Context, moment Moment) error {
	if h.machine != nil && !moment.FirstStart && h.machine.cuts < h.options.CutsMax {
		return nil
	}
	if err := h.machine.discard(); err != nil {
		return err
	}
	h.made++
	var err error
	if h.machine, err = newMachine(ctx, h.site, fmt.Sprintf("disk%d", h.made), h.options.ImageBytes); err != nil || moment.FirstStart {
		return err
	}
	if _, err := h.machine.start(ctx, nil, ""); err != nil {
		return err
	}
	if err := h.publish(ctx); err != nil {
		return err
	}
	if h.options.Under != nil {
		h.machine.kill()
	}
	return nil
}

// publish begins to publish, with small bodies on every second disk.
func (h *Harness) publish(ctx context.Context) error {
	bodyMax := bodyMaxDefault
	if h.made%2 == 0 {
		bodyMax = h.options.BodyMax
	}
	return h.machine.publish(ctx, bodyMax)
}

// await starts the broker if it must be armed or does not run, and waits for the moment. The broker
// then stands still.
func (h *Harness) await(ctx context.Context, c *Cut) error {
	m, acks := h.machine, int64(pointAcks)
	if c.Moment.Point == "" {
		acks = h.random.Int64N(acksMax)
	}
	stopped := false
	var err error
	if m.node == nil || c.Moment.Point != "" {
		stopped, err = m.start(ctx, h.options.Under, c.Moment.arm())
	}
	if err == nil && !stopped {
		err = h.publish(ctx)
	}
	if err == nil && !stopped {
		stopped, err = m.awaitAcks(ctx, acks)
	}
	if err != nil {
		return err
	}
	if c.Reached = stopped; stopped {
		return nil
	}
	select { // somewhere between two acknowledgements
	case <-time.After(time.Duration(h.random.Int64N(int64(jitterMax)))):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return m.node.stop()
}

// goOn lets the stopped broker go on as if nothing had been, or kills it.
func (h *Harness) goOn(ctx context.Context) error {
	m := h.machine
	if h.random.IntN(2) == 0 {
		m.kill()
		return nil
	}
	if err := m.node.resume(); err != nil {
		return err
	}
	stopped, err := m.awaitReady(ctx)
	if stopped && err == nil {
		err = errors.New("the broker stands still again")
	}
	return err
}
