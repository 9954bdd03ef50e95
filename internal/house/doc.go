// Package house holds the test that keeps the structure of the project true: which
// room may import which (the ladder) and which room is the only one to touch a
// dependency (the owners). The tables in rooms.go are DESIGN section 1 as data.
//
// It reads import declarations and a few calls as syntax; it does not type-check.
package house
