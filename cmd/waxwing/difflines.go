package main

import (
	"slices"
	"strings"
)

// diffLines compares two texts by line: "-" only in a, "+" only in b, with the lines of both
// that stand around a change. Texts that are equal,
// but for a newline at the end, give no line.
func diffLines(a, b string) []string {
	a, b = strings.TrimSuffix(a, "\n"), strings.TrimSuffix(b, "\n")
	if a == b {
		return []string{}
	}
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	var head, tail []string
	for len(x) > 0 && len(y) > 0 && x[0] == y[0] {
		head = append(head, " "+x[0])
		x, y = x[1:], y[1:]
	}
	for len(x) > 0 && len(y) > 0 && x[len(x)-1] == y[len(y)-1] {
		tail = append(tail, " "+x[len(x)-1])
		x, y = x[:len(x)-1], y[:len(y)-1]
	}
	slices.Reverse(tail)
	return around(slices.Concat(head, changedLines(x, y), tail))
}

// cellsMax bounds the table that finds what two texts have in common.
const cellsMax = 4 << 20

// changedLines are the lines of two texts that begin and end differently. Where both are very long nothing
// is looked for in common.
func changedLines(x, y []string) []string {
	var out []string
	if len(x)*len(y) > cellsMax {
		for _, l := range x {
			out = append(out, "-"+l)
		}
		for _, l := range y {
			out = append(out, "+"+l)
		}
		return out
	}
	common := commonLines(x, y)
	i, j := 0, 0
	for i < len(x) || j < len(y) {
		switch {
		case i < len(x) && j < len(y) && x[i] == y[j]:
			out = append(out, " "+x[i])
			i, j = i+1, j+1
		case j == len(y) || i < len(x) && common[i+1][j] >= common[i][j+1]:
			out = append(out, "-"+x[i])
			i++
		default:
			out = append(out, "+"+y[j])
			j++
		}
	}
	return out
}

// commonLines is the table of the longest common subsequence: entry [i][j] is its length for x[i:]
// and y[j:].
func commonLines(x, y []string) [][]int {
	table := make([][]int, len(x)+1)
	for i := range table {
		table[i] = make([]int, len(y)+1)
	}
	for i := len(x) - 1; i >= 0; i-- {
		for j := len(y) - 1; j >= 0; j-- {
			if x[i] == y[j] {
				table[i][j] = table[i+1][j+1] + 1
			} else {
				table[i][j] = max(table[i+1][j], table[i][j+1])
			}
		}
	}
	return table
}

// contextLines is how many equal lines are kept on each side of a change.
const contextLines = 3

// around drops equal lines that are far from every change.
func around(lines []string) []string {
	keep := make([]bool, len(lines))
	for i, l := range lines {
		if l[0] == ' ' {
			continue
		}
		for k := max(0, i-contextLines); k <= min(len(lines)-1, i+contextLines); k++ {
			keep[k] = true
		}
	}
	var out []string
	for i, l := range lines {
		switch {
		case keep[i]:
			out = append(out, l)
		case i == 0 || keep[i-1]:
			out = append(out, "...")
		}
	}
	return out
}
