package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/waxwing-mq/waxwing/client"
	"github.com/waxwing-mq/waxwing/examples/billing/collect"
	"github.com/waxwing-mq/waxwing/examples/orders/publish"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/ca"
	"github.com/waxwing-mq/waxwing/internal/launch"
)

// What the demo works with.
const (
	demoTrustDomain = "demo.waxwing.local"
	demoTopic       = "orders"
	demoOrders      = 10_000
)

// demoPolicy is the whole of who may do what in the demo. The intruder is named only so that there
// is a rule to point at: without its binding it could do as little.
const demoPolicy = `bindings:
  - identity: spiffe://demo.waxwing.local/client/orders
    allow:
      - {verbs: [publish], topics: [orders]}
  - identity: spiffe://demo.waxwing.local/client/billing
    allow:
      - {verbs: [subscribe], topics: [orders]}
  - identity: spiffe://demo.waxwing.local/client/intruder
    deny:
      - {verbs: [publish, subscribe], topics: [">"]}
auto_create:
  - {topics: orders, partitions: 1}
tests:
  - identity: spiffe://demo.waxwing.local/client/orders
    can: [publish orders]
    cannot: [subscribe orders]
`

// demoIntruderLine is the line of the intruder's deny rule in demoPolicy.
const demoIntruderLine = 10

// demo is what the steps share.
type demo struct {
	a      *app
	dir    string
	faults demoFaults
	shown  [][2]string

	authority *ca.Authority
	broker    *launch.Process
	orders    publish.Report
	billing   collect.Report

	// What a test changes to see a step fail.
	intruder string // whose certificate the intruder shows
	stranger string // folder of the stranger's files
	noResume bool   // the reconnecting client keeps no session

}

// demoStep is one step.
type demoStep struct {
	name  string
	title string
	run   func(*demo, context.Context) error
}

var demoSteps = []demoStep{
	{"certificates", "Certificates: an identity for everybody", (*demo).makeCertificates},
	{"start", "A broker starts, in a process of its own", (*demo).startBroker},
	{"publish", "The orders service publishes 10,000 records over mutual TLS", (*demo).publishOrders},
	{"read", "The billing service reads them back", (*demo).readOrders},
	{"intruder", "An intruder with a certificate of the same CA, but without rights", (*demo).refuseIntruder},
	{"stranger", "A stranger with a certificate of another CA", (*demo).refuseStranger},
	{"resume", "A lost connection comes back, without a full handshake", (*demo).resume},
	{"kill", "The broker is killed (kill -9) and started again", (*demo).killAndRestart},
}

// makeCertificates makes a CA, and a certificate for the broker and each service.
func (d *demo) makeCertificates(context.Context) (err error) {
	if d.authority, err = ca.New(demoTrustDomain); err != nil {
		return err
	}
	if err := ca.WriteFile(d.file("roots.crt"), d.authority.RootsPEM(), 0o644); err != nil {
		return err
	}
	broker := ca.Request{Name: "demo-1", Role: identity.RoleBroker, DNS: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}, TTL: time.Hour}
	if err := d.issue(d.authority, broker, ""); err != nil {
		return err
	}
	for _, name := range []string{"orders", "billing", "intruder"} {
		if err := d.issue(d.authority, ca.Request{Name: name, TTL: time.Hour}, ""); err != nil {
			return err
		}
		d.tell("%s is %s", name, identity.ClientID(demoTrustDomain, name))
	}
	d.plant("certificates")
	return d.checkCertificates()
}

// issue writes NAME.crt and NAME.key below a folder of the demo's.
func (d *demo) issue(authority *ca.Authority, r ca.Request, folder string) error {
	i, err := authority.Issue(r)
	if err != nil {
		return err
	}
	base := filepath.Join(d.dir, folder, r.Name)
	return errors.Join(ca.WriteFile(base+".key", i.KeyPEM, 0o600), ca.WriteFile(base+".crt", i.CertPEM, 0o644))
}

// checkCertificates reads each certificate as a broker would.
func (d *demo) checkCertificates() error {
	for _, name := range []string{"orders", "billing", "intruder"} {
		text, err := os.ReadFile(d.file(name + ".crt"))
		if err != nil {
			return err
		}
		r, err := identity.Inspect(name, text, demoTrustDomain, nil, d.authority.RootsPEM())
		if err != nil {
			return err
		}
		if want := identity.ClientID(demoTrustDomain, name); r.Identity != want || len(r.Faults) > 0 {
			return fmt.Errorf("certificate of %s: identity %q, faults %v, want %q and none", name, r.Identity, r.Faults, want)
		}
	}
	d.tell("there are no passwords: the certificate is the account")
	return nil
}

