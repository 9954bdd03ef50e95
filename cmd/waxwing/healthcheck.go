package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/waxwing-mq/waxwing/identity"
)

func newHealthcheckCommand(a *app) *cobra.Command {
	var f configFlags
	var page string
	c := &cobra.Command{Use: "healthcheck -c FILE", Short: "Ask the broker of a configuration whether it is alive, with its own certificate (exit code 0 or 1)", Args: args(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
		conf, err := f.load(a.env)
		if err == nil {
			err = a.healthcheck(c.Context(), conf, page)
		}
		if err != nil {
			return &exitError{exitFailure, err} // Docker reserves 2
		}
		return nil
	}}
	f.add(c)
	c.Flags().StringVar(&page, "page", "/livez", "/livez or /readyz")
	return c
}

// healthcheck asks one page.
func (a *app) healthcheck(ctx context.Context, c *config, page string) error {
	source, err := identity.OpenClient(identity.ClientOptions{CertFile: c.TLSCert, KeyFile: c.TLSKey, CAFile: c.TLSCA, TrustDomain: c.TrustDomain})
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(c.ListenHTTPS)
	if err != nil {
		return fmt.Errorf("listen.https: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+net.JoinHostPort(host, port)+page, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{TLSClientConfig: source.ConfigFor(host, identity.AdminSide), ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", page, answer.Status, text)
	}
	return err
}
