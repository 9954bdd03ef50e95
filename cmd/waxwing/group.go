package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/waxwing-mq/waxwing/client"
)

// groupFlags are the settings of a group on the command line.
type groupFlags struct {
	topics      []string
	from        string
	ackWait     time.Duration
	maxDeliver  uint64
	backoff     []string
	maxInFlight uint64
}

func newGroupCommand(a *app) *cobra.Command {
	return group("group", "Create, list, show, pause and remove consumer groups",
		newGroupCreate(a), newGroupList(a), newGroupShow(a), newGroupRemove(a), newGroupPause(a, "pause", true), newGroupPause(a, "resume", false))
}

func newGroupCreate(a *app) *cobra.Command {
	var f groupFlags
	c := &cobra.Command{Use: "create GROUP --topic PATTERN... | create TOPIC GROUP", Short: "Make sure that a group exists", Args: args(cobra.RangeArgs(1, 2)),
		Long: `Make sure that a consumer group exists. One with the same settings is fine, one with others is an error.

--from says where it begins in the partitions that there are: earliest (default), latest, an OFFSET (one partition), -1h, or a time. What
is born later is consumed from its first record.`,
		RunE: func(cmd *cobra.Command, list []string) error {
			name := list[len(list)-1]
			if len(list) == 2 {
				f.topics = append(f.topics, list[0])
			}
			spec, err := f.spec()
			if err != nil {
				return err
			}
			from, err := parseFrom(f.from, time.Now())
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				info, created, err := c.Groups().Create(ctx, name, spec, from)
				if err != nil {
					return err
				}
				if !created {
					a.say("group %s was there already", info.Name)
				}
				return a.showGroup(&info)
			})
		}}
	p := c.Flags()
	p.StringArrayVar(&f.topics, "topic", nil, "topic or pattern that the group consumes; may be given more than once")
	p.StringVar(&f.from, "from", "earliest", "where to begin")
	p.DurationVar(&f.ackWait, "ack-wait", 30*time.Second, "how long a member may hold a record")
	p.Uint64Var(&f.maxDeliver, "max-deliver", 0, "deliveries before a record is put aside (default: no end)")
	p.StringSliceVar(&f.backoff, "backoff", nil, "delays before further deliveries, such as 1s,5s,30s; the last one stays (default: none)")
	p.Uint64Var(&f.maxInFlight, "max-in-flight", 0, "records that all members together hold (default: no limit)")
	return c
}

func (f *groupFlags) spec() (client.GroupSpec, error) {
	s := client.GroupSpec{Topics: f.topics, AckWait: f.ackWait, MaxDeliver: f.maxDeliver, MaxInFlight: f.maxInFlight}
	if len(s.Topics) == 0 {
		return s, usage("group create: name at least one topic with --topic")
	}
	if f.ackWait < time.Millisecond {
		return s, usage("--ack-wait %v: give a duration from 1ms", f.ackWait)
	}
	for _, text := range f.backoff {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return s, usage("--backoff %q: give durations such as 1s,5s,30s", text)
		}
		s.Backoff = append(s.Backoff, d)
	}
	return s, nil
}

func newGroupList(a *app) *cobra.Command {
	return &cobra.Command{Use: "ls", Short: "List the groups that you may consume", Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		return a.with(cmd.Context(), func(ctx context.Context, c *client.Client) error {
			groups := []*groupJSON{}
			for info, err := range c.Groups().List(ctx) {
				if err != nil {
					return err
				}
				groups = append(groups, groupOf(&info))
			}
			return a.show(groups, func() *table {
				t := &table{head: []string{"NAME", "TOPICS", "ACK WAIT", "PAUSED"}}
				for _, g := range groups {
					t.add(g.Name, strings.Join(g.Topics, " "), g.AckWait, strconv.FormatBool(g.Paused))
				}
				return t
			})
		})
	}}
}

func newGroupShow(a *app) *cobra.Command {
	return &cobra.Command{Use: "show GROUP", Short: "Show a group and its positions", Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, list []string) error {
		return a.with(cmd.Context(), func(ctx context.Context, c *client.Client) error {
			info, err := c.Groups().Get(ctx, list[0])
			if err != nil {
				return err
			}
			return a.showGroup(&info)
		})
	}}
}

func newGroupRemove(a *app) *cobra.Command {
	return &cobra.Command{Use: "rm GROUP", Short: "Remove a group and what it knows", Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, list []string) error {
		if err := a.confirm("Remove group " + list[0] + " and all its positions?"); err != nil {
			return err
		}
		return a.with(cmd.Context(), func(ctx context.Context, c *client.Client) error { return c.Groups().Delete(ctx, list[0]) })
	}}
}

func newGroupPause(a *app, word string, paused bool) *cobra.Command {
	short := "Deliver nothing to a group's members"
	if !paused {
		short = "Let deliveries of a paused group go on"
	}
	return &cobra.Command{Use: word + " GROUP", Short: short, Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, list []string) error {
		return a.with(cmd.Context(), func(ctx context.Context, c *client.Client) error {
			_, err := c.Groups().Pause(ctx, list[0], paused)
			return err
		})
	}}
}

// groupJSON is a group as -o json prints it.
type groupJSON struct {
	Name        string         `json:"name"`
	Topics      []string       `json:"topics"`
	AckWait     string         `json:"ack_wait"`
	MaxDeliver  uint64         `json:"max_deliver,omitempty"`
	Backoff     []string       `json:"backoff,omitempty"`
	MaxInFlight uint64         `json:"max_in_flight,omitempty"`
	Paused      bool           `json:"paused"`
	CreatedBy   string         `json:"created_by"`
	Positions   []positionJSON `json:"positions,omitempty"`
}

type positionJSON struct {
	Topic     string `json:"topic"`
	Partition uint32 `json:"partition"`
	Floor     int64  `json:"floor"`
	End       int64  `json:"end"`
	Pending   uint64 `json:"pending"`
	Retries   uint64 `json:"retries"`
	Aside     uint64 `json:"aside"`
	Lost      uint64 `json:"lost"`
}

func groupOf(i *client.GroupInfo) *groupJSON {
	g := &groupJSON{Name: i.Name, Topics: i.Spec.Topics, AckWait: i.Spec.AckWait.String(), MaxDeliver: i.Spec.MaxDeliver, MaxInFlight: i.Spec.MaxInFlight, Paused: i.Paused, CreatedBy: i.CreatedBy}
	for _, d := range i.Spec.Backoff {
		g.Backoff = append(g.Backoff, d.String())
	}
	for _, p := range i.Positions {
		g.Positions = append(g.Positions, positionJSON(p))
	}
	return g
}

func (a *app) showGroup(i *client.GroupInfo) error {
	g := groupOf(i)
	return a.show(g, func() *table {
		t := &table{head: []string{"TOPIC", "PARTITION", "FLOOR", "END", "PENDING", "RETRIES", "ASIDE", "LOST"}}
		for _, p := range g.Positions {
			t.add(p.Topic, strconv.FormatUint(uint64(p.Partition), 10), strconv.FormatInt(p.Floor, 10), strconv.FormatInt(p.End, 10),
				strconv.FormatUint(p.Pending, 10), strconv.FormatUint(p.Retries, 10), strconv.FormatUint(p.Aside, 10), strconv.FormatUint(p.Lost, 10))
		}
		return t
	})
}
