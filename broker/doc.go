// Package broker serves clients: it accepts connections, identifies them, checks every request
// against the policy, and runs publishing, subscriptions, consumer groups, topics, policy and revocations.
//
// Two goroutines per connection: readLoop dispatches, writeLoop is the only writer. Each subscription has one
// more. Frame kinds, the verbs they need and their handlers are one table (table.go), the only place
// that dispatches; every answer to a denied request is made in one place (denied).
//
// A connection's memory is bounded: publishes by its window, deliveries by the outbox, everything else by a
// number of requests at once. What is idle holds a few KiB.
package broker
