package powercut

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/waxwing-mq/waxwing/client"
)

// clusterNodes is how many nodes a Cluster has.
const clusterNodes = 3

// outage is how long a power cut takes from the first node to the last.
const outage = 50 * time.Millisecond

// Cluster is three brokers, each on a disk of its own, and a client that publishes to them. The power of all three goes at once, or
// nearly; every disk then is what its cut left. One goroutine uses it.
type Cluster struct {
	options Options
	site    *site
	random  *rand.Rand
	servers []string
	disks   [clusterNodes]*Disk
	nodes   [clusterNodes]*node // nil = not running
	ended   chan int            // which of them have
	cuts    int

	journal journal
	client  *client.Client
	gate    gate // to all nodes; closed while the power is out and what is left is looked at
	ctx     context.Context
	cancel  context.CancelFunc
	failed  chan error // the first failure of a publisher
	wg      sync.WaitGroup
}

// OpenCluster starts three brokers and begins to publish. CutsMax of the options is not used, and Under runs the brokers until the first cut.
// The nodes listen on addresses of 127.0.0.0/8 that are drawn, since each must know those of the others before it starts.
func OpenCluster(ctx context.Context, o Options) (c *Cluster, err error) {
	s, err := o.open()
	if err != nil {
		return nil, err
	}
	c = &Cluster{options: o, site: s, random: rand.New(rand.NewPCG(o.Seed, 0)), failed: make(chan error, partitions)}
	c.ctx, c.cancel = context.WithCancel(ctx)
	if err := errors.Join(c.configure(), c.begin(ctx)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// configure writes what the nodes need.
func (c *Cluster) configure() error {
	network := fmt.Sprintf("127.%d.%d.", 1+rand.IntN(250), rand.IntN(256))
	var join []string
	for i := range c.nodes {
		ip := fmt.Sprint(network, i+1)
		join = append(join, fmt.Sprintf("%s@%s:17421", c.id(i), ip))
		c.servers = append(c.servers, ip+":17420")
	}
	for i := range c.nodes {
		ip := fmt.Sprint(network, i+1)
		listen := fmt.Sprintf("client: %q, peer: %q", ip+":17420", ip+":17421")
		more := fmt.Sprintf("cluster: {bootstrap_expect: %d, join: [%s]}\n", clusterNodes, strings.Join(join, ", "))
		if err := c.site.configure(c.id(i), net.ParseIP(ip), listen, more); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) id(i int) string { return fmt.Sprintf("n%d", i+1) }

// begin makes the disks, starts the nodes and the publishers.
func (c *Cluster) begin(ctx context.Context) (err error) {
	for i := range c.disks {
		name := c.site.path(c.id(i) + "-disk")
		if c.disks[i], err = NewDisk(name+".img", name, c.options.ImageBytes); err != nil {
			return err
		}
	}
	if err := c.start(ctx); err != nil {
		return err
	}
	c.gate.open("all")
	c.client, err = c.site.connect(ctx, publisherName, c.servers, func(ctx context.Context, network, address string) (net.Conn, error) {
		if _, err := c.gate.await(ctx); err != nil {
			return nil, err
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	})
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	if _, err := c.client.Topics().Create(ctx, topicName, client.TopicSpec{Partitions: partitions}); err != nil {
		return fmt.Errorf("create topic: %w", err)
	}
	c.journal.created()
	for p := range uint32(partitions) {
		c.wg.Go(func() {
			if err := publish(c.ctx, c.client, &c.journal, p, c.options.BodyMax); err != nil {
				c.failed <- err
			}
		})
	}
	return nil
}

// start starts all nodes on their disks and waits until all serve.
func (c *Cluster) start(ctx context.Context) (err error) {
	under := c.options.Under
	if c.cuts > 0 {
		under = nil
	}
	ended := make(chan int, clusterNodes)
	c.ended = ended
	for i, d := range c.disks {
		if c.nodes[i], err = spawnNode(c.ctx, c.site, c.id(i), d, under); err != nil {
			return err
		}
		p := c.nodes[i].p
		go func() {
			<-p.Done()
			ended <- i
		}()
	}
	for _, n := range c.nodes { // none serves before most do
		stopped, err := n.awaitReady(ctx)
		if stopped && err == nil {
			err = n.explain(errors.New("it stopped by itself"))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Cut cuts the power of all nodes, one after the other within 50 ms and at a random moment, starts them on what is left, and
// checks what each of them holds. A *LossError says that it is not what was acknowledged. After an error the cluster is of no more use.
func (c *Cluster) Cut(ctx context.Context) (*Cut, error) {
	begin := time.Now()
	cut := &Cut{Adopted: true}
	err := c.cut(ctx, cut)
	cut.Took = time.Since(begin)
	if err != nil {
		return cut, fmt.Errorf("power cut of %d nodes: %w", clusterNodes, err)
	}
	return cut, nil
}

func (c *Cluster) cut(ctx context.Context, cut *Cut) error {
	select {
	case <-c.journal.more(c.random.Int64N(acksMax)):
	case err := <-c.failed:
		return err
	case i := <-c.ended:
		return c.nodes[i].explain(fmt.Errorf("node %s ended: %w", c.id(i), c.nodes[i].p.Wait()))
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for _, i := range c.random.Perm(clusterNodes) {
		select { // somewhere between two acknowledgements
		case <-time.After(time.Duration(c.random.Int64N(int64(outage) / clusterNodes))):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := c.nodes[i].stop(); err != nil {
			return err
		}
	}
	begin := time.Now()
	c.cuts++
	var images []string
	for i, d := range c.disks {
		images = append(images, c.site.path(fmt.Sprintf("%s-cut%d.img", c.id(i), c.cuts)))
		if err := d.Cut(images[i]); err != nil {
			return err
		}
	}
	cut.Copy = time.Since(begin)
	kept, err := c.keep(images)
	if err != nil {
		return err
	}
	c.gate.open("")
	if err := c.discard(); err != nil {
		return err
	}
	for i, image := range images {
		if c.disks[i], err = Mount(image, strings.TrimSuffix(image, ".img")); err != nil {
			return err
		}
	}
	if err := kept(c.recover(ctx, cut)); err != nil {
		return err
	}
	c.gate.open("all")
	return nil
}

// recover starts the nodes and looks at what each holds. The acknowledgements that were on their way when the nodes stopped count.
func (c *Cluster) recover(ctx context.Context, cut *Cut) error {
	e := c.journal.expect()
	for _, acked := range e.acked {
		cut.Acked += acked
	}
	ctx, cancel := context.WithTimeoutCause(ctx, recoverMax, fmt.Errorf("the recovered nodes took longer than %v", recoverMax))
	defer cancel()
	if err := c.start(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrNoStart, err)
	}
	for i, server := range c.servers {
		own := *e // each node begins from the first record
		if err := c.compare(ctx, server, &own); err != nil {
			return fmt.Errorf("node %s: %w", c.id(i), c.nodes[i].explain(err))
		}
		if cut.Found == 0 || own.found() < cut.Found {
			cut.Found = own.found()
		}
	}
	return nil
}

// errSeenAll ends a subscription.
var errSeenAll = errors.New("all was seen")

// compare reads from one node until it has given everything that was acknowledged. A node that lags behind may take its time.
func (c *Cluster) compare(ctx context.Context, server string, e *expectation) error {
	reader, err := c.site.connect(ctx, successorName, []string{server}, nil)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer reader.Close(ctx)
	if e.done() == nil {
		return nil
	}
	err = reader.SubscribeFunc(ctx, client.SubscribeOptions{Topics: []string{topicName}, From: client.Earliest()}, func(m *client.Message) error {
		if err := e.see(m.Partition, m.Offset, m.Body, m.Publisher, publisherID); err != nil {
			return err
		}
		if e.done() == nil {
			return errSeenAll
		}
		return nil
	})
	switch {
	case errors.Is(err, errSeenAll):
		return nil
	case ctx.Err() != nil && e.done() != nil:
		return errors.Join(e.done(), err)
	}
	return fmt.Errorf("read what is left: %w", err)
}

// keep copies the images that a cut left, before anybody writes to them, and returns what a failed recovery does with the copies.
func (c *Cluster) keep(images []string) (failed func(error) error, err error) {
	if c.options.Keep == "" {
		return func(err error) error { return err }, nil
	}
	var copies []string
	for i, image := range images {
		name := fmt.Sprintf("%s/%s-cut%d.img", c.options.Keep, c.id(i), c.cuts)
		if err := copySparse(image, name); err != nil {
			return nil, fmt.Errorf("keep the images: %w", err)
		}
		copies = append(copies, name)
	}
	return func(err error) error {
		if err != nil {
			return fmt.Errorf("%w; the images are in %s", err, c.options.Keep)
		}
		var errs []error
		for _, name := range copies {
			errs = append(errs, os.Remove(name))
		}
		return errors.Join(errs...)
	}, nil
}

// discard ends the nodes and removes their disks.
func (c *Cluster) discard() error {
	var errs []error
	for i, d := range c.disks {
		c.nodes[i].kill()
		c.nodes[i] = nil
		errs = append(errs, d.Discard())
		c.disks[i] = nil
	}
	return errors.Join(errs...)
}

// Close ends the nodes and removes what was made.
func (c *Cluster) Close() error {
	c.cancel()
	err := c.discard()
	c.wg.Wait()
	if c.client != nil {
		c.client.Close(c.ctx) // what is unanswered stays so; that is no error here
	}
	if err != nil {
		return err // the folder may still be a mount: what is in it is not ours to remove
	}
	return os.RemoveAll(c.site.dir)
}
