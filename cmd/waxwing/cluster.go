package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/waxwing-mq/waxwing/client"
)

func newClusterCommand(a *app) *cobra.Command {
	return group("cluster", "Look at the nodes of a cluster, add and remove them", newClusterStatus(a), newClusterMembers(a), newClusterJoin(a), newClusterRemove(a), newClusterTransfer(a), newClusterRecover(a))
}

// memberJSON is a node as -o json prints it. Figures of a node that does not answer are null.
type memberJSON struct {
	ID        string  `json:"id"`
	Role      string  `json:"role"` // leader, follower or learner
	Voter     bool    `json:"voter"`
	Peer      string  `json:"peer"`
	Client    string  `json:"client"`
	Disk      string  `json:"disk"`
	Changed   string  `json:"changed"`
	Fault     string  `json:"fault"` // why there are no figures
	Leader    *string `json:"leader"`
	Term      *uint64 `json:"term"`
	Applied   *uint64 `json:"applied"`
	Last      *uint64 `json:"last"`
	Lag       *uint64 `json:"lag"`
	Contact   *int64  `json:"last_contact_ms"` // null also if there was none
	Version   *string `json:"version"`
	PID       *int    `json:"pid"`
	CertUntil *string `json:"cert_not_after"`
	DiskFree  *uint64 `json:"disk_free_bytes"`
	DiskTotal *uint64 `json:"disk_total_bytes"`
}

func memberOf(m *client.MemberInfo) memberJSON {
	j := memberJSON{ID: m.ID, Role: string(m.Role), Voter: m.Voter, Peer: m.Peer, Client: m.Client, Disk: m.Disk, Changed: stamp(m.Changed), Fault: m.Fault}
	if m.Fault != "" {
		return j
	}
	j.Leader, j.Term, j.Applied, j.Last, j.Lag = &m.Leader, &m.Term, &m.Applied, &m.Last, &m.Lag
	j.Version, j.PID, j.CertUntil, j.DiskFree, j.DiskTotal = &m.Version, &m.PID, new(stamp(m.CertUntil)), &m.DiskFree, &m.DiskTotal
	if m.Contact >= 0 {
		j.Contact = new(m.Contact.Milliseconds())
	}
	return j
}

type removedJSON struct {
	ID      string `json:"id"`
	Removed string `json:"removed"` // log time
}

// clusterJSON is a cluster as -o json prints it.
type clusterJSON struct {
	Cluster string        `json:"cluster"`
	Node    string        `json:"node"`   // that was asked
	Leader  string        `json:"leader"` // "" = it knows of none
	Members []memberJSON  `json:"members"`
	Removed []removedJSON `json:"removed"`
}

func clusterOf(info *client.ClusterInfo) clusterJSON {
	j := clusterJSON{Cluster: info.ID, Node: info.Node, Leader: info.Leader, Members: []memberJSON{}, Removed: []removedJSON{}}
	for i := range info.Members {
		m := &info.Members[i]
		if m.Role == client.MemberRemoved {
			j.Removed = append(j.Removed, removedJSON{m.ID, stamp(m.Changed)})
			continue
		}
		j.Members = append(j.Members, memberOf(m))
	}
	return j
}

// figure is a number in a table.
func figure[T any](v *T) string {
	if v == nil {
		return "-"
	}
	return orDash(fmt.Sprint(*v))
}

func (c *clusterJSON) status() *table {
	t := &table{head: []string{"NODE", "ROLE", "TERM", "APPLIED", "LAG", "CONTACT_MS", "VERSION", "PID", "CERT_UNTIL", "DISK_FREE", "FAULT"}}
	for _, m := range c.Members {
		t.add(m.ID, m.Role, figure(m.Term), figure(m.Applied), figure(m.Lag), figure(m.Contact), figure(m.Version), figure(m.PID), figure(m.CertUntil), figure(m.DiskFree), orDash(m.Fault))
	}
	return t
}

func (c *clusterJSON) members() *table {
	t := &table{head: []string{"NODE", "ROLE", "VOTER", "PEER", "CLIENT", "DISK", "CHANGED"}}
	for _, m := range c.Members {
		t.add(m.ID, m.Role, strconv.FormatBool(m.Voter), orDash(m.Peer), orDash(m.Client), orDash(m.Disk), m.Changed)
	}
	for _, r := range c.Removed {
		t.add(r.ID, string(client.MemberRemoved), "false", "-", "-", "-", r.Removed)
	}
	return t
}

