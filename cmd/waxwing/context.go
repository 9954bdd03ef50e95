package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/waxwing-mq/waxwing/identity/ca"
)

// contextEntry is one named way to reach brokers.
type contextEntry struct {
	Servers    []string `json:"servers"`
	Cert       string   `json:"cert"`
	Key        string   `json:"key"`
	CA         string   `json:"ca"`
	ServerName string   `json:"server_name,omitempty"`
}

// contexts is the file: which contexts there are, and which is used.
type contexts struct {
	Version int                     `json:"version"`
	Current string                  `json:"current"`
	Named   map[string]contextEntry `json:"contexts"`
}

const contextsVersion = 1

// contextsFile is contexts.json in the user's config folder, or in $WAXWING_CONFIG_DIR.
func (a *app) contextsFile() (string, error) {
	if dir := a.env("WAXWING_CONFIG_DIR"); dir != "" {
		return filepath.Join(dir, "contexts.json"), nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the folder of contexts: %w; set WAXWING_CONFIG_DIR", err)
	}
	return filepath.Join(dir, "waxwing", "contexts.json"), nil
}

// loadContexts reads the file; none is no contexts.
func (a *app) loadContexts() (*contexts, error) {
	name, err := a.contextsFile()
	if err != nil {
		return nil, err
	}
	c := &contexts{Version: contextsVersion, Named: map[string]contextEntry{}}
	text, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read contexts: %w", err)
	}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, usage("%s: %w; mend or remove the file", name, err)
	}
	if c.Version != contextsVersion {
		return nil, usage("%s: format version %d, this program knows %d", name, c.Version, contextsVersion)
	}
	if c.Named == nil {
		c.Named = map[string]contextEntry{}
	}
	return c, nil
}

// saveContexts writes the file whole or not at all, readable only by its owner.
func (a *app) saveContexts(c *contexts) error {
	name, err := a.contextsFile()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("save contexts: %w", err)
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := ca.WriteFile(name, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("save contexts: %w", err)
	}
	return nil
}

// saveContext adds or replaces one context and selects it.
func (a *app) saveContext(name string, e contextEntry) error {
	c, err := a.loadContexts()
	if err != nil {
		return err
	}
	c.Named[name], c.Current = e, name
	return a.saveContexts(c)
}

func newContextCommand(a *app) *cobra.Command {
	add := &cobra.Command{Use: "add NAME", Short: "Add or replace a context and use it: give -s, --cert, --key and --ca", Args: args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, list []string) error { return a.contextAdd(list[0]) }}
	ls := &cobra.Command{Use: "ls", Short: "List the contexts", Args: args(cobra.NoArgs), RunE: func(*cobra.Command, []string) error { return a.contextList() }}
	use := &cobra.Command{Use: "use NAME", Short: "Use a context from now on", Args: args(cobra.ExactArgs(1)), ValidArgsFunction: a.completeContexts,
		RunE: func(_ *cobra.Command, list []string) error { return a.contextUse(list[0]) }}
	show := &cobra.Command{Use: "show [NAME]", Short: "Show what a command would use, and where each value comes from", Args: args(cobra.MaximumNArgs(1)), ValidArgsFunction: a.completeContexts,
		RunE: func(_ *cobra.Command, list []string) error {
			if len(list) == 1 {
				a.flags.context = list[0]
			}
			return a.contextShow()
		}}
	rm := &cobra.Command{Use: "rm NAME", Short: "Remove a context", Args: args(cobra.ExactArgs(1)), ValidArgsFunction: a.completeContexts,
		RunE: func(_ *cobra.Command, list []string) error { return a.contextRemove(list[0]) }}
	return group("context", "Named ways to reach brokers", add, ls, use, show, rm)
}

func (a *app) completeContexts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	c, err := a.loadContexts()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return slices.Sorted(maps.Keys(c.Named)), cobra.ShellCompDirectiveNoFileComp
}

