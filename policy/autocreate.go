package policy

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/waxwing-mq/waxwing/topic"
)

// Spec are the settings of an auto-created topic. 0 means unlimited for the Max fields.
type Spec struct {
	Partitions uint32
	MaxAgeMs   uint64
	MaxBytes   uint64
	MaxRecords uint64
}

// autoRule says which missing topics are created, and how.
type autoRule struct {
	topics []topic.Pattern
	spec   Spec
}

func (a *autoRule) matches(name topic.Name) bool {
	for _, p := range a.topics {
		if p.Match(name) {
			return true
		}
	}
	return false
}

func (p *parser) autoCreate(n *yaml.Node) {
	p.list(n, "auto_create", autoCreateMax, func(_ int, item *yaml.Node) {
		a := autoRule{spec: Spec{Partitions: 1}}
		before := len(p.faults)
		p.fields(item, "an auto_create rule",
			field{"topics", func(n *yaml.Node) { p.autoTopics(n, &a.topics) }},
			field{"partitions", func(n *yaml.Node) { a.spec.Partitions = uint32(p.number(n, "partitions", 1, partitionsMax)) }},
			field{"max_age", func(n *yaml.Node) { a.spec.MaxAgeMs = p.age(n) }},
			field{"max_bytes", func(n *yaml.Node) { a.spec.MaxBytes = p.size(n) }},
			field{"max_records", func(n *yaml.Node) { a.spec.MaxRecords = p.number(n, "max_records", 1, math.MaxInt64) }},
		)
		if len(a.topics) == 0 && len(p.faults) == before {
			p.fault(item, "an auto_create rule needs topics")
		}
		p.doc.auto = append(p.doc.auto, a)
	})
}

// autoTopics reads one pattern or a list of them.
func (p *parser) autoTopics(n *yaml.Node, into *[]topic.Pattern) {
	one := func(_ int, item *yaml.Node) {
		s, ok := p.text(item, "a pattern")
		if !ok {
			return
		}
		pattern, err := topic.ParsePattern(s)
		if err != nil {
			p.fault(item, "%s", err)
			return
		}
		*into = append(*into, pattern)
		if p.patterns++; p.patterns == patternsMax+1 {
			p.fault(item, "the document has more than %d patterns", patternsMax)
		}
	}
	if n.Kind == yaml.ScalarNode {
		one(0, n)
		return
	}
	p.list(n, "topics", patternsMax, one)
}

func (p *parser) number(n *yaml.Node, what string, least, most uint64) uint64 {
	s, ok := p.text(n, what)
	if !ok {
		return least
	}
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil || v < least || v > most {
		p.fault(n, "%s must be a whole number from %d to %d, not %.32q", what, least, most, s)
		return least
	}
	return v
}

// age reads a duration like 90m, 168h or 7d.
func (p *parser) age(n *yaml.Node) uint64 {
	s, ok := p.text(n, "max_age")
	if !ok {
		return 0
	}
	d, err := parseAge(s)
	if err != nil || d < time.Millisecond {
		p.fault(n, "max_age must be a duration like 90m, 168h or 7d, not %.32q", s)
		return 0
	}
	return uint64(d.Milliseconds())
}

func parseAge(s string) (time.Duration, error) {
	days, ok := strings.CutSuffix(s, "d")
	if !ok {
		return time.ParseDuration(s)
	}
	n, err := strconv.ParseUint(days, 10, 32)
	if err != nil || n > 36_500 {
		return 0, fmt.Errorf("%.32q is no number of days", days)
	}
	return time.Duration(n) * 24 * time.Hour, nil
}

// sizeUnits are the units of max_bytes.
var sizeUnits = [...]struct {
	suffix string
	shift  uint
}{{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}}

// size reads bytes like 1048576 or 512MiB.
func (p *parser) size(n *yaml.Node) uint64 {
	s, ok := p.text(n, "max_bytes")
	if !ok {
		return 0
	}
	digits, shift := s, uint(0)
	for _, u := range sizeUnits {
		if d, ok := strings.CutSuffix(s, u.suffix); ok {
			digits, shift = d, u.shift
		}
	}
	v, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || v == 0 || v > math.MaxInt64>>shift {
		p.fault(n, "max_bytes must be a number of bytes like 1048576 or 512MiB (KiB, MiB, GiB, TiB), not %.32q", s)
		return 0
	}
	return v << shift
}
