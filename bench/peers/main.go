// Command peers runs the same jobs against Waxwing and against other brokers, one after the other in turn, on this machine, and
// prints one table: everything over mutual TLS, and the durability that an acknowledgement means in every row. It is a module of
// its own, so that no other broker's client enters Waxwing's.
//
//	go run . -rounds 5
//
// Figures of a shared or small machine say little by themselves; the ratios of one run say more. The client and all servers share
// the machine and its disk.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	if name := os.Getenv(serverEnv); name != "" {
		exit(serveNATS(name))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func exit(err error) {
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// settings are the flags.
type settings struct {
	rounds  int
	records int
	slow    int
	steady  time.Duration
	size    int
	systems string
	jobs    string
	scratch string
	binary  string
}

func (s *settings) parse(args []string, stderr io.Writer) error {
	f := flag.NewFlagSet("peers", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&s.rounds, "rounds", 3, "how often each system does each job; the table has medians")
	f.IntVar(&s.records, "records", 500_000, "records of a pipelined job, all connections together")
	f.IntVar(&s.slow, "slow", 2_000, "records of the job that sends one at a time")
	f.DurationVar(&s.steady, "steady", 5*time.Second, "how long 1,000 records a second are published and read")
	f.IntVar(&s.size, "size", 256, "bytes of a record's body, at least 16; random")
	f.StringVar(&s.systems, "systems", "waxwing-3,nats-3", "which of "+strings.Join(names(), ", ")+"; separated by commas")
	f.StringVar(&s.jobs, "jobs", strings.Join(jobNames(), ","), "which jobs")
	f.StringVar(&s.scratch, "scratch", os.TempDir(), "folder for the data of all servers; its disk is what is measured")
	f.StringVar(&s.binary, "waxwing", "", "waxwing binary; \"\" = built from this checkout")
	if err := f.Parse(args); err != nil {
		return err
	}
	if s.size < 16 || s.rounds < 1 || s.records < 8 || s.slow < 1 || f.NArg() > 0 {
		return errors.New("-size is at least 16, -rounds and -slow at least 1, -records at least 8; there are no arguments besides flags")
	}
	return nil
}

// run starts every system once, lets them do the jobs in turn, and prints the table.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	var s settings
	if err := s.parse(args, stderr); err != nil {
		return err
	}
	chosen, err := choose(s.systems)
	if err != nil {
		return err
	}
	jobs, err := chooseJobs(s.jobs)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(s.scratch, "waxwing-peers-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if s.binary == "" {
		s.binary = filepath.Join(dir, "waxwing")
		if err := build(ctx, s.binary); err != nil {
			return err
		}
	}
	t := newTable(&s, chosen, jobs)
	for round := range s.rounds {
		for _, j := range jobs {
			for _, k := range chosen {
				fmt.Fprintf(stderr, "round %d of %d: %s on %s\n", round+1, s.rounds, j.name, k.name)
				r, err := s.once(ctx, dir, k, j)
				if err != nil {
					return fmt.Errorf("%s on %s: %w", j.name, k.name, err)
				}
				t.add(k, j, r)
			}
		}
	}
	return t.print(stdout)
}

// once runs a job on fresh servers, which are gone afterwards: no system pays for another's data or background work.
func (s *settings) once(ctx context.Context, dir string, k kind, j job) (r result, err error) {
	at, err := os.MkdirTemp(dir, k.name+"-")
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(at)) }()
	sys, err := k.start(ctx, s, at)
	if err != nil {
		return result{}, err
	}
	defer sys.stop()
	before := cpuSeconds(sys.pids())
	r, err = j.run(ctx, s, sys)
	r.cpu = cpuSeconds(sys.pids()) - before
	return r, err
}
