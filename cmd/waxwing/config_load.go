package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/waxwing-mq/waxwing/identity"
)

// configBytesMax bounds a configuration file.
const configBytesMax = 1 << 20

// loadConfig lays file, environment and flags over the defaults, in this order, and reports every
// fault at once. given holds the flags that were set, by key.
func loadConfig(file string, env func(string) string, given map[string]string) (*config, error) {
	c := newConfig()
	r := &configReader{c: c, file: file, seen: map[string]int{}, misread: map[string]bool{}}
	if file != "" {
		docs, err := readYAML(file)
		if err != nil { // what would be said about the rest would be guesses
			return nil, usage("%w", err)
		}
		r.section("", docs[0].Content[0])
		if len(docs) > 1 {
			r.fault(&docs[1], "a second YAML document begins here; a configuration is one")
		}
	}
	errs := r.errs
	for i := range settings {
		s := &settings[i]
		if text := env(s.env()); text != "" {
			errs = append(errs, s.set(c, text, origin{text: "environment " + s.env()}))
		}
		if text, ok := given[s.key]; ok {
			errs = append(errs, s.set(c, text, origin{text: "flag --" + s.flag()}))
		}
	}
	errs = slices.DeleteFunc(append(errs, c.check(r.misread)...), func(err error) bool { return err == nil })
	if len(errs) == 0 {
		return c, nil
	}
	inOrder(errs)
	return nil, usage("the configuration has %s:\n%w", count(len(errs), "fault"), errors.Join(errs...))
}

// readYAML reads the documents of a file, at least one that is not empty.
func readYAML(file string) ([]yaml.Node, error) {
	text, err := readBounded(file, configBytesMax)
	if err != nil {
		return nil, err
	}
	var docs []yaml.Node
	if err := yaml.Load(text, &docs, yaml.WithAllDocuments()); err != nil {
		at := origin{text: file}
		if load, ok := errors.AsType[*yaml.LoadError](err); ok {
			at.line = load.Mark.Line
			err = errors.New(load.Message)
		}
		return nil, &configFault{at, fmt.Sprintf("not valid YAML: %v", err)}
	}
	if len(docs) == 0 || len(docs[0].Content) == 0 {
		return nil, &configFault{origin{text: file}, "the file is empty; see: waxwing config init"}
	}
	return docs, nil
}

// readBounded reads a file of at most limit bytes.
func readBounded(file string, limit int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", file, limit)
	}
	return text, err
}

// configReader walks a YAML document.
type configReader struct {
	c    *config
	file string
	seen map[string]int // line of each key
	errs []error

	misread map[string]bool // keys whose value is none
}

func (r *configReader) fault(n *yaml.Node, format string, values ...any) {
	r.errs = append(r.errs, &configFault{origin{r.file, n.Line}, fmt.Sprintf(format, values...)})
}

// section reads a mapping; prefix is its key with a dot behind it, or "".
func (r *configReader) section(prefix string, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		r.fault(n, "%s: expected keys and values", strings.TrimSuffix("the file."+prefix, "."))
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, v := n.Content[i], n.Content[i+1]
		key := prefix + name.Value
		if line, ok := r.seen[key]; ok {
			r.fault(name, "%s is set twice, first in line %d", key, line)
			continue
		}
		r.seen[key] = name.Line
		r.key(key, name, v)
	}
}

// key reads one key: a list of rules, a setting, or a section of settings.
func (r *configReader) key(key string, name, v *yaml.Node) {
	if key == rulesKey {
		r.rules(v)
		return
	}
	for i := range settings {
		s := &settings[i]
		if s.key == key {
			r.setting(s, v)
			return
		}
	}
	if r.isSection(key) {
		if v.Kind != yaml.ScalarNode || v.Tag != "!!null" {
			r.section(key+".", v)
		}
		return
	}
	r.fault(name, "unknown key %s%s", key, similar(key))
}

func (r *configReader) isSection(key string) bool {
	if strings.HasPrefix(rulesKey, key+".") {
		return true
	}
	return slices.ContainsFunc(settings, func(s setting) bool { return strings.HasPrefix(s.key, key+".") })
}

// setting reads a scalar, or a list of them.
func (r *configReader) setting(s *setting, v *yaml.Node) {
	if s.list != nil && v.Kind == yaml.SequenceNode {
		r.list(s, v)
		return
	}
	if v.Kind != yaml.ScalarNode {
		r.misread[s.key] = true
		r.fault(v, "%s: expected one value", s.key)
		return
	}
	text := v.Value
	if v.Tag == "!!null" {
		text = ""
	}
	if text == "" && s.number != nil {
		r.fault(v, "%s: expected a number", s.key)
		return
	}
	if err := s.set(r.c, text, origin{r.file, v.Line}); err != nil {
		r.errs = append(r.errs, err)
	}
}

// list reads a sequence of scalars.
func (r *configReader) list(s *setting, v *yaml.Node) {
	s.clear(r.c)
	r.c.origins[s.key] = origin{r.file, v.Line}
	for _, item := range v.Content {
		if item.Kind != yaml.ScalarNode || item.Value == "" {
			r.misread[s.key] = true
			r.fault(item, "%s: expected a list of values", s.key)
			continue
		}
		s.add(r.c, item.Value, origin{r.file, item.Line})
	}
}

// rules reads identity.rules.
func (r *configReader) rules(v *yaml.Node) {
	if v.Kind != yaml.SequenceNode {
		r.fault(v, "%s: expected a list of {from, match}", rulesKey)
		return
	}
	r.c.origins[rulesKey] = origin{r.file, v.Line}
	for _, item := range v.Content {
		if item.Kind != yaml.MappingNode {
			r.fault(item, "%s: expected {from: dns|email|cn, match: NAME}", rulesKey)
			continue
		}
		var rule identity.Rule
		for i := 0; i+1 < len(item.Content); i += 2 {
			switch name := item.Content[i]; name.Value {
			case "from":
				rule.From = item.Content[i+1].Value
			case "match":
				rule.Match = item.Content[i+1].Value
			default:
				r.fault(name, "%s: unknown key %s; expected from and match", rulesKey, name.Value)
			}
		}
		r.c.Rules = append(r.c.Rules, rule)
		r.c.ruleOrigins = append(r.c.ruleOrigins, origin{r.file, item.Line})
	}
}

// similar suggests a key that ends alike.
func similar(key string) string {
	last := key[strings.LastIndexByte(key, '.')+1:]
	for i := range settings {
		if s := &settings[i]; strings.HasSuffix(s.key, "."+last) || strings.HasSuffix(s.key, "_"+last) {
			return "; did you mean " + s.key + "?"
		}
	}
	return "; see: waxwing config init"
}