func (a *app) contextAdd(name string) error {
	f := &a.flags
	if len(f.servers) == 0 || f.cert == "" || f.key == "" || f.ca == "" {
		return usage("context add: give all of -s, --cert, --key and --ca")
	}
	e := contextEntry{Servers: f.servers, ServerName: f.serverName}
	for _, file := range []struct {
		from string
		to   *string
	}{{f.cert, &e.Cert}, {f.key, &e.Key}, {f.ca, &e.CA}} {
		path, err := filepath.Abs(file.from)
		if err != nil {
			return err
		}
		if _, err := os.Stat(path); err != nil {
			return usage("context add: %w", err)
		}
		*file.to = path
	}
	return a.saveContext(name, e)
}

func (a *app) contextList() error {
	c, err := a.loadContexts()
	if err != nil {
		return err
	}
	type row struct {
		Name    string `json:"name"`
		Current bool   `json:"current"`
		contextEntry
	}
	rows := []row{}
	for _, name := range slices.Sorted(maps.Keys(c.Named)) {
		rows = append(rows, row{name, name == c.Current, c.Named[name]})
	}
	return a.show(rows, func() *table {
		t := &table{head: []string{"CURRENT", "NAME", "SERVERS", "CERT"}}
		for _, r := range rows {
			mark := ""
			if r.Current {
				mark = "*"
			}
			t.add(mark, r.Name, strings.Join(r.Servers, ","), r.Cert)
		}
		return t
	})
}

// pick returns a context that must exist.
func (c *contexts) pick(name string) (contextEntry, error) {
	e, ok := c.Named[name]
	if !ok {
		return e, &exitError{exitNotFound, fmt.Errorf("there is no context %q; see: waxwing context ls", name)}
	}
	return e, nil
}

func (a *app) contextUse(name string) error {
	c, err := a.loadContexts()
	if err != nil {
		return err
	}
	if _, err := c.pick(name); err != nil {
		return err
	}
	c.Current = name
	return a.saveContexts(c)
}

func (a *app) contextRemove(name string) error {
	c, err := a.loadContexts()
	if err != nil {
		return err
	}
	if _, err := c.pick(name); err != nil {
		return err
	}
	delete(c.Named, name)
	if c.Current == name {
		c.Current = ""
	}
	return a.saveContexts(c)
}

// value is a setting and where it comes from.
type value struct {
	Value  string `json:"value"`
	Origin string `json:"origin"`
}

// reach is how a command reaches brokers, with origins.
type reach struct {
	Context    string `json:"context"`
	Servers    value  `json:"servers"`
	Cert       value  `json:"cert"`
	Key        value  `json:"key"`
	CA         value  `json:"ca"`
	ServerName value  `json:"server_name"`
}

// reach resolves flags over environment over context.
func (a *app) reach() (*reach, error) {
	c, err := a.loadContexts()
	if err != nil {
		return nil, err
	}
	name := cmp.Or(a.flags.context, a.env("WAXWING_CONTEXT"), c.Current)
	var e contextEntry
	if name != "" {
		if e, err = c.pick(name); err != nil {
			return nil, err
		}
	}
	f := &a.flags
	resolve := func(flag, flagName, env, fromContext string) value {
		switch {
		case flag != "":
			return value{flag, "flag " + flagName}
		case a.env(env) != "":
			return value{a.env(env), "environment " + env}
		case fromContext != "":
			return value{fromContext, "context " + name}
		}
		return value{}
	}
	return &reach{
		Context:    name,
		Servers:    resolve(strings.Join(f.servers, ","), "--server", "WAXWING_SERVER", strings.Join(e.Servers, ",")),
		Cert:       resolve(f.cert, "--cert", "WAXWING_CERT", e.Cert),
		Key:        resolve(f.key, "--key", "WAXWING_KEY", e.Key),
		CA:         resolve(f.ca, "--ca", "WAXWING_CA", e.CA),
		ServerName: resolve(f.serverName, "--server-name", "WAXWING_SERVER_NAME", e.ServerName),
	}, nil
}

func (a *app) contextShow() error {
	r, err := a.reach()
	if err != nil {
		return err
	}
	return a.show(r, func() *table {
		t := &table{head: []string{"SETTING", "VALUE", "ORIGIN"}}
		for _, row := range []struct {
			name string
			v    value
		}{{"servers", r.Servers}, {"cert", r.Cert}, {"key", r.Key}, {"ca", r.CA}, {"server_name", r.ServerName}} {
			t.add(row.name, orDash(row.v.Value), orDash(row.v.Origin))
		}
		return t
	})
}