func newClusterStatus(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show how each node is doing: role, term, how far it has applied the log, contact to the leader, certificate, disk",
		Long: `Show how each node is doing, as any node knows it; it asks the others, for 2 s at most. A node that does not answer is shown
without figures. Exit code 7: the node that was asked knows of no leader. What it knows is shown all the same.`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return a.cluster(c.Context(), (*clusterJSON).status) },
	}
}

func newClusterMembers(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "members",
		Short: "List the nodes: who votes, addresses, disks, and which ids were removed",
		Args:  args(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return a.cluster(c.Context(), (*clusterJSON).members) },
	}
}

// cluster shows the nodes, also while there is no leader.
func (a *app) cluster(ctx context.Context, tabulate func(*clusterJSON) *table) error {
	return a.withOptions(ctx, func(o *client.Options) { o.WithoutQuorum = true }, func(ctx context.Context, c *client.Client) error {
		info, err := c.Cluster().Status(ctx)
		if err != nil {
			return err
		}
		j := clusterOf(&info)
		if err := a.show(&j, func() *table { return tabulate(&j) }); err != nil {
			return err
		}
		if info.Leader == "" {
			return &exitError{exitNoQuorum, fmt.Errorf("no quorum: node %s hears of no leader; look at the nodes that do not answer", info.Node)}
		}
		return nil
	})
}

func newClusterJoin(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "join NODE@HOST:PORT",
		Short: "Let a node into the cluster, or note that a member has moved to another address",
		Long: `Let a node into the cluster: the members take its links from then on, the leader sends it everything, and gives it a vote
once it was, for 3 s, at most 1,000 entries behind. Start it with cluster.join naming itself and a member, and with
cluster.bootstrap_expect 0, before or after this.

HOST:PORT is its peer port, as the others reach it. With the id of a member and another address the member has moved: start it there
with its data folder. A repeat changes nothing.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, list []string) error {
			n, err := parseNode(list[0])
			if err != nil {
				return usage("cluster join: %w", err)
			}
			return a.with(c.Context(), func(ctx context.Context, c *client.Client) error {
				if err := c.Cluster().Join(ctx, n.ID, n.Address); err != nil {
					return err
				}
				a.say("node %s may join at %s; see: waxwing cluster status", n.ID, n.Address)
				return nil
			})
		},
	}
}

func newClusterRemove(a *app) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "remove NODE",
		Short: "Take a node out of the cluster for ever",
		Long: `Take a node out of the cluster for ever: the others refuse it, and its id can never be used again. It ends itself with exit code
76 if it runs. What was acknowledged is on the others. A leader hands over first.

Refused if of the voters that would be left fewer than a majority are in contact with the leader: the cluster would stop. --force
removes the node all the same; the cluster goes on, with nothing lost, when enough of the others are back. The last one in contact
cannot be removed.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, list []string) error {
			if err := a.confirm(fmt.Sprintf("remove node %s for ever", list[0])); err != nil {
				return err
			}
			return a.with(c.Context(), func(ctx context.Context, c *client.Client) error {
				if err := c.Cluster().Remove(ctx, list[0], force); err != nil {
					return err
				}
				a.say("node %s is removed; its id cannot be used again", list[0])
				return nil
			})
		},
	}
	c.Flags().BoolVar(&force, "force", false, "also if the cluster then stops until others are back")
	return c
}

func newClusterTransfer(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "transfer-leader [NODE]",
		Short: "Make another node lead: the one named, or the one that has most of the log",
		Args:  args(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, list []string) error {
			node := ""
			if len(list) > 0 {
				node = list[0]
			}
			return a.with(c.Context(), func(ctx context.Context, c *client.Client) error {
				err := c.Cluster().TransferLeader(ctx, node)
				if _, unknown := errors.AsType[*client.UnknownOutcomeError](err); unknown {
					return fmt.Errorf("%w; see who leads: waxwing cluster status", err)
				}
				return err
			})
		},
	}
}
