package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// serverEnv makes this program a nats-server with the configuration that is its value.
const serverEnv = "WAXWING_PEERS_NATS"

// natsConfig is what a child is told.
type natsConfig struct {
	Name, Dir     string
	Port          int
	ClusterPort   int // 0 = alone
	Routes        []string
	Cert, Key, CA string
	Always        bool // sync_interval: always
}

// serveNATS is one server, until it is killed.
func serveNATS(text string) error {
	var c natsConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return fmt.Errorf("%s: %w", serverEnv, err)
	}
	tlsConfig, err := files{c.Cert, c.Key, c.CA}.load()
	if err != nil {
		return err
	}
	o := &server.Options{ServerName: c.Name, Host: "127.0.0.1", Port: c.Port, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: c.Dir, SyncAlways: c.Always,
		TLS: true, TLSVerify: true, TLSConfig: tlsConfig, TLSTimeout: 10, TLSHandshakeFirst: true}
	if c.ClusterPort > 0 {
		o.Cluster = server.ClusterOpts{Name: "peers", Host: "127.0.0.1", Port: c.ClusterPort, TLSConfig: tlsConfig, TLSTimeout: 10}
		for _, text := range c.Routes {
			u, err := url.Parse(text)
			if err != nil {
				return err
			}
			o.Routes = append(o.Routes, u)
		}
	}
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		return errors.New("nats-server did not start within a minute")
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, os.Interrupt)
	<-end
	s.Shutdown()
	return nil
}

// withParent lets the kernel end a child with this process.
func withParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
