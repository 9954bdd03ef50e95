package bench_test

import (
	"runtime/debug"
	"testing"

	"github.com/waxwing-mq/waxwing/bench"
)

// TestCommit looks for the commit wherever a build can have left it.
func TestCommit(t *testing.T) {
	const long = "0123456789abcdef0123456789abcdef01234567"
	for _, c := range []struct{ name, revision, modified, module, broker, want string }{
		{"noted by go", long, "false", "", "dev", long},
		{"noted by go, changed", long, "true", "", "dev", long + " with changes"},
		{"described", "", "", "(devel)", "v0.3.0-12-g0123abc", "0123abc, as version v0.3.0-12-g0123abc says"},
		{"described, changed", "", "", "(devel)", "v0.3.0-12-g0123abc-dirty", "0123abc with changes, as version v0.3.0-12-g0123abc-dirty says"},
		{"no tag", "", "", "(devel)", "0123abc", "0123abc, as version 0123abc says"},
		{"pseudo-version", "", "", "v0.0.0-20261127205500-0123456789ab", "dev", "0123456789ab, as version v0.0.0-20261127205500-0123456789ab says"},
		{"a tag", "", "", "(devel)", "v0.3.0", `unknown: it was built without version control (-buildvcs=false, or no git), and version "v0.3.0" names none`},
		{"nothing", "", "", "", "dev", `unknown: it was built without version control (-buildvcs=false, or no git), and version "dev" names none`},
	} {
		info := &debug.BuildInfo{Main: debug.Module{Version: c.module}}
		if c.revision != "" {
			info.Settings = []debug.BuildSetting{{Key: "vcs.revision", Value: c.revision}, {Key: "vcs.modified", Value: c.modified}}
		}
		if got := bench.CommitOf(info, c.broker); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
