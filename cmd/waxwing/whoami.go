package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/waxwing-mq/waxwing/client"
)

func newWhoAmICommand(a *app) *cobra.Command {
	return &cobra.Command{Use: "whoami", Short: "Show who you are to the broker, and what you may do", Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(c.Context(), func(ctx context.Context, c *client.Client) error {
				id, err := c.WhoAmI(ctx)
				if err != nil {
					return err
				}
				return a.show(identityJSON(&id), func() *table { return identityTable(&id) })
			})
		}}
}

// rightJSON is one line of what the caller may do.
type rightJSON struct {
	Allow   bool   `json:"allow"`
	Verb    string `json:"verb"`
	Pattern string `json:"pattern,omitempty"`
	Rule    string `json:"rule"`
	Line    uint64 `json:"line"`
}

// whoJSON is what whoami prints with -o json.
type whoJSON struct {
	Identity      string      `json:"identity"`
	Serial        string      `json:"serial"`
	Issuer        string      `json:"issuer"`
	SPKI          string      `json:"spki_sha256"`
	NotAfter      string      `json:"not_after"`
	TLSVersion    string      `json:"tls_version"`
	Cipher        string      `json:"cipher"`
	Group         string      `json:"group"`
	PostQuantum   bool        `json:"post_quantum"`
	Resumed       bool        `json:"resumed"`
	PolicyVersion uint64      `json:"policy_version"`
	Node          string      `json:"node"`
	RemoteAddr    string      `json:"remote_addr"`
	Rights        []rightJSON `json:"rights"`
}

func identityJSON(id *client.Identity) *whoJSON {
	w := &whoJSON{Identity: id.Principal, Serial: id.Serial, Issuer: id.Issuer, SPKI: id.SPKI, NotAfter: stamp(id.NotAfter), TLSVersion: id.TLSVersion, Cipher: id.Cipher,
		Group: id.Group, PostQuantum: id.PostQuantum, Resumed: id.Resumed, PolicyVersion: id.PolicyVersion, Node: id.Node, RemoteAddr: id.RemoteAddr, Rights: []rightJSON{}}
	for _, r := range id.Rights {
		w.Rights = append(w.Rights, rightJSON(r))
	}
	return w
}

func identityTable(id *client.Identity) *table {
	t := &table{}
	t.add("identity", id.Principal)
	t.add("serial", id.Serial)
	t.add("issuer", id.Issuer)
	t.add("spki_sha256", id.SPKI)
	t.add("not_after", stamp(id.NotAfter))
	t.add("tls_version", id.TLSVersion)
	t.add("cipher", id.Cipher)
	t.add("group", id.Group)
	t.add("post_quantum", yesNo(id.PostQuantum))
	t.add("resumed", yesNo(id.Resumed))
	t.add("policy_version", strconv.FormatUint(id.PolicyVersion, 10))
	t.add("node", id.Node)
	t.add("remote_addr", id.RemoteAddr)
	for _, r := range id.Rights {
		word := "may"
		if !r.Allow {
			word = "may not"
		}
		t.add(word, strings.TrimSpace(r.Verb+" "+r.Pattern)+" ("+r.Rule+", line "+strconv.FormatUint(r.Line, 10)+")")
	}
	return t
}
