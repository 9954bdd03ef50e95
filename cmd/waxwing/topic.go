package main

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/waxwing-mq/waxwing/client"
)

// topicFlags are the settings of a topic on the command line.
type topicFlags struct {
	partitions  uint32
	maxAge      string
	maxBytes    string
	maxRecords  uint64
	ifNotExists bool
}

func (f *topicFlags) add(c *cobra.Command) {
	p := c.Flags()
	p.Uint32Var(&f.partitions, "partitions", 0, "number of partitions (default 1); may grow, never shrink")
	p.StringVar(&f.maxAge, "max-age", "", "how long records are kept, such as 90m, 168h or 7d")
	p.StringVar(&f.maxBytes, "max-bytes", "", "how many bytes are kept, such as 512MiB or 10GiB")
	p.Uint64Var(&f.maxRecords, "max-records", 0, "how many records are kept")
}

// change collects the flags that were given.
func (f *topicFlags) change(c *cobra.Command) (client.TopicChange, error) {
	var ch client.TopicChange
	given := c.Flags().Changed
	if given("partitions") {
		ch.Partitions = &f.partitions
	}
	if given("max-age") {
		d, err := parseAge(f.maxAge)
		if err != nil {
			return ch, usage("--max-age: %w", err)
		}
		ch.MaxAge = &d
	}
	if given("max-bytes") {
		n, err := parseSize(f.maxBytes)
		if err != nil {
			return ch, usage("--max-bytes: %w", err)
		}
		ch.MaxBytes = &n
	}
	if given("max-records") {
		ch.MaxRecords = &f.maxRecords
	}
	return ch, nil
}

// spec is the same for a new topic.
func (f *topicFlags) spec(c *cobra.Command) (client.TopicSpec, error) {
	ch, err := f.change(c)
	if err != nil {
		return client.TopicSpec{}, err
	}
	s := client.TopicSpec{Partitions: f.partitions, MaxRecords: f.maxRecords}
	if ch.MaxAge != nil {
		s.MaxAge = *ch.MaxAge
	}
	if ch.MaxBytes != nil {
		s.MaxBytes = *ch.MaxBytes
	}
	return s, nil
}

func newTopicCommand(a *app) *cobra.Command {
	return group("topic", "Create, list, show, change and remove topics",
		newTopicCreate(a), newTopicList(a), newTopicShow(a), newTopicAlter(a), newTopicRemove(a), newTopicPeek(a))
}

func newTopicCreate(a *app) *cobra.Command {
	var f topicFlags
	c := &cobra.Command{Use: "create NAME", Short: "Create a topic", Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, list []string) error {
		spec, err := f.spec(cmd)
		if err != nil {
			return err
		}
		return a.with(cmd.Context(), func(ctx context.Context, c *client.Client) error {
			if f.ifNotExists {
				info, created, err := c.Topics().CreateIfMissing(ctx, list[0], spec)
				if err != nil {
					return err
				}
				if !created {
					a.say("topic %s was there already", info.Name)
				}
				return a.showTopic(&info)
			}
			info, err := c.Topics().Create(ctx, list[0], spec)
			if err != nil {
				return err
			}
			return a.showTopic(&info)
		})
	}}
	f.add(c)
	c.Flags().BoolVar(&f.ifNotExists, "if-not-exists", false, "an existing topic is fine, whatever its settings")
	return c
}

// linearizableFlag adds --linearizable to a command that reads.
func linearizableFlag(c *cobra.Command, to *bool) {
	c.Flags().BoolVar(to, "linearizable", false, "show everything that was acknowledged before, whichever node answers; without a majority: exit code 7")
}

// topicsAs is the part of the client for topics, which reads as --linearizable says.
func topicsAs(c *client.Client, linearizable bool) *client.Topics {
	if linearizable {
		return c.Topics().Linearizable()
	}
	return c.Topics()
}

func newTopicList(a *app) *cobra.Command {
	var linearizable bool
	c := &cobra.Command{Use: "ls [PATTERN]", Short: "List the topics that you may use", Args: args(cobra.MaximumNArgs(1)), RunE: func(cmd *cobra.Command, list []string) error {
		pattern := ">"
		if len(list) == 1 {
			pattern = list[0]
		}
		return a.with(cmd.Context(), func(ctx context.Context, c *client.Client) error {
			topics := []*topicJSON{}
			for info, err := range topicsAs(c, linearizable).List(ctx, pattern) {
				if err != nil {
					return err
				}
				topics = append(topics, topicOf(&info))
			}
			return a.show(topics, func() *table {
				t := &table{head: []string{"NAME", "PARTITIONS", "RECORDS", "MAX AGE", "MAX BYTES", "MAX RECORDS"}}
				for _, i := range topics {
					t.add(i.Name, strconv.Itoa(len(i.Partitions)), strconv.FormatInt(i.Records, 10), orNone(i.MaxAge), orNoneInt(i.MaxBytes), orNoneInt(i.MaxRecords))
				}
				return t
			})
		})
	}}
	linearizableFlag(c, &linearizable)
	return c
}

