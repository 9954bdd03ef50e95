package launch

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// Options say what to start.
type Options struct {
	Binary string   // program; "" = the running executable
	Args   []string // arguments behind the program's name
	Env    []string // added to the caller's environment
	Dir    string   // working directory; "" = the caller's
	Stdout io.Writer
	Stderr io.Writer // nil = kept, the last part is shown when the start fails
	// OwnGroup keeps the terminal's ^C from the child, which then is the caller's to stop.
	OwnGroup bool
}

// Process is a running child. Its methods may be used by many goroutines at once.
type Process struct {
	Ready Ready // as the child announced it

	cmd   *exec.Cmd
	ready chan []byte   // the announcement, or nothing if the child ends without one
	done  chan struct{} // closed when the child has ended
	err   error         // valid once done is closed
	tail  *tail
}

// Start starts a child and waits until it announces that it serves, it ends, or ctx
// does. A child that is not ready is killed.
func Start(ctx context.Context, o Options) (*Process, error) {
	p, err := Spawn(o)
	if err != nil {
		return nil, err
	}
	if err := p.AwaitReady(ctx); err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

// Spawn starts a child and does not wait for it: for those who have business with one that is
// still starting. Ready is empty until AwaitReady.
func Spawn(o Options) (*Process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}
	p, err := spawn(o, w)
	w.Close()
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	go func() {
		defer r.Close()
		text, _ := bufio.NewReader(r).ReadBytes('\n') // the pipe closes when the child ends
		p.ready <- text
	}()
	return p, nil
}

// spawn starts the process with the pipe as descriptor 3.
func spawn(o Options, ready *os.File) (*Process, error) {
	binary := o.Binary
	if binary == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("start broker: %w", err)
		}
		binary = self
	}
	p := &Process{cmd: exec.Command(binary, o.Args...), ready: make(chan []byte, 1), done: make(chan struct{}), tail: &tail{also: o.Stderr}}
	p.cmd.Env = append(append(os.Environ(), o.Env...), ReadyFD+"=3")
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = o.Dir, o.Stdout, p.tail
	p.cmd.ExtraFiles = []*os.File{ready}
	p.cmd.SysProcAttr = attributes(o.OwnGroup)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start broker %s: %w", binary, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// AwaitReady waits until a spawned child announces that it serves, it ends, or ctx does. It is
// called once.
func (p *Process) AwaitReady(ctx context.Context) error {
	err := p.awaitReady(ctx)
	if err != nil {
		return fmt.Errorf("start broker: %w%s", err, p.tail.quote())
	}
	return nil
}

func (p *Process) awaitReady(ctx context.Context) error {
	select {
	case text := <-p.ready:
		if len(text) == 0 {
			<-p.done
			return fmt.Errorf("it ended before it was ready: %w", orExit(p.err))
		}
		return json.Unmarshal(text, &p.Ready)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// orExit replaces the nil error of a clean exit.
func orExit(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// PID is the process id of the child.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the end and returns how it ended, as exec.Cmd.Wait does.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Kill ends the child with SIGKILL, as kill -9 does, and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Stop asks the child to end (SIGTERM) and waits; when ctx ends first it is killed.
func (p *Process) Stop(ctx context.Context) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		p.Kill()
		return fmt.Errorf("stop broker: killed: %w", context.Cause(ctx))
	}
}

// Log returns the last part of what the child wrote to its standard error.
func (p *Process) Log() string { return p.tail.String() }

// tailBytes is how much of a child's log is kept.
const tailBytes = 64 << 10

// tail keeps the end of what is written to it.
type tail struct {
	also io.Writer
	mu   sync.Mutex
	data []byte // Guarded by mu.
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	t.data = append(t.data, b...)
	if over := len(t.data) - tailBytes; over > 0 {
		t.data = append(t.data[:0], t.data[over:]...)
	}
	t.mu.Unlock()
	if t.also != nil {
		return t.also.Write(b)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.data)
}

// quote is the log for an error text.
func (t *tail) quote() string {
	if s := t.String(); s != "" {
		return "; its log ends:\n" + s
	}
	return ""
}
