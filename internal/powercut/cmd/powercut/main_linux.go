// Command powercut cuts the power of a broker and looks at what is left; see package powercut.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/waxwing-mq/waxwing/internal/fault"
	"github.com/waxwing-mq/waxwing/internal/launch"
	"github.com/waxwing-mq/waxwing/internal/powercut"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "powercut:", err)
		os.Exit(1)
	}
}

// list is a flag that may be given many times.
type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("powercut", flag.ContinueOnError)
	binary := flags.String("binary", "", "the broker's program (required)")
	dir := flags.String("dir", os.TempDir(), "folder for the images")
	cuts := flags.Int("cuts", 20, "how many cuts")
	seed := flags.Uint64("seed", rand.Uint64(), "of the random moments")
	var env, points, first list
	flags.Var(&env, "env", "NAME=VALUE for the broker; may be repeated")
	flags.Var(&points, "point", "POINT[@HITS]: cut also at a random one of the first HITS hits of a fault point; may be repeated")
	flags.Var(&first, "first-start", "POINT[@HITS]: the same in the first start; may be repeated")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *binary == "" {
		return errors.New("-binary is missing")
	}
	if err := powercut.Missing(*dir); err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(*seed, 1))
	moments, err := schedule(random, points, first)
	if err != nil {
		return err
	}
	h, err := powercut.Open(powercut.Options{Dir: *dir, Start: launch.Options{Binary: *binary, Env: env}, Seed: *seed})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d cuts, seed %d\n", *cuts, *seed)
	for i := range *cuts {
		cut, err := h.Cut(ctx, moments[i%len(moments)]())
		fmt.Fprintln(out, i+1, cut)
		if err != nil {
			return errors.Join(err, h.Close())
		}
	}
	return h.Close()
}

// schedule takes random moments and the points in turn.
func schedule(random *rand.Rand, points, first []string) ([]func() powercut.Moment, error) {
	moments := []func() powercut.Moment{func() powercut.Moment { return powercut.Moment{} }}
	for i, text := range append(append([]string(nil), points...), first...) {
		name, count, counted := strings.Cut(text, "@")
		hits := 1
		if counted {
			var err error
			if hits, err = strconv.Atoi(count); err != nil || hits < 1 {
				return nil, fmt.Errorf("point %q: want POINT@HITS", text)
			}
		}
		for _, action := range []fault.Action{fault.StopBefore, fault.StopAfter} {
			moments = append(moments, func() powercut.Moment {
				return powercut.Moment{Point: name, Action: action, Hit: 1 + random.IntN(hits), FirstStart: i >= len(points)}
			})
		}
	}
	return moments, nil
}
