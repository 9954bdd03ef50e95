// Package publish is the example service "orders": it publishes a known sequence of
// orders over mutual TLS and reports what the broker acknowledged. It uses nothing
// but the public client.
package publish
