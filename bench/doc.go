// Package bench measures brokers the way a service meets them: through the public client, over mutual TLS, with every
// acknowledged record fsynced by a majority. `waxwing bench` is its face; the Go benchmarks of a whole node are here, too.
//
// What holds for every figure:
//   - Every payload carries its stream, its number and a checksum. A run in which a record was lost, doubled, out of order or
//     changed ends with a FaultError, and its figures are no result.
//   - With a rate the loop is open: records have a time at which they are due, and latency counts from then, so that a broker
//     that stalls does not also slow the one who measures (coordinated omission).
//   - Warm-up is a phase of its own that ends with nothing in flight; then processor time is read and measuring begins.
//   - Conditions go with every result.
//
// What it does not do: it starts no brokers (a Target has them), and it knows nothing of a broker but what a client, its
// process and its metrics tell.
package bench
