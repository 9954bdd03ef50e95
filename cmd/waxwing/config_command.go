package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// configFlags are -c and a flag for each setting.
type configFlags struct {
	file  string
	flags *pflag.FlagSet
}

func (f *configFlags) add(c *cobra.Command) {
	f.flags = c.Flags()
	f.flags.StringVarP(&f.file, "config", "c", "", "configuration file, YAML")
	for i := range settings {
		s := &settings[i]
		f.flags.String(s.flag(), "", s.doc)
	}
}

// load reads the configuration that the flags say.
func (f *configFlags) load(env func(string) string) (*config, error) {
	given := map[string]string{}
	for i := range settings {
		s := &settings[i]
		if flag := f.flags.Lookup(s.flag()); flag.Changed {
			given[s.key] = flag.Value.String()
		}
	}
	return loadConfig(f.file, env, given)
}

func newConfigCommand(a *app) *cobra.Command {
	check := &cobra.Command{Use: "check FILE", Short: "Check a configuration file; every fault is named with its line", Args: args(cobra.ExactArgs(1)), RunE: func(_ *cobra.Command, list []string) error {
		c, err := loadConfig(list[0], func(string) string { return "" }, nil)
		if err != nil {
			return err
		}
		if err := a.checkPolicyFile(c); err != nil {
			return err
		}
		a.say("%s: good", list[0])
		return nil
	}}
	var f configFlags
	var origins bool
	show := &cobra.Command{Use: "show", Short: "Show the configuration that serve would use", Args: args(cobra.NoArgs), RunE: func(*cobra.Command, []string) error {
		c, err := f.load(a.env)
		if err != nil {
			return err
		}
		return a.showConfig(c, origins)
	}}
	f.add(show)
	show.Flags().BoolVar(&origins, "origin", false, "show where each value comes from")
	initialise := &cobra.Command{Use: "init", Short: "Print a commented example", Args: args(cobra.NoArgs), RunE: func(*cobra.Command, []string) error {
		_, err := fmt.Fprint(a.stdout, exampleConfig())
		return err
	}}
	return group("config", "Check, show and begin a broker's configuration", check, show, initialise)
}

// checkPolicyFile compiles the policy that a first start would use.
func (a *app) checkPolicyFile(c *config) error {
	if c.PolicyFile == "" {
		return nil
	}
	doc, err := a.readDocument(c.PolicyFile)
	if err != nil {
		return err
	}
	_, err = compile(c.PolicyFile, doc)
	return err
}

// settingJSON is one line of config show.
type settingJSON struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
}

func (a *app) showConfig(c *config, origins bool) error {
	rows := []settingJSON{}
	for i := range settings {
		s := &settings[i]
		rows = append(rows, settingJSON{s.key, s.get(c), c.origins[s.key].String()})
	}
	if len(c.Rules) == 0 {
		rows = append(rows, settingJSON{rulesKey, "", c.origins[rulesKey].String()})
	}
	for i, r := range c.Rules {
		rows = append(rows, settingJSON{fmt.Sprintf("%s[%d]", rulesKey, i), r.From + " " + r.Match, c.ruleOrigins[i].String()})
	}
	return a.show(rows, func() *table {
		t := &table{head: []string{"KEY", "VALUE"}}
		if origins {
			t.head = append(t.head, "ORIGIN")
		}
		for _, r := range rows {
			cells := []string{r.Key, orDash(r.Value)}
			if origins {
				cells = append(cells, r.Origin)
			}
			t.add(cells...)
		}
		return t
	})
}

// exampleConfig is a commented file that sets what must be set and shows every default.
func exampleConfig() string {
	var b strings.Builder
	b.WriteString("# Configuration of a Waxwing broker. Precedence: flag, environment, this file, default.\n# Check it with: waxwing config check FILE\n")
	defaults, section := newConfig(), ""
	for i := range settings {
		s := &settings[i]
		head, name, nested := strings.Cut(s.key, ".")
		indent := ""
		if nested {
			if head != section {
				fmt.Fprintf(&b, "\n%s:\n", head)
			}
			indent = "  "
		} else {
			name = s.key
			b.WriteString("\n")
		}
		section = head
		fmt.Fprintf(&b, "%s# %s (%s)\n", indent, s.doc, s.env())
		switch val := s.get(defaults); {
		case s.required:
			fmt.Fprintf(&b, "%s%s: %s\n", indent, name, s.example)
		case val == "":
			fmt.Fprintf(&b, "%s# %s: %s\n", indent, name, s.example)
		default:
			fmt.Fprintf(&b, "%s# %s: %s\n", indent, name, val)
		}
	}
	b.WriteString(exampleRules)
	return b.String()
}

// exampleRules is the part of the example that is a list.
const exampleRules = `
# Certificates without a URI SAN, in order; exactly one name must match. The principal is then dns:NAME and so on.
# identity:
#   rules:
#     - {from: dns, match: "*.clients.example.org"}
`
