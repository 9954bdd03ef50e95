package powercut

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/identity"
)

const (
	topicName     = "journal"
	inFlightMax   = 128       // unacknowledged records of a partition, at most
	inFlightBytes = 192 << 10 // and about so many bytes of them
)

// inFlight is how many records of a partition are unacknowledged at a time.
func inFlight(bodyMax int) int { return min(inFlightMax, inFlightBytes/bodyMax) }

// publish keeps records of one partition in flight until ctx ends, and enters them in the journal.
func publish(ctx context.Context, c *client.Client, j *journal, partition uint32, bodyMax int) error {
	var sent []*client.Future
	for n := int64(0); ctx.Err() == nil; n++ {
		b := body(partition, n, bodyMax)
		j.published(partition, b)
		sent = append(sent, c.PublishAsync(ctx, topicName, client.Record{Body: b}, client.ToPartition(partition)))
		if len(sent) < inFlight(bodyMax) {
			continue
		}
		ack, err := sent[0].Wait(ctx)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return fmt.Errorf("publish to partition %d: %w", partition, err)
		}
		if err := j.acknowledged(partition, ack.Offset); err != nil {
			return err
		}
		sent = sent[1:]
	}
	return nil
}

// The topic beside the journal: most of it is trimmed soon, so that segments die, thin out and are merged. It has twice
// the journal's bytes in flight, so that about a third of a segment stays readable whatever the bodies of the journal.
const (
	churnName     = "churn"
	churnKeeps    = 512 << 10
	churnInFlight = 8
)

// churn fills segments until ctx ends. What becomes of its records is nobody's concern.
func churn(ctx context.Context, c *client.Client, bodyMax int) {
	b := make([]byte, partitions*inFlight(bodyMax)*(bodyMax+longShare)/churnInFlight)
	var inFlight []*client.Future
	for ctx.Err() == nil {
		inFlight = append(inFlight, c.PublishAsync(ctx, churnName, client.Record{Body: b}))
		if len(inFlight) == churnInFlight {
			_, _ = inFlight[0].Wait(ctx)
			inFlight = inFlight[1:]
		}
	}
}

// One body in so many is longer than the others.
const (
	longOneIn = 64
	longBytes = 64 << 10
	longShare = longBytes / longOneIn // of them in the length of all, about
)

// body is record n of a partition: its number, and up to so many bytes that no other record has. A
// few are longer, as lengths that never change much hide mistakes with lengths.
func body(partition uint32, n int64, bytesMax int) []byte {
	random := rand.New(rand.NewPCG(uint64(partition), uint64(n)))
	bytes := random.IntN(bytesMax)
	if random.IntN(longOneIn) == 0 {
		bytes = random.IntN(longBytes)
	}
	b := fmt.Appendf(make([]byte, 0, bytes+32), "%d/%d ", partition, n)
	for range bytes / 8 {
		b = binary.LittleEndian.AppendUint64(b, random.Uint64())
	}
	return b
}

// verify reads everything that a recovered broker holds.
func verify(ctx context.Context, c *client.Client, e *expectation) error {
	_, created, err := c.Topics().CreateIfMissing(ctx, topicName, client.TopicSpec{Partitions: partitions})
	if err != nil {
		return fmt.Errorf("look for the topic: %w", err)
	}
	if created && e.topic {
		return &LossError{Text: "the topic is lost"}
	}
	err = c.SubscribeFunc(ctx, client.SubscribeOptions{Topics: []string{topicName}, From: client.Earliest(), StopAtEnd: true}, func(m *client.Message) error {
		return e.see(m.Partition, m.Offset, m.Body, m.Publisher, publisherID)
	})
	if err != nil {
		return fmt.Errorf("read what is left: %w", err)
	}
	return e.done()
}

// goOnRecords is the number of records that a recovered broker must take, a partition.
const goOnRecords = 20

// goOn publishes on the recovered broker and reads that back.
func goOn(ctx context.Context, c *client.Client, e *expectation) error {
	for p := range uint32(partitions) {
		from := e.next[p]
		for i := range int64(goOnRecords) {
			c.PublishAsync(ctx, topicName, client.Record{Body: successorBody(from + i)}, client.ToPartition(p))
		}
		if err := c.Flush(ctx); err != nil {
			return fmt.Errorf("publish after the cut: %w", err)
		}
		if err := readOn(ctx, c, p, from); err != nil {
			return err
		}
	}
	return nil
}

func successorBody(n int64) []byte { return fmt.Appendf(nil, "after the cut %d", n) }

// readOn expects what goOn published.
func readOn(ctx context.Context, c *client.Client, partition uint32, from int64) error {
	next := from
	err := c.SubscribeFunc(ctx, client.SubscribeOptions{Topics: []string{topicName}, Partition: &partition, From: client.AtOffset(from), StopAtEnd: true}, func(m *client.Message) error {
		if m.Offset != next || string(m.Body) != string(successorBody(next)) || m.Publisher != identity.ClientID(trustDomain, successorName) {
			return &LossError{Partition: partition, Offset: next, Text: fmt.Sprintf("published after the cut, and read back offset %d: %q by %s", m.Offset, m.Body, m.Publisher)}
		}
		next++
		return nil
	})
	if err != nil {
		return fmt.Errorf("read after the cut: %w", err)
	}
	if next != from+goOnRecords {
		return &LossError{Partition: partition, Offset: next, Lost: from + goOnRecords - next, Text: "records published after the cut are missing"}
	}
	return nil
}
