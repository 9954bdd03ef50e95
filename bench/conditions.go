package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/waxwing-mq/waxwing/client"
)

// Conditions are those under which figures came out: without them they mean nothing.
type Conditions struct {
	Target      string   `json:"target"`
	Broker      string   `json:"broker_version"`
	Commit      string   `json:"commit"` // of the program that measures, which is the broker's if it started it
	Durability  string   `json:"durability"`
	Nodes       int      `json:"nodes"` // 0 = the identity may not ask
	SameMachine bool     `json:"same_machine"`
	Notes       []string `json:"notes,omitempty"`

	Cores  int    `json:"cores"`
	CPU    string `json:"cpu,omitempty"`
	Load   string `json:"load_before,omitempty"` // load averages of 1, 5 and 15 minutes before the run
	Kernel string `json:"kernel"`
	Go     string `json:"go"`

	TLS    string `json:"tls"`
	Cipher string `json:"cipher"`
	Group  string `json:"group"`

	Payload    string  `json:"payload"`
	Conns      int     `json:"conns"`
	Members    int     `json:"members"`
	Window     int     `json:"window"`
	Batch      int     `json:"batch_bytes"` // largest
	Topics     int     `json:"topics"`
	Partitions int     `json:"partitions"`
	Rate       float64 `json:"rate"` // 0 = closed loop
	Loop       string  `json:"loop"`
	Measured   string  `json:"measured"`
	Warmup     string  `json:"warmup"`
	Seed       uint64  `json:"seed"`
}

// conditions finds out what it is that is measured.
func conditions(ctx context.Context, c *client.Client, t *Target, o *Options) (Conditions, error) {
	state, _ := c.ConnectionState()
	broker := c.Welcome().Broker
	k := Conditions{
		Target: t.Name, Broker: broker, Commit: commit(broker), SameMachine: t.SameMachine, Notes: t.Notes,
		Cores: runtime.NumCPU(), CPU: firstOf("/proc/cpuinfo", "model name"), Load: loadAverage(), Kernel: kernel(), Go: runtime.Version(),
		TLS: tls.VersionName(state.Version), Cipher: tls.CipherSuiteName(state.CipherSuite), Group: state.CurveID.String(),
		Conns: o.Conns, Members: o.Members, Window: o.Window, Batch: o.BatchBytes, Topics: o.Topics, Partitions: o.Partitions, Rate: o.Rate, Seed: o.Seed,
		Measured: o.Duration.String(), Warmup: o.Warmup.String(),
	}
	if k.Batch == 0 {
		k.Batch = client.DefaultBatchBytes
	}
	if o.Messages > 0 {
		k.Measured = fmt.Sprintf("%d messages", o.Messages)
	}
	k.Payload = fmt.Sprintf("%d B random", o.Size)
	if d := o.SizeDist.String(); d != "fixed" {
		k.Payload = fmt.Sprintf("%s around %d B, random", d, o.Size)
	}
	k.Loop = "closed: the next record is sent when the window has room"
	if o.open() {
		k.Loop = fmt.Sprintf("open: %g records a second, latency from when each was due", o.Rate)
	}
	return k, k.ask(ctx, c)
}

// ask asks how many nodes vote, if the identity may.
func (k *Conditions) ask(ctx context.Context, c *client.Client) error {
	info, err := c.Cluster().Status(ctx)
	switch {
	case errors.Is(err, client.ErrDenied):
		k.Durability = "fsynced on a majority before it is acknowledged; how many nodes there are this identity may not ask (right observe)"
		return nil
	case err != nil:
		return fmt.Errorf("ask how many nodes there are: %w", err)
	}
	for _, m := range info.Members {
		if m.Voter {
			k.Nodes++
		}
	}
	k.Nodes = max(k.Nodes, 1)
	k.Durability = fmt.Sprintf("fsynced on %d of %d before it is acknowledged", k.Nodes/2+1, k.Nodes)
	return nil
}

// commit is what this program was built from: as the go command has noted it, else as the version says it that the broker tells. Where
// neither does, it says so.
func commit(broker string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	return commitOf(info, broker)
}

// commitInVersion finds a commit in what git describe gives, and in a version of a module between two tags.
var commitInVersion = regexp.MustCompile(`(?:^|-g|[-.][0-9]{14}-)([0-9a-f]{7,40})(-dirty|\+dirty)?$`)

func commitOf(info *debug.BuildInfo, broker string) string {
	revision, changed := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = " with changes"
		}
	}
	if revision != "" {
		return revision + changed
	}
	for _, version := range []string{info.Main.Version, broker} {
		if m := commitInVersion.FindStringSubmatch(version); m != nil {
			if m[2] != "" {
				changed = " with changes"
			}
			return m[1] + changed + ", as version " + version + " says"
		}
	}
	return fmt.Sprintf("unknown: it was built without version control (-buildvcs=false, or no git), and version %q names none", broker)
}

// kernel names the system.
func kernel() string {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return runtime.GOOS
	}
	return runtime.GOOS + " " + strings.TrimSpace(string(text))
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if f := strings.Fields(string(text)); err == nil && len(f) >= 3 {
		return strings.Join(f[:3], " ")
	}
	return ""
}

// firstOf is the value of a key in one of Linux's files of "key : value".
func firstOf(file, key string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// lines are the conditions for a person.
func (k *Conditions) lines() [][2]string {
	where := "clients and brokers on different machines"
	if k.SameMachine {
		where = "clients and brokers share this machine"
	}
	lines := [][2]string{
		{"target", k.Target + ", broker " + k.Broker + ", measured by commit " + k.Commit},
		{"durability", k.Durability},
		{"machine", fmt.Sprintf("%d cores (%s), %s, %s, load before %s; %s", k.Cores, k.CPU, k.Kernel, k.Go, k.Load, where)},
		{"TLS", fmt.Sprintf("%s, %s, %s, mutual", k.TLS, k.Cipher, k.Group)},
		{"payload", fmt.Sprintf("%s, seed %d", k.Payload, k.Seed)},
		{"connections", fmt.Sprintf("%d, subscribers %d, %d topics of %d partitions", k.Conns, k.Members, k.Topics, k.Partitions)},
		{"window", fmt.Sprintf("%d records a connection, batches up to %d B", k.Window, k.Batch)},
		{"loop", k.Loop},
		{"measured", fmt.Sprintf("%s after a warm-up of %s", k.Measured, k.Warmup)},
	}
	for _, n := range k.Notes {
		lines = append(lines, [2]string{"note", n})
	}
	return lines
}
