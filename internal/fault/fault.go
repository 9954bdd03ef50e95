package fault

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// Env is the variable that ArmFromEnv reads: "point=action[@n]", joined by commas; n is
// the hit that acts, counted from 1.
const Env = "WAXWING_TEST_FAULT"

// Action is what happens at a point.
type Action string

// Actions.
const (
	Error       Action = "error"        // Before fails; the step is not done
	ErrorDone   Action = "error-done"   // After fails; the step was done
	CrashBefore Action = "crash-before" // SIGKILL before the step
	CrashAfter  Action = "crash-after"  // SIGKILL after the step
	PanicBefore Action = "panic-before"
	PanicAfter  Action = "panic-after"
	StopBefore  Action = "stop-before" // SIGSTOP before the step; SIGCONT goes on with it
	StopAfter   Action = "stop-after"  // SIGSTOP after the step
	Hang        Action = "hang"        // Before does not return until Disarm
)

// Failures lists the actions that fail a step or end the process, for tables.
func Failures() []Action {
	return []Action{Error, ErrorDone, CrashBefore, CrashAfter, PanicBefore, PanicAfter}
}

// Actions lists every action.
func Actions() []Action {
	return append(Failures(), StopBefore, StopAfter, Hang)
}

// ErrInjected is what a failing point returns.
var ErrInjected = errors.New("injected fault")

// plan is one armed point.
type plan struct {
	action Action
	left   int // hits until it acts
}

// armed is nil when every point is off.
var (
	armed atomic.Bool
	mu    sync.Mutex
	plans map[string]*plan // Guarded by mu.
	hung  []chan struct{}  // Guarded by mu. Closed by Disarm.
)

// Arm makes the n-th hit of a point act; n starts at 1. The point acts once.
func Arm(point string, action Action, n int) {
	mu.Lock()
	defer mu.Unlock()
	if plans == nil {
		plans = map[string]*plan{}
	}
	plans[point] = &plan{action: action, left: max(n, 1)}
	armed.Store(true)
}

// Disarm turns every point off.
func Disarm() {
	mu.Lock()
	defer mu.Unlock()
	plans = nil
	armed.Store(false)
	for _, c := range hung {
		close(c)
	}
	hung = nil
}

// ArmFromEnv arms what Env says. Only test binaries call it.
func ArmFromEnv() error {
	text := os.Getenv(Env)
	if text == "" {
		return nil
	}
	for item := range strings.SplitSeq(text, ",") {
		point, rest, ok := strings.Cut(item, "=")
		action, count, counted := strings.Cut(rest, "@")
		n := 1
		if counted {
			var err error
			if n, err = strconv.Atoi(count); err != nil {
				return fmt.Errorf("%s: %q: hit %q is no number", Env, item, count)
			}
		}
		if !ok || !known(Action(action)) {
			return fmt.Errorf("%s: %q: want point=action[@n], with an action of %v", Env, item, Actions())
		}
		Arm(point, Action(action), n)
	}
	return nil
}

func known(a Action) bool {
	return slices.Contains(Actions(), a)
}

// Before stands before a step. An error means: do not do the step.
func Before(point string) error {
	if !armed.Load() {
		return nil
	}
	switch hit(point, Error, CrashBefore, PanicBefore, StopBefore, Hang) {
	case Error:
		return fmt.Errorf("%s: %w", point, ErrInjected)
	case CrashBefore:
		die()
	case PanicBefore:
		panic("fault: before " + point)
	case StopBefore:
		stop()
	case Hang:
		hang()
	}
	return nil
}

// hang waits for Disarm.
func hang() {
	c := make(chan struct{})
	mu.Lock()
	hung = append(hung, c)
	mu.Unlock()
	<-c
}

// After stands behind a step that was done. An error means: it was done, but the caller
// was told that it was not.
func After(point string) error {
	if !armed.Load() {
		return nil
	}
	switch hit(point, ErrorDone, CrashAfter, PanicAfter, StopAfter) {
	case ErrorDone:
		return fmt.Errorf("%s (done): %w", point, ErrInjected)
	case CrashAfter:
		die()
	case PanicAfter:
		panic("fault: after " + point)
	case StopAfter:
		stop()
	}
	return nil
}

// Step runs a step between its two points.
func Step(point string, step func() error) error {
	if err := Before(point); err != nil {
		return err
	}
	if err := step(); err != nil {
		return err
	}
	return After(point)
}

// hit counts and returns the action if it is due and one of wanted, else "".
func hit(point string, wanted ...Action) Action {
	mu.Lock()
	defer mu.Unlock()
	p := plans[point]
	if p == nil {
		return ""
	}
	for _, w := range wanted {
		if p.action != w {
			continue
		}
		if p.left--; p.left == 0 {
			delete(plans, point)
			return p.action
		}
	}
	return ""
}

// die ends the process as a power cut would: nothing is flushed, nothing deferred runs.
func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}
