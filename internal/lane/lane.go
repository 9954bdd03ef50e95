// Package lane decides which tests run: 1 on every commit, 2 before a merge, 3
// nightly. The environment variable WAXWING_LANE chooses; the default is 1.
package lane

import (
	"os"
	"strconv"
	"testing"
)

// Current is the lane of this run.
func Current() int {
	n, err := strconv.Atoi(os.Getenv("WAXWING_LANE"))
	if err != nil || n < 1 {
		return 1
	}
	return n
}

// Need skips t unless this run's lane is at least n. rows are the ids of the test
// catalogue that the test answers for; the skip prints them.
func Need(t testing.TB, n int, rows string) {
	t.Helper()
	if Current() < n {
		t.Skipf("%s: lane %d test, this is lane %d (WAXWING_LANE=%d runs it)", rows, n, Current(), n)
	}
}

// Pick returns the first value in lane 1, the second in lane 2 and the third from lane 3 on.
func Pick[T any](one, two, three T) T {
	switch Current() {
	case 1:
		return one
	case 2:
		return two
	}
	return three
}

// Third is for tables that are too long for lane 2: there it skips t unless i, a number of the row, divides by three. When i adds the
// numbers of a point and of what happens at it, each point and each fault has its turn. Lane 3 runs every row.
func Third(t testing.TB, i int, rows string) {
	t.Helper()
	switch {
	case Current() < 2:
		Need(t, 2, rows)
	case i%3 != 0:
		Need(t, 3, rows)
	}
}
