package main

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/waxwing-mq/waxwing/bench"
	"github.com/waxwing-mq/waxwing/internal/lane"
)

// result runs a bench, which must succeed, and reads what came out.
func (d *desk) result(list ...string) *bench.Result {
	d.t.Helper()
	cmd := d.command(d.program, append([]string{"bench", "-o", "json"}, list...)...)
	var errors strings.Builder
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		d.t.Fatalf("waxwing bench %s: %v: %s%s", strings.Join(list, " "), err, out, errors.String())
	}
	r := new(bench.Result)
	if err := json.Unmarshal(out, r); err != nil {
		d.t.Fatalf("%v: %s", err, out)
	}
	return r
}

// benchScenarios are what every bench is asked for: flags, and how many rows come.
var benchScenarios = []struct {
	name   string
	shared bool
	list   []string
	rows   map[string]int
}{
	{"pub", true, []string{"--topics", "2", "--size-dist", "uniform:100-1000"}, map[string]int{"self": 1, "dev1": 1, "dev3": 1}},
	{"sub", true, []string{"--topics", "2", "--msgs", "2000"}, map[string]int{"self": 1, "dev1": 1, "dev3": 1}},
	{"e2e", true, []string{"--members", "2", "--partitions", "3", "--size-dist", "exp"}, map[string]int{"self": 1, "dev1": 1, "dev3": 1}},
	{"latency", true, []string{"--rate", "500"}, map[string]int{"self": 1, "dev1": 1, "dev3": 1}},
	{"fanout", true, []string{"--members", "5", "--window", "64"}, map[string]int{"self": 1, "dev1": 1, "dev3": 1}},
	{"connections", false, []string{"--conns", "20"}, map[string]int{"self": 1, "dev1": 1, "dev3": 2}},
	{"failover", false, []string{"--duration", "2s"}, map[string]int{"dev3": 1}},
	{"handshake", false, []string{"--kex", "x25519", "--msgs", "50"}, map[string]int{"self": 7, "dev1": 7, "dev3": 8}},
}

// TestBench runs scenarios for a moment against brokers that the bench starts itself, each with flags of its own. Figures must be there;
// what they are is nobody's promise. In lane 2 those that kill nobody and need no certificate of a broker share three nodes; TestBenchReport has
// the others, and all of them against one node.
func TestBench(t *testing.T) {
	all := t
	var three *desk
	for _, target := range lane.Pick([]string{"self"}, []string{"self", "dev3"}, []string{"self", "dev1", "dev3"}) {
		for _, s := range benchScenarios {
			t.Run(target+"/"+s.name, func(t *testing.T) {
				if s.rows[target] == 0 {
					t.Skip("it needs several nodes")
				}
				if s.name != "pub" {
					lane.Need(t, 2, "bench")
				}
				if !s.shared || target == "self" && s.name != "pub" {
					lane.Need(t, 3, "bench")
				}
				d, against := newDesk(t), target
				if target == "dev3" && lane.Current() == 2 {
					if three == nil {
						three = newDesk(all)
						three.dev("--nodes", "3")
					}
					d, against = three, "dev"
				}
				d.t = t
				list := append([]string{s.name, "--against", against, "--duration", lane.Pick("100ms", "100ms", "1s"), "--warmup", "50ms", "--conns", "2"}, s.list...)
				checkBench(t, d.result(list...), target, against, s.rows[target])
				if d != three {
					d.leavesNothing(t)
				}
			})
		}
	}
}

