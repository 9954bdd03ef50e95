package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"text/template"

	"github.com/waxwing-mq/waxwing/identity/ca"
	"github.com/waxwing-mq/waxwing/internal/launch"
)

// devNodesMax is how many nodes dev starts at most.
const devNodesMax = 5

// devNodesFile remembers in dev's folder which nodes it holds and where they listen.
const devNodesFile = "nodes.json"

// devNodes are the nodes of a developer's cluster.
type devNodes struct {
	Nodes []devMember `json:"nodes"`
}

// devMember is one of them. Its addresses never change: the others know it by them.
type devMember struct {
	ID     string `json:"id"`
	Client string `json:"client"`
	Peer   string `json:"peer"`
}

// checkDevNodes says whether so many nodes make sense.
func checkDevNodes(n int) error {
	if n < 1 || n > devNodesMax || n%2 == 0 {
		return usage("--nodes %d: 1, 3 or 5; an even number survives no more failures than the odd one below it", n)
	}
	return nil
}

// devCluster runs several brokers as processes of their own, until all have ended or ctx does.
func (a *app) devCluster(ctx context.Context, dir, listen string, count int, files *devFiles) error {
	nodes, err := loadDevNodes(dir, listen, count)
	if err != nil {
		return err
	}
	running := make([]*launch.Process, 0, count)
	defer func() { stopAll(running) }()
	for _, n := range nodes.Nodes {
		conf, err := writeDevNode(dir, n, nodes, files, a.flags.verbose)
		if err != nil {
			return err
		}
		p, err := launch.Spawn(launch.Options{Args: []string{"serve", "-c", conf}, Stderr: a.stderr})
		if err != nil {
			return err
		}
		running = append(running, p)
	}
	for _, p := range running { // none is ready before most are
		if err := p.AwaitReady(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	if err := a.introduceCluster(nodes, running, files); err != nil {
		return err
	}
	return a.watchDevNodes(ctx, nodes, running)
}

// watchDevNodes says when a node ends. None is started again.
func (a *app) watchDevNodes(ctx context.Context, nodes *devNodes, running []*launch.Process) error {
	ended := make(chan int, len(running))
	for i, p := range running {
		go func() {
			<-p.Done()
			ended <- i
		}()
	}
	for left := len(running); left > 0; {
		select {
		case <-ctx.Done():
			return nil
		case i := <-ended:
			left--
			if ctx.Err() == nil {
				a.say("node %s (pid %d) has ended: %v; %d of %d go on", nodes.Nodes[i].ID, running[i].PID(), orExited(running[i].Wait()), left, len(running))
			}
		}
	}
	return &exitError{exitFailure, errors.New("every node has ended")}
}

func orExited(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// stopAll stops nodes together, the patient way first.
func stopAll(running []*launch.Process) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*stopTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, p := range running {
		wg.Go(func() { _ = p.Stop(ctx) })
	}
	wg.Wait()
}

// introduceCluster selects the context and says how to go on.
func (a *app) introduceCluster(nodes *devNodes, running []*launch.Process, f *devFiles) error {
	entry := contextEntry{Cert: f.clientCert, Key: f.clientKey, CA: f.roots}
	for i, n := range nodes.Nodes {
		entry.Servers = append(entry.Servers, n.Client)
		a.say("node %s on %s, pid %d", n.ID, n.Client, running[i].PID())
	}
	if err := a.saveContext(devContext, entry); err != nil {
		return err
	}
	program := invocation()
	a.say("%d brokers; context \"dev\" is selected; ^C stops them, kill -9 of one leaves the others. In other terminals:", len(running))
	_, err := fmt.Fprintf(a.stdout, "%s sub 'greetings.>'\necho hello | %s pub greetings.en\n", program, program)
	if err != nil {
		return err
	}
	return launch.Announce(launch.Ready{PID: os.Getpid(), Node: devNode, Client: strings.Join(entry.Servers, ",")}, a.env)
}

// loadDevNodes reads which nodes a folder holds, or begins them.
func loadDevNodes(dir, listen string, count int) (*devNodes, error) {
	name := filepath.Join(dir, devNodesFile)
	nodes := &devNodes{}
	text, err := os.ReadFile(name)
	switch {
	case err == nil:
		if err := json.Unmarshal(text, nodes); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(nodes.Nodes) != count {
			return nil, usage("%s holds %d nodes, not %d; use another folder", dir, len(nodes.Nodes), count)
		}
		return nodes, nil
	case !errors.Is(err, os.ErrNotExist):
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, devDataDir)); err == nil {
		return nil, usage("%s holds one node, not %d; use another folder", dir, count)
	}
	if nodes.Nodes, err = placeDevNodes(listen, count); err != nil {
		return nil, err
	}
	if text, err = json.MarshalIndent(nodes, "", "  "); err != nil {
		return nil, err
	}
	return nodes, ca.WriteFile(name, append(text, '\n'), 0o600)
}

// placeDevNodes finds ports that are free now, and stay the nodes' own.
func placeDevNodes(listen string, count int) ([]devMember, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, err
	}
	if port != "0" {
		return nil, usage("--listen %s: several nodes find their own ports; leave it out", listen)
	}
	var held []net.Listener // until all are found, so that none is found twice
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	free := func() (string, error) {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			return "", err
		}
		held = append(held, l)
		return l.Addr().String(), nil
	}
	var nodes []devMember
	for _, id := range devNames(count) {
		client, err := free()
		if err != nil {
			return nil, err
		}
		peer, err := free()
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, devMember{ID: id, Client: client, Peer: peer})
	}
	return nodes, nil
}

// devNodeConfig is the configuration of one of several nodes.
var devNodeConfig = template.Must(template.New("").Parse(`# Written by waxwing dev at each start.
node:
  id: {{.Node.ID}}
  data_dir: {{printf "%q" .Data}}
trust_domain: ` + devTrustDomain + `
listen:
  client: {{.Node.Client}}
  peer: {{.Node.Peer}}
  https: 127.0.0.1:0
tls:
  cert: {{printf "%q" .Cert}}
  key: {{printf "%q" .Key}}
  ca: {{printf "%q" .Files.Roots}}
cluster:
  bootstrap_expect: {{len .Nodes}}
  join:{{range .Nodes}}
    - {{.ID}}@{{.Peer}}{{end}}
policy:
  file: {{printf "%q" .Files.Policy}}
storage:
  guard_bytes: {{.Guard}}
log:
  level: {{.Level}}
`))

// writeDevNode writes a node's configuration and returns its name.
func writeDevNode(dir string, n devMember, nodes *devNodes, f *devFiles, verbose bool) (string, error) {
	level := "warn"
	if verbose {
		level = "info"
	}
	pair := f.brokers[n.ID]
	var b strings.Builder
	err := devNodeConfig.Execute(&b, map[string]any{"Node": n, "Nodes": nodes.Nodes, "Data": filepath.Join(dir, n.ID), "Cert": pair.cert, "Key": pair.key,
		"Files": map[string]string{"Roots": f.roots, "Policy": f.policy}, "Guard": devGuardBytes, "Level": level})
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, n.ID+".yaml")
	return name, ca.WriteFile(name, []byte(b.String()), 0o600)
}
