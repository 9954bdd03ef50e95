package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
)

// profileEnv in the environment of a broker names a folder into which it writes profiles of itself when it stops. It is no key of the
// configuration, and nothing that can be asked for over the network.
const profileEnv = "WAXWING_PROFILE_DIR"

// How much of waiting profiles see: one of so many waits for a lock, and one wait for so many nanoseconds of waiting.
const (
	mutexFraction = 10
	blockRate     = 10_000
)

// profiles are those of this process, from when they were begun until they are written. There is one set at a time; nil = none.
type profiles struct {
	name string // of every file, without its end
	cpu  *os.File
}

// beginProfiles begins profiles that are written to dir as NAME.cpu.pprof and so on; dir "" = none.
func beginProfiles(dir, name string) (_ *profiles, err error) {
	if dir == "" {
		return nil, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, usage("folder for profiles: %w", err)
	}
	p := &profiles{name: filepath.Join(dir, name)}
	if p.cpu, err = os.Create(p.file("cpu")); err != nil {
		return nil, usage("folder for profiles: %w", err)
	}
	if err := pprof.StartCPUProfile(p.cpu); err != nil {
		return nil, errors.Join(fmt.Errorf("profile: %w", err), p.cpu.Close())
	}
	runtime.SetMutexProfileFraction(mutexFraction)
	runtime.SetBlockProfileRate(blockRate)
	return p, nil
}

func (p *profiles) file(kind string) string { return p.name + "." + kind + ".pprof" }

// end writes all of them.
func (p *profiles) end() error {
	if p == nil {
		return nil
	}
	pprof.StopCPUProfile()
	runtime.SetMutexProfileFraction(0)
	runtime.SetBlockProfileRate(0)
	runtime.GC() // what is in use is that after a collection
	errs := []error{p.cpu.Close()}
	for _, kind := range []string{"allocs", "mutex", "block"} {
		errs = append(errs, p.write(kind))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	return nil
}

// write writes one that the runtime keeps; allocs has what is in use, too.
func (p *profiles) write(kind string) error {
	f, err := os.Create(p.file(kind))
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup(kind).WriteTo(f, 0), f.Close())
}
