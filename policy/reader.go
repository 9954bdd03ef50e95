package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// reader walks YAML nodes and collects every fault with its line.
type reader struct {
	faults Errors
}

// fault notes a fault at a node.
func (r *reader) fault(n *yaml.Node, format string, args ...any) {
	r.faultAt(n.Line, format, args...)
}

func (r *reader) faultAt(line int, format string, args ...any) {
	if len(r.faults) < errorsMax {
		r.faults = append(r.faults, Error{line, fmt.Sprintf(format, args...)})
	}
}

// err returns the faults by line, or nil.
func (r *reader) err() error {
	if len(r.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(r.faults, func(a, b Error) int { return a.Line - b.Line })
	return r.faults
}

// field reads the value of one key of a mapping.
type field struct {
	key  string
	read func(*yaml.Node)
}

// fields reads a mapping whose keys are known. Unknown and repeated keys are faults.
func (r *reader) fields(n *yaml.Node, what string, known ...field) {
	names := make([]string, len(known))
	for i, f := range known {
		names[i] = f.key
	}
	r.mapping(n, what, func(key string, at, value *yaml.Node) {
		i := slices.Index(names, key)
		if i < 0 {
			r.fault(at, "unknown key %.64q in %s; it has %s", key, what, strings.Join(names, ", "))
			return
		}
		known[i].read(value)
	})
}

// mapping calls each for every key of a mapping, once.
func (r *reader) mapping(n *yaml.Node, what string, each func(key string, at, value *yaml.Node)) {
	if !r.plain(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		r.fault(n, "%s must be a mapping (key: value), not %s", what, kindName(n))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		at, value := n.Content[i], n.Content[i+1]
		if at.Kind != yaml.ScalarNode || at.Value == "" {
			r.fault(at, "a key in %s must be a text", what)
			continue
		}
		if line, twice := seen[at.Value]; twice {
			r.fault(at, "key %.64q in %s stands already on line %d", at.Value, what, line)
			continue
		}
		seen[at.Value] = at.Line
		each(at.Value, at, value)
	}
}

// list calls each for every item of a list of at most max items.
func (r *reader) list(n *yaml.Node, what string, max int, each func(i int, item *yaml.Node)) {
	switch {
	case !r.plain(n):
	case n.Kind != yaml.SequenceNode:
		r.fault(n, "%s must be a list, not %s", what, kindName(n))
	case len(n.Content) > max:
		r.fault(n, "%s has %d items; at most %d are allowed", what, len(n.Content), max)
	default:
		for i, item := range n.Content {
			each(i, item)
		}
	}
}

// text reads a scalar as it was written, whatever YAML would make of it ("123", "on").
func (r *reader) text(n *yaml.Node, what string) (string, bool) {
	if !r.plain(n) {
		return "", false
	}
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" || n.Value == "" {
		r.fault(n, "%s must be a text, not %s", what, kindName(n))
		return "", false
	}
	return n.Value, true
}

// plain refuses anchors, aliases and explicit tags: a policy says what it says where it
// stands.
func (r *reader) plain(n *yaml.Node) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		r.fault(n, "aliases (*name) are not allowed here; quote a pattern that begins with '*'")
	case n.Anchor != "":
		r.fault(n, "anchors (&name) are not allowed here")
	case n.Style&yaml.TaggedStyle != 0:
		r.fault(n, "tags (!name) are not allowed here")
	default:
		return true
	}
	return false
}

func kindName(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!null" || n.Value == "":
		return "empty"
	}
	return "a single value"
}

// root parses the bytes and returns the top node of the one document, or nil and a
// fault. An empty file is a fault: it is more often an accident than a policy.
func (r *reader) root(doc []byte) *yaml.Node {
	if len(doc) > DocumentBytesMax {
		r.faultAt(0, "the document has %d bytes; at most %d are allowed", len(doc), DocumentBytesMax)
		return nil
	}
	var docs []yaml.Node
	err := yaml.Load(doc, &docs, yaml.WithAllDocuments())
	switch {
	case err != nil:
		r.syntax(err)
	case len(docs) == 0:
		r.faultAt(0, "the document is empty; to deny everything, write: roles: {}")
	case len(docs) > 1:
		r.fault(&docs[1], "a second YAML document begins here; a policy is one")
	case docs[0].Kind == yaml.DocumentNode && len(docs[0].Content) == 1:
		return docs[0].Content[0]
	default:
		return &docs[0]
	}
	return nil
}

// syntax notes what the YAML parser says, with its line where it knows one.
func (r *reader) syntax(err error) {
	load, ok := errors.AsType[*yaml.LoadError](err)
	switch {
	case !ok:
		r.faultAt(0, "not valid YAML: %s", err)
	case load.Stage == yaml.ScannerStage:
		r.faultAt(load.Mark.Line, "not valid YAML: %s (patterns that begin with '*' or '>' need quotes)", load.Message)
	default:
		r.faultAt(load.Mark.Line, "not valid YAML: %s", load.Message)
	}
}