func newTopicShow(a *app) *cobra.Command {
	var linearizable bool
	c := &cobra.Command{Use: "show NAME", Short: "Show one topic", Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, list []string) error {
		return a.with(cmd.Context(), func(ctx context.Context, c *client.Client) error {
			info, err := topicsAs(c, linearizable).Get(ctx, list[0])
			if err != nil {
				return err
			}
			return a.showTopic(&info)
		})
	}}
	linearizableFlag(c, &linearizable)
	return c
}

func newTopicAlter(a *app) *cobra.Command {
	var f topicFlags
	c := &cobra.Command{Use: "alter NAME", Short: "Change settings of a topic", Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, list []string) error {
		change, err := f.change(cmd)
		if err != nil {
			return err
		}
		if change == (client.TopicChange{}) {
			return usage("topic alter: nothing to change; give --partitions, --max-age, --max-bytes or --max-records")
		}
		return a.with(cmd.Context(), func(ctx context.Context, c *client.Client) error {
			info, err := c.Topics().Alter(ctx, list[0], change)
			if err != nil {
				return err
			}
			if change.Partitions != nil {
				a.say("note: with another number of partitions, keys go to other partitions than before")
			}
			return a.showTopic(&info)
		})
	}}
	f.add(c)
	return c
}

func newTopicRemove(a *app) *cobra.Command {
	return &cobra.Command{Use: "rm NAME", Short: "Remove a topic and its records", Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, list []string) error {
		if err := a.confirm("Remove topic " + list[0] + " and all its records?"); err != nil {
			return err
		}
		return a.with(cmd.Context(), func(ctx context.Context, c *client.Client) error { return c.Topics().Delete(ctx, list[0]) })
	}}
}

func newTopicPeek(a *app) *cobra.Command {
	var n int
	var from string
	c := &cobra.Command{Use: "peek NAME", Short: "Look at records without taking anything away", Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, list []string) error {
		o := subOptions{topics: list, from: from, count: n, stopAtEnd: true, headers: true}
		return a.subscribe(cmd.Context(), &o)
	}}
	c.Flags().IntVarP(&n, "count", "n", 10, "how many records at most")
	c.Flags().StringVar(&from, "from", "earliest", "where to begin, as in waxwing sub")
	return c
}

// topicJSON is a topic as -o json prints it.
type topicJSON struct {
	Name        string          `json:"name"`
	Incarnation uint64          `json:"incarnation"`
	Created     string          `json:"created"`
	CreatedBy   string          `json:"created_by"`
	MaxAge      string          `json:"max_age"` // "" = unlimited
	MaxAgeMs    int64           `json:"max_age_ms"`
	MaxBytes    uint64          `json:"max_bytes"`
	MaxRecords  uint64          `json:"max_records"`
	Records     int64           `json:"records"`
	Partitions  []partitionJSON `json:"partitions"`
}

type partitionJSON struct {
	Partition int    `json:"partition"`
	ID        uint64 `json:"id"`
	Low       int64  `json:"low"`
	Next      int64  `json:"next"`
}

func topicOf(i *client.TopicInfo) *topicJSON {
	t := &topicJSON{Name: i.Name, Incarnation: i.Incarnation, Created: stamp(i.Created), CreatedBy: i.CreatedBy,
		MaxAgeMs: i.Spec.MaxAge.Milliseconds(), MaxBytes: i.Spec.MaxBytes, MaxRecords: i.Spec.MaxRecords, Partitions: []partitionJSON{}}
	if i.Spec.MaxAge > 0 {
		t.MaxAge = i.Spec.MaxAge.Round(time.Millisecond).String()
	}
	for n, p := range i.Partitions {
		t.Partitions = append(t.Partitions, partitionJSON{n, p.ID, p.Low, p.Next})
		t.Records += p.Next - p.Low
	}
	return t
}

func (a *app) showTopic(i *client.TopicInfo) error {
	j := topicOf(i)
	return a.show(j, func() *table {
		t := &table{}
		t.add("name", j.Name)
		t.add("incarnation", strconv.FormatUint(j.Incarnation, 10))
		t.add("created", j.Created+" by "+j.CreatedBy)
		t.add("max_age", orNone(j.MaxAge))
		t.add("max_bytes", orNoneInt(j.MaxBytes))
		t.add("max_records", orNoneInt(j.MaxRecords))
		for _, p := range j.Partitions {
			t.add("partition "+strconv.Itoa(p.Partition), "offsets "+strconv.FormatInt(p.Low, 10)+" to "+strconv.FormatInt(p.Next, 10))
		}
		return t
	})
}

func orNone(s string) string {
	if s == "" {
		return "unlimited"
	}
	return s
}

func orNoneInt(n uint64) string {
	if n == 0 {
		return "unlimited"
	}
	return strconv.FormatUint(n, 10)
}