// leavesNothing looks for folders that own brokers left behind.
func (d *desk) leavesNothing(t *testing.T) {
	t.Helper()
	if left, err := os.ReadDir(d.path("tmp")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// checkBench looks for what every result has.
func checkBench(t *testing.T, r *bench.Result, target, against string, rows int) {
	t.Helper()
	s := r.Scenario
	k, nodes := r.Conditions, map[string]int{"self": 1, "dev1": 1, "dev3": 3}[target]
	if k.Nodes != nodes || !strings.HasPrefix(k.Durability, "fsynced on ") || !k.SameMachine || k.TLS != "TLS 1.3" || k.Group == "" || k.Cores < 1 || k.Load == "" && k.Kernel == "" || (len(k.Notes) > 0) != (target == against) {
		t.Errorf("conditions %+v", k)
	}
	for _, run := range r.Runs {
		if v := run.Verified; (v.Expected == 0) != (s == bench.Connections && target != "dev3") || v.Received != v.Expected || v.Err() != nil {
			t.Errorf("verified %+v", v)
		}
		if len(run.Rows) != rows {
			t.Errorf("%d rows, want %d: %+v", len(run.Rows), rows, run.Rows)
		}
		for _, row := range run.Rows {
			costs := 0
			for _, f := range row.Figures { // so few connections can weigh less than what the garbage collector meanwhile gave back
				if f.Value < 0 && !strings.HasSuffix(f.Name, " of a connection") || f.Unit == "" || f.Name == "" {
					t.Errorf("%s: %+v", row.Name, f)
				}
				if strings.Contains(f.Name, "CPU") || strings.Contains(f.Name, "memory") {
					costs++
				}
			}
			if _, ok := row.Get("server heap and stacks of a connection"); ok != (row.Name == "open" && target != "self") {
				t.Errorf("%s: %+v", row.Name, row.Figures)
			}
			if wanted := s != bench.Failover && row.Name != "storm" && (s != bench.Connections || target != "self"); wanted && costs == 0 {
				t.Errorf("%s: no costs: %+v", row.Name, row.Figures)
			}
			if f, ok := row.Get("share resumed, metrics"); ok && f.Value != map[bool]float64{true: 1}[strings.HasSuffix(row.Name, " ticket")] {
				t.Errorf("%s: %v resumed", row.Name, f.Value)
			}
		}
	}
}

// TestBenchContext measures a broker that runs already, with what its metrics tell, and says what it cannot do.
func TestBenchContext(t *testing.T) {
	d := newDesk(t)
	p, _ := d.dev()
	r := d.result("pub", "--against", "dev", "--msgs", "100", "--warmup", "0s", "--metrics", p.Ready.HTTPS, "--runs", "2")
	if f, ok := r.Runs[0].Rows[0].Get("server memory now"); !ok || f.Value <= 0 {
		t.Errorf("the metrics were not read: %+v", r.Runs[0].Rows[0].Figures)
	}
	if out := d.must("bench", "pub", "--context", "dev", "--msgs", "10", "--warmup", "0s"); !strings.Contains(out, "all of 11 records came once") {
		t.Errorf("the table says %s", out)
	}
	if out := d.must("topic", "ls"); strings.Contains(out, "bench.") {
		t.Errorf("topics were left behind: %s", out)
	}
	for want, list := range map[string][]string{
		"size 10: use 40":              {"--size", "10"},
		"window 0: use 1":              {"--window", "0"},
		"there is no context \"dev2\"": {"--against", "dev2"},
		"size distribution \"x\"":      {"--size-dist", "x"},
		"duration 0s":                  {"--duration", "0s"},
		"no such file":                 {"--against", "dev1", "--dir", d.path("nowhere")},
		"bench has table":              {"--against", "dev", "-o", "raw"},
		"end in .svg or .png":          {"--against", "dev", "--plot", "x.gif"},
	} {
		if out, code := d.run(append([]string{"bench", "pub"}, list...)...); code != exitUsage && code != exitNotFound || !strings.Contains(out, want) {
			t.Errorf("%v: exit code %d, %s", list, code, out)
		}
	}
}

// TestBenchInterrupt sends ^C to a process that measures, and gets what there is so far.
func TestBenchInterrupt(t *testing.T) {
	d := newDesk(t)
	d.dev()
	cmd := d.command(d.program, "bench", "pub", "--against", "dev", "--duration", "1h", "--warmup", "0s", "--window", "1", "-o", "json")
	var out, errors strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errors
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()                        // fails where it has ended
	d.must("sub", "bench.>", "--count", "20", "-q") // then it is in the middle of it
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != exitInterrupt {
		t.Fatalf("exit code %d, want %d: %s%s", cmd.ProcessState.ExitCode(), exitInterrupt, out.String(), errors.String())
	}
	r := new(bench.Result)
	if err := json.Unmarshal([]byte(out.String()), r); err != nil || !r.Interrupted || len(r.Runs) != 1 {
		t.Fatalf("%v: %s", err, out.String())
	}
	if n, _ := r.Runs[0].Rows[0].Get("published"); n.Value < 20 || r.Runs[0].Verified.Received < uint64(n.Value) {
		t.Errorf("%v published, verified %+v", n.Value, r.Runs[0].Verified)
	}
	if out := d.must("topic", "ls"); strings.Contains(out, "bench.") {
		t.Errorf("topics were left behind: %s", out)
	}
}

// TestBenchFailoverContext measures brokers that are somebody else's: it says which one to kill, and goes on with the others.
func TestBenchFailoverContext(t *testing.T) {
	lane.Need(t, 2, "bench")
	d := newDesk(t)
	p, _ := d.dev("--nodes", "3")
	pids := devPIDs(p.Log())
	cmd := d.command(d.program, "bench", "failover", "--against", "dev", "--duration", "5s", "--warmup", "10ms", "-o", "json")
	var out strings.Builder
	cmd.Stdout = &out
	asks, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill() // fails where it has ended
	killed := ""
	for lines := bufio.NewScanner(asks); lines.Scan(); {
		m := regexp.MustCompile(`now kill the leader, (\S+) `).FindStringSubmatch(lines.Text())
		if m == nil {
			t.Errorf("it says %s", lines.Text())
			continue
		}
		killed = m[1]
		if err := syscall.Kill(pids[killed], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Wait(); err != nil || killed == "" {
		t.Fatalf("%v, %q killed: %s", err, killed, out.String())
	}
	r := new(bench.Result)
	if err := json.Unmarshal([]byte(out.String()), r); err != nil || len(r.Runs) != 1 || r.Runs[0].Verified.Err() != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if f, ok := r.Runs[0].Rows[0].Get("without acknowledgement, most"); !ok || f.Value <= 0 {
		t.Errorf("%+v", r.Runs[0].Rows[0])
	}
}

// TestBenchFiles writes a result in every form, and compares two.
func TestBenchFiles(t *testing.T) {
	d := newDesk(t)
	d.dev()
	list := []string{"bench", "latency", "--against", "dev", "--msgs", "200", "--rate", "2000", "--warmup", "0s", "--runs", "2"}
	for form, want := range map[string]string{"csv": "latency,2,latency,deliver p99,ms,", "gobench": "BenchmarkWaxwing/latency/latency-", "table": "figures are medians of 2 runs"} {
		if out := d.must(append(list, "-o", form)...); !strings.Contains(out, want) {
			t.Errorf("-o %s: %s", form, out)
		}
	}
	for _, name := range []string{"a.json", "b.json"} {
		out := d.must(append(list, "-q", "-o", "json", "--hgrm", "l.hgrm", "--plot", "l.svg")...)
		if err := os.WriteFile(d.path(name), []byte(out), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"l-latency-publish.hgrm": "#[Mean", "l-latency-deliver.hgrm": "#[Mean", "l.svg": "</svg>"} {
		if text, err := os.ReadFile(d.path(name)); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %v: %.300s", name, err, text)
		}
	}
	out := d.must("bench", "compare", "a.json", "a.json", "-o", "json")
	var same []bench.Comparison
	if err := json.Unmarshal([]byte(out), &same); err != nil || len(same) < 10 {
		t.Fatalf("%v: %s", err, out)
	}
	for _, c := range same {
		if c.A.Runs != 2 || c.A != c.B || c.Ratio != 1 && c.A.Median != 0 || c.Least > c.Ratio || c.Most < c.Ratio {
			t.Errorf("compared with itself: %+v", c)
		}
	}
	if out := d.must("bench", "compare", "a.json", "b.json"); !strings.Contains(out, "publish rate") || !strings.Contains(out, "B/A") {
		t.Errorf("compare says %s", out)
	}
	for _, list := range [][]string{{"compare", "a.json", "l.svg"}, {"compare", "a.json", "nothing.json"}, {"all"}} {
		if out, code := d.run(append([]string{"bench"}, list...)...); code != exitUsage {
			t.Errorf("%v: exit code %d, %s", list, code, out)
		}
	}
	if out, code := d.run("topic", "ls", "-o", "csv"); code != exitUsage {
		t.Errorf("-o csv of topic ls: exit code %d, %s", code, out)
	}
}

// report measures in a hurry, on brokers of the bench's own, and checks every result.
func (d *desk) report(target string, list ...string) []*bench.Result {
	d.t.Helper()
	d.must(append([]string{"bench", "all", "--against", target, "--report", "out", "--duration", "50ms", "--warmup", "0s", "--runs", "1", "--msgs", "1000", "--conns", "20", "--kex", "x25519"}, list...)...)
	d.leavesNothing(d.t)
	results, err := bench.ReadResults(d.path("out/raw.json"))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, r := range results {
		for _, s := range benchScenarios {
			if s.name == string(r.Scenario) {
				checkBench(d.t, r, target, target, s.rows[target])
			}
		}
	}
	return results
}

// TestBenchReport measures everything on one node, and looks at the page.
func TestBenchReport(t *testing.T) {
	lane.Need(t, 2, "bench")
	d := newDesk(t)
	if results := d.report("dev1", "--profile", "profiles"); len(results) != 15 {
		t.Errorf("%d results", len(results))
	}
	d.hasProfiles("profiles", "client", "dev")
	page, err := os.ReadFile(d.path("out/report.html"))
	if err != nil || strings.Count(string(page), "<svg") < 6 || strings.Contains(string(page), "NO RESULT") {
		t.Errorf("%v, %d plots", err, strings.Count(string(page), "<svg"))
	}
	for _, foreign := range []string{"src=", "http-equiv", "<script", "<link"} {
		if strings.Contains(string(page), foreign) {
			t.Errorf("the page is not self-contained: it has %s", foreign)
		}
	}
}

// unzipped is all of a file that was packed by gzip.
func unzipped(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(z)
	return string(text), err
}

// hasProfiles looks for the profiles of processes, and for what each of them counts.
func (d *desk) hasProfiles(dir string, processes ...string) {
	d.t.Helper()
	for _, process := range processes {
		for kind, counts := range map[string]string{"cpu": "nanoseconds", "allocs": "alloc_space", "mutex": "contentions", "block": "contentions"} {
			file := d.path(filepath.Join(dir, process+"."+kind+".pprof"))
			if text, err := unzipped(file); err != nil || !strings.Contains(text, counts) {
				d.t.Errorf("%s: %v, %d bytes", file, err, len(text))
			}
		}
	}
	if all, err := filepath.Glob(d.path(filepath.Join(dir, "*"))); err != nil || len(all) != 4*len(processes) {
		d.t.Errorf("profiles: %q, %v", all, err)
	}
}

// TestBenchKills measures on three nodes what kills some of them, and what goes from one to the other.
func TestBenchKills(t *testing.T) {
	lane.Need(t, 2, "bench")
	d := newDesk(t)
	if results := d.report("dev3", "--only", "handshake,connections,failover"); len(results) != 3 {
		t.Errorf("%d results of three", len(results))
	}
	if out, code := d.run("bench", "all", "--report", "out", "--only", "pub,mail"); code != exitUsage || !strings.Contains(out, "--only mail: a report") {
		t.Errorf("exit code %d, %s", code, out)
	}
}