// startBroker writes a configuration and starts the broker as a child process.
func (d *demo) startBroker(ctx context.Context) error {
	if err := os.WriteFile(d.file("policy.yaml"), []byte(demoPolicy), 0o600); err != nil {
		return err
	}
	text := fmt.Sprintf("node: {id: demo-1, data_dir: %q}\ntrust_domain: %s\nlisten: {client: \"127.0.0.1:0\", peer: \"\", https: \"\"}\ntls: {cert: %q, key: %q, ca: %q}\npolicy: {file: %q}\nlog: {level: warn}\nstorage: {guard_bytes: %d, stall_reject: 1m, stall_end: 1m}\n",
		d.file("data"), demoTrustDomain, d.file("demo-1.crt"), d.file("demo-1.key"), d.file("roots.crt"), d.file("policy.yaml"), devGuardBytes)
	if err := os.WriteFile(d.file("broker.yaml"), []byte(text), 0o600); err != nil {
		return err
	}
	d.plant("start")
	if err := d.launch(ctx); err != nil {
		return err
	}
	d.tell("node %s listens on %s (process %d)", d.broker.Ready.Node, d.broker.Ready.Client, d.broker.PID())
	return nil
}

// launch starts the broker's process and checks that it is the one that was configured.
func (d *demo) launch(ctx context.Context) (err error) {
	if d.broker, err = launch.Start(ctx, launch.Options{Args: []string{"serve", "-c", d.file("broker.yaml")}}); err != nil {
		return err
	}
	if r := d.broker.Ready; r.Node != "demo-1" || r.PID != d.broker.PID() {
		return fmt.Errorf("node %q of process %d announced itself, want demo-1 of %d", r.Node, r.PID, d.broker.PID())
	}
	return nil
}

// stopBroker leaves no process behind.
func (d *demo) stopBroker() {
	if d.broker != nil {
		d.broker.Kill()
	}
}

// service runs an example service as a process and reads its report.
func (d *demo) service(ctx context.Context, command, name string, report any, more ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	list := append([]string{command, "--server", d.broker.Ready.Client, "--cert", d.file(name + ".crt"), "--key", d.file(name + ".key"), "--ca", d.file("roots.crt"), "--topic", demoTopic}, more...)
	cmd := exec.CommandContext(ctx, self, list...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("the %s service: %w: %s", name, err, bytes.TrimSpace(stderr.Bytes()))
	}
	if err := json.Unmarshal(out, report); err != nil {
		return fmt.Errorf("the %s service's report: %w", name, err)
	}
	return nil
}

// publishOrders runs the orders service.
func (d *demo) publishOrders(ctx context.Context) error {
	if err := d.service(ctx, ordersCommand, "orders", &d.orders, "--count", fmt.Sprint(demoOrders)); err != nil {
		return err
	}
	d.plant("publish")
	r := &d.orders
	if want := identity.ClientID(demoTrustDomain, "orders"); r.Identity != want || r.Count != demoOrders || r.FirstOffset != 0 || r.LastOffset != demoOrders-1 || r.Duplicates != 0 {
		return fmt.Errorf("the orders service as %s got offsets %d to %d for %d records, %d duplicates; want %d records from offset 0 as %s", r.Identity, r.FirstOffset, r.LastOffset, r.Count, r.Duplicates, demoOrders, want)
	}
	d.tell("every one was fsynced before it was acknowledged: offsets %d to %d in %d ms", r.FirstOffset, r.LastOffset, r.DurationMs)
	d.show("published and acknowledged", "%d records in %d ms", r.Count, r.DurationMs)
	return nil
}

// readOrders runs the billing service.
func (d *demo) readOrders(ctx context.Context) error {
	if err := d.service(ctx, billingCommand, "billing", &d.billing); err != nil {
		return err
	}
	d.plant("read")
	if err := d.compare(&d.billing); err != nil {
		return err
	}
	d.tell("all %d came, in order, with the same checksum, each stamped by the broker with", d.billing.Count)
	d.tell("the publisher it verified: %s", d.billing.Publisher)
	d.show("read back, in order, right bytes", "%d records in %d ms", d.billing.Count, d.billing.DurationMs)
	d.show("publisher of each, verified", "%s", d.billing.Publisher)
	return nil
}

// compare holds what was read against what was acknowledged.
func (d *demo) compare(r *collect.Report) error {
	o := &d.orders
	if r.Count != o.Count || r.FirstOffset != o.FirstOffset || r.LastOffset != o.LastOffset || r.Checksum != o.Checksum || r.Publisher != o.Identity {
		return fmt.Errorf("read %d records from %d to %d by %s with checksum %s; acknowledged were %d from %d to %d by %s with %s",
			r.Count, r.FirstOffset, r.LastOffset, r.Publisher, r.Checksum, o.Count, o.FirstOffset, o.LastOffset, o.Identity, o.Checksum)
	}
	return nil
}

// dial connects with a certificate of a folder of the demo's.
func (d *demo) dial(ctx context.Context, folder, name string, more func(*client.Options)) (*client.Client, error) {
	base := filepath.Join(d.dir, folder, name)
	o := client.Options{Servers: []string{d.broker.Ready.Client}, CertFile: base + ".crt", KeyFile: base + ".key", CAFile: d.file("roots.crt"), Name: "demo"}
	if more != nil {
		more(&o)
	}
	return client.Dial(ctx, o)
}

