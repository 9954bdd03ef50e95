package bench_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/identity/identitytest"
	"github.com/waxwing-mq/waxwing/internal/launch"
	"github.com/waxwing-mq/waxwing/policy"
)

// Sizes: the defaults suit a small machine and a first look, the README says what the published figures used.
var (
	sealedMiB = flag.Int64("sealed", 512, "MiB in sealed segments for BenchmarkSealed; 256 make a segment")
	loadFor   = flag.Duration("load", 5*time.Second, "how long BenchmarkSealed/memory publishes")
	pairMiB   = flag.Int64("pair", 300, "MiB that each run of BenchmarkPublishBesides publishes, at most 900")
	scratch   = flag.String("scratch", os.TempDir(), "folder for the data of brokers")
)

// site is what brokers of a benchmark share: the program, certificates, a policy, and a folder with enough space.
type site struct {
	pki    *identitytest.PKI
	binary string
	dir    string
}

// newSite builds the program. It skips when less than this many MiB are free.
func newSite(b *testing.B, needMiB int64) *site {
	b.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(*scratch, &fs); err != nil {
		b.Fatal(err)
	}
	if free := int64(fs.Bavail) * fs.Bsize >> 20; free < needMiB+int64(fs.Blocks)*fs.Bsize>>20/10 { // the guard keeps a tenth
		b.Skipf("%s has %d MiB free; this takes %d, and a tenth of the disk must stay", *scratch, free, needMiB)
	}
	dir, err := os.MkdirTemp(*scratch, "waxwing-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			b.Error(err)
		}
	})
	s := &site{pki: identitytest.New(b), dir: dir, binary: filepath.Join(dir, "waxwing")}
	if out, err := exec.Command("go", "build", "-o", s.binary, "github.com/waxwing-mq/waxwing/cmd/waxwing").CombinedOutput(); err != nil {
		b.Fatalf("build the broker: %v: %s", err, out)
	}
	return s
}

// config writes a broker's configuration, with more lines, and returns its path.
func (s *site) config(b *testing.B, dataDir, more string) string {
	b.Helper()
	files := s.pki.Save("n1", s.pki.Broker("n1"))
	policyFile, name := filepath.Join(s.dir, "policy.yaml"), filepath.Join(s.dir, "broker.yaml")
	text := fmt.Sprintf("node: {id: n1, data_dir: %q}\ntrust_domain: %s\nlisten: {client: \"127.0.0.1:0\", peer: \"\", https: \"\"}\ntls: {cert: %q, key: %q, ca: %q}\npolicy: {file: %q}\n%s\n",
		dataDir, identitytest.TrustDomain, files.Cert, files.Key, files.CA, policyFile, more)
	if err := errors.Join(os.WriteFile(policyFile, policy.Dev(identitytest.TrustDomain), 0o600), os.WriteFile(name, []byte(text), 0o600)); err != nil {
		b.Fatal(err)
	}
	return name
}

// start starts a broker as its own process and returns once it serves, with how long that took.
func (s *site) start(b *testing.B, config string) (*launch.Process, time.Duration) {
	b.Helper()
	begin := time.Now()
	p, err := launch.Start(b.Context(), launch.Options{Binary: s.binary, Args: []string{"serve", "-c", config}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(p.Kill)
	return p, time.Since(begin)
}

// dial connects a client to a process.
func (s *site) dial(b *testing.B, p *launch.Process) *client.Client {
	b.Helper()
	f := s.pki.ClientFiles("bench")
	c, err := client.Dial(b.Context(), client.Options{Servers: []string{p.Ready.Client}, CertFile: f.Cert, KeyFile: f.Key, CAFile: f.CA, ServerName: "localhost"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		c.Close(ctx)
	})
	return c
}

// rssAnon is the anonymous memory of a process, in MiB: what the kernel cannot take back by dropping cached files.
func rssAnon(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "RssAnon:")
	kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if !ok || err != nil {
		b.Fatalf("RssAnon of %d: %v", pid, err)
	}
	return kib / 1024
}

// processSeconds is the CPU time that a process has used, in seconds.
func processSeconds(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name before may hold spaces
	return ticks(b, strings.Fields(rest)[11:13])  // proc_pid_stat(5): utime, stime
}

// machineSeconds is the CPU time that this machine has used, in seconds.
func machineSeconds(b *testing.B) float64 {
	b.Helper()
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		b.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	f := strings.Fields(line)[1:]
	return ticks(b, append(f[:3:3], f[5:7]...)) // proc_stat(5): user, nice, system; not idle, iowait; irq, softirq
}

// ticks adds up numbers of ticks of 10 ms, in seconds.
func ticks(b *testing.B, fields []string) (seconds float64) {
	b.Helper()
	for _, f := range fields {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		seconds += float64(n) / 100
	}
	return seconds
}

// at is the value below which a share of a list lies; it sorts the list.
func at(list []time.Duration, share float64) time.Duration {
	slices.Sort(list)
	return list[int(share*float64(len(list)-1))]
}

// median of a list, which it sorts.
func median[T ~int64 | ~float64](list []T) T {
	slices.Sort(list)
	return list[len(list)/2]
}

// logLine is the last line of a log that holds a text.
func logLine(log, text string) (found string) {
	for line := range strings.Lines(log) {
		if strings.Contains(line, text) {
			found = strings.TrimSpace(line)
		}
	}
	return found
}
