package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/waxwing-mq/waxwing/client"
)

// job is one run of a scenario: its own topics, connections and numbers.
type job struct {
	o      *Options
	target *Target
	run    uint64 // in every stamp
	epoch  time.Time
	stop   <-chan struct{} // closed when the one who asked wants no more

	admin      *client.Client
	clients    []*client.Client
	topics     []string
	pattern    string // that matches them all
	publishers []*publisher
	streams    int
	phases     uint64 // that were published
}

// closeTimeout bounds how long a connection may take to close.
const closeTimeout = 10 * time.Second

// newJob connects and makes topics. interrupted ends it early; the connections live on ctx.
func newJob(ctx, interrupted context.Context, t *Target, o *Options) (_ *job, err error) {
	j := &job{o: o, target: t, run: rand.Uint64(), epoch: time.Now(), stop: interrupted.Done()}
	prefix := fmt.Sprintf("%s%016x.", topicPrefix, j.run)
	j.pattern = prefix + "*"
	defer func() {
		if err != nil {
			err = errors.Join(err, j.close(ctx))
		}
	}()
	if j.admin, err = j.dial(interrupted); err != nil {
		return nil, err
	}
	for i := range o.Topics {
		name := fmt.Sprint(prefix, i)
		if _, err := j.admin.Topics().Create(interrupted, name, client.TopicSpec{Partitions: uint32(o.Partitions)}); err != nil {
			return nil, fmt.Errorf("make topic %s: %w", name, err)
		}
		j.topics = append(j.topics, name)
	}
	return j, nil
}

// topicPrefix is what the names of all topics of a bench begin with: what a policy has to allow.
const topicPrefix = "bench."

// dial opens one more connection.
func (j *job) dial(ctx context.Context) (*client.Client, error) {
	o := j.target.Client
	if o.BatchBytes = j.o.BatchBytes; o.BatchBytes < 0 {
		o.BatchBytes = 0
	}
	o.Name = "waxwing bench"
	c, err := client.Dial(ctx, o)
	if err != nil {
		return nil, err
	}
	j.clients = append(j.clients, c)
	return c, nil
}

// addPublishers connects those who publish, each with a stream to every partition.
func (j *job) addPublishers(ctx context.Context, count int) error {
	for n := range count {
		c, err := j.dial(ctx)
		if err != nil {
			return err
		}
		p := &publisher{number: n, conn: c, run: j.run, slots: make(chan struct{}, j.o.Window), recorder: newRecorder(), filler: newFiller(j.o.Seed, uint64(n), j.o)}
		for partition := range j.o.Partitions {
			for _, topic := range j.topics {
				p.streams = append(p.streams, &stream{id: uint32(j.streams), topic: topic, partition: uint32(partition)})
				j.streams++
			}
		}
		j.publishers = append(j.publishers, p)
	}
	return nil
}

// publish runs a phase with all publishers and returns when everything is acknowledged. Markers follow.
func (j *job) publish(ctx context.Context, ph *phase) (took time.Duration, err error) {
	ph.epoch, ph.begin, ph.stop = j.epoch, time.Now(), j.stop
	if j.o.Rate > 0 && ph.every == 0 {
		ph.every = time.Duration(float64(time.Second) * float64(len(j.publishers)) / j.o.Rate)
	}
	err = j.each(func(p *publisher) error { return p.publish(ctx, ph.turn(p.number, len(j.publishers))) })
	took = time.Since(ph.begin)
	if err == nil {
		err = j.each(func(p *publisher) error { return p.mark(ctx, j.epoch) })
		j.phases++
	}
	return took, err
}

// each lets all publishers do something at once, and gives back the first error.
func (j *job) each(do func(*publisher) error) error {
	var all sync.WaitGroup
	errs := make([]error, len(j.publishers))
	for i, p := range j.publishers {
		all.Go(func() { errs[i] = do(p) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// acknowledged is how many records of each stream are.
func (j *job) acknowledged() []uint64 {
	counts := make([]uint64, j.streams)
	for _, p := range j.publishers {
		for _, s := range p.streams {
			counts[s.id] = s.acked
		}
	}
	return counts
}

// readBack reads everything again and verifies it.
func (j *job) readBack(ctx context.Context, acknowledged []uint64) (Verification, error) {
	v := newVerifier(j.run, j.streams)
	r, err := openReader(ctx, j.admin, j.pattern, true, v, j.epoch)
	if err != nil {
		return Verification{}, err
	}
	r.readLoop(ctx)
	if err := r.close(); err != nil {
		return Verification{}, err
	}
	return v.finish(acknowledged), nil
}

// close deletes the topics and closes the connections.
func (j *job) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	var errs []error
	for _, name := range j.topics {
		if err := j.admin.Topics().Delete(ctx, name); err != nil {
			errs = append(errs, fmt.Errorf("delete topic %s: %w", name, err))
		}
	}
	for _, c := range j.clients {
		if err := c.Close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("close: %w", err))
		}
	}
	return errors.Join(errs...)
}