// refuseIntruder tries to publish and to read without the right.
func (d *demo) refuseIntruder(ctx context.Context) error {
	d.intruder = "intruder"
	d.plant("intruder")
	c, err := d.dial(ctx, "", d.intruder, nil)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	_, publishErr := c.Publish(ctx, demoTopic, client.Record{Body: []byte("a forged order")})
	_, subscribeErr := c.Subscribe(ctx, client.SubscribeOptions{Topics: []string{demoTopic}, From: client.Earliest()})
	for what, err := range map[string]error{"publish": publishErr, "subscribe": subscribeErr} {
		var denied *client.DeniedError
		if !errors.As(err, &denied) {
			return fmt.Errorf("%s by the intruder: got %v, want a denial", what, err)
		}
		if denied.Identity != identity.ClientID(demoTrustDomain, "intruder") || denied.Rule == "" || denied.Line != demoIntruderLine || denied.PolicyVersion != 1 {
			return fmt.Errorf("%s by the intruder: denied as %q by rule %q, line %d, version %d", what, denied.Identity, denied.Rule, denied.Line, denied.PolicyVersion)
		}
	}
	var denied *client.DeniedError
	errors.As(publishErr, &denied)
	d.tell("denied, by rule %s in line %d of policy version %d", denied.Rule, denied.Line, denied.PolicyVersion)
	d.show("intruder", "denied by %s, line %d", denied.Rule, denied.Line)
	return nil
}

// refuseStranger tries to connect with a certificate that looks right and is of another CA.
func (d *demo) refuseStranger(ctx context.Context) error {
	other, err := ca.New(demoTrustDomain)
	if err != nil {
		return err
	}
	d.stranger = "stranger"
	if err := os.Mkdir(d.file(d.stranger), 0o700); err != nil {
		return err
	}
	if err := d.issue(other, ca.Request{Name: "orders", TTL: time.Hour}, d.stranger); err != nil {
		return err
	}
	d.plant("stranger")
	c, err := d.dial(ctx, d.stranger, "orders", nil)
	if err == nil {
		c.Close(ctx)
		return errors.New("the stranger got in")
	}
	var tls *client.TLSError
	if !errors.As(err, &tls) {
		return fmt.Errorf("the stranger got %v, want a refusal in TLS", err)
	}
	d.tell("it claims to be orders, and does not get through the handshake:")
	d.tell("%s", tls.What)
	d.show("stranger", "refused in TLS")
	return nil
}

// resume cuts a connection and looks, on both ends, at how it came back.
func (d *demo) resume(ctx context.Context) error {
	d.plant("resume")
	var mu sync.Mutex
	var last net.Conn
	connected := make(chan *client.ConnectedEvent, 4)
	c, err := d.dial(ctx, "", "billing", func(o *client.Options) {
		o.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			mu.Lock()
			defer mu.Unlock()
			last = conn
			return conn, err
		}
		o.OnEvent = func(e client.Event) {
			if e, ok := e.(*client.ConnectedEvent); ok {
				connected <- e
			}
		}
	})
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	if _, err := c.WhoAmI(ctx); err != nil { // by then the client has read its ticket
		return err
	}
	if d.noResume {
		return d.checkResumed(ctx, c)
	}
	<-connected
	mu.Lock()
	last.Close()
	mu.Unlock()
	select {
	case <-connected:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return d.checkResumed(ctx, c)
}

// checkResumed asks client and broker for their view of the handshake.
func (d *demo) checkResumed(ctx context.Context, c *client.Client) error {
	state, ok := c.ConnectionState()
	who, err := c.WhoAmI(ctx)
	if err != nil {
		return err
	}
	if !ok || !state.DidResume || !who.Resumed {
		return fmt.Errorf("resumed: the client says %v, the broker %v; want both", state.DidResume, who.Resumed)
	}
	d.tell("client and broker both say: resumed (%s, %s, key exchange %s)", who.TLSVersion, who.Cipher, who.Group)
	d.show("reconnect", "TLS session resumed, %s", who.Group)
	return nil
}

// killAndRestart kills the broker's process and looks for every acknowledged record.
func (d *demo) killAndRestart(ctx context.Context) error {
	old := d.broker.PID()
	d.broker.Kill()
	d.plant("kill")
	start := time.Now()
	if err := d.launch(ctx); err != nil {
		return err
	}
	took := time.Since(start)
	if d.broker.PID() == old {
		return errors.New("it is the same process")
	}
	var again collect.Report
	if err := d.service(ctx, billingCommand, "billing", &again); err != nil {
		return err
	}
	if err := d.compare(&again); err != nil {
		return err
	}
	d.tell("process %d was killed, process %d serves after %d ms, and all %d records are there", old, d.broker.PID(), took.Milliseconds(), again.Count)
	d.show("after kill -9", "%d of %d acknowledged records there", again.Count, d.orders.Count)
	d.show("restart", "%d ms", took.Milliseconds())
	return nil
}
