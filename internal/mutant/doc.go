// Package mutant keeps the tests honest: it plants known faults into a copy of the project, one at a time, and
// looks whether the test that answers for each turns red (row S-03 of the test catalogue).
//
// A fault is a file in testdata/mutants: a few lines of "Name: value", then a unified diff. The diff must apply to the
// tree as it is, the copy must compile with it, and the named test must pass without it and fail by an assertion of its
// own with it; a panic, a time-out or a skip is not enough.
//
// Nothing outside the copy is touched. The package does not invent faults.
package mutant
