package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/waxwing-mq/waxwing/client"
)

// timeoutDefault bounds a request when --timeout does not.
const timeoutDefault = 10 * time.Second

// timeout is --timeout or WAXWING_TIMEOUT.
func (a *app) timeout() (time.Duration, error) {
	text := a.flags.timeout
	if text == "" {
		text = a.env("WAXWING_TIMEOUT")
	}
	if text == "" {
		return timeoutDefault, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, usage("--timeout %q: give a duration above zero, such as 5s", text)
	}
	return d, nil
}

// connectAs dials the broker that flags, environment and context name, with more options.
func (a *app) connectAs(ctx context.Context, change func(*client.Options)) (*client.Client, error) {
	o, err := a.clientOptions()
	if err != nil {
		return nil, err
	}
	change(&o)
	ctx, cancel := context.WithTimeout(ctx, o.DialTimeout)
	defer cancel()
	c, err := client.Dial(ctx, o)
	if errors.Is(err, client.ErrOptions) {
		return nil, fmt.Errorf("%w; see: waxwing context show", err)
	}
	return c, err
}

// clientOptions turns flags, environment and context into options of the client.
func (a *app) clientOptions() (client.Options, error) {
	r, err := a.reach()
	if err != nil {
		return client.Options{}, err
	}
	for _, v := range []struct{ what, value string }{{"server (-s)", r.Servers.Value}, {"certificate (--cert)", r.Cert.Value}, {"private key (--key)", r.Key.Value}, {"CA file (--ca)", r.CA.Value}} {
		if v.value == "" {
			return client.Options{}, usage("no %s: give the flag, or select a context (waxwing context use NAME); for a broker to play with: waxwing dev", v.what)
		}
	}
	timeout, err := a.timeout()
	if err != nil {
		return client.Options{}, err
	}
	o := client.Options{
		Servers: strings.Split(r.Servers.Value, ","), CertFile: r.Cert.Value, KeyFile: r.Key.Value, CAFile: r.CA.Value, ServerName: r.ServerName.Value,
		Name: "waxwing/" + version, DialTimeout: timeout, RequestTimeout: timeout,
	}
	if a.flags.verbose {
		o.Logger = slog.New(slog.NewTextHandler(a.stderr, nil))
	}
	return o, nil
}

// with connects, runs f, and closes.
func (a *app) with(ctx context.Context, f func(context.Context, *client.Client) error) error {
	return a.withOptions(ctx, func(*client.Options) {}, f)
}

// withOptions is with, with other options.
func (a *app) withOptions(ctx context.Context, change func(*client.Options), f func(context.Context, *client.Client) error) error {
	c, err := a.connectAs(ctx, change)
	if err != nil {
		return err
	}
	err = f(ctx, c)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if closeErr := c.Close(closing); err == nil && closeErr != nil {
		err = fmt.Errorf("close: %w", closeErr)
	}
	return err
}
