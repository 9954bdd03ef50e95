package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// table gathers results.
type table struct {
	settings *settings
	kinds    []kind
	jobs     []job
	results  map[string][]result
}

func newTable(s *settings, kinds []kind, jobs []job) *table {
	return &table{s, kinds, jobs, map[string][]result{}}
}

func (t *table) add(k kind, j job, r result) {
	t.results[k.name+j.name] = append(t.results[k.name+j.name], r)
}

// print writes medians, with the smallest and largest rate, and each rate as a ratio to the first system's.
func (t *table) print(w io.Writer) error {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	fmt.Fprintf(w, "%s, %s, %d cores, Linux %s; client and servers share the machine\n", time.Now().UTC().Format(time.RFC3339), runtime.Version(), runtime.NumCPU(), strings.TrimSpace(string(kernel)))
	fmt.Fprintf(w, "mutual TLS 1.3, %d random bytes a record, one partition or stream, client at its leader; medians of %d\n\n", t.settings.size, t.settings.rounds)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "job\tsystem\tacknowledged means\trecords/s\t(min..max)\tratio\tp50 ms\tp99 ms\tserver CPU-s/million")
	for _, j := range t.jobs {
		first := t.median(t.kinds[0], j, func(r result) float64 { return r.rate })
		for _, k := range t.kinds {
			list := t.results[k.name+j.name]
			low := slices.MinFunc(list, byRate).rate
			high := slices.MaxFunc(list, byRate).rate
			rate := t.median(k, j, func(r result) float64 { return r.rate })
			p50, p99 := "-", "-"
			if list[0].p50 > 0 {
				p50 = fmt.Sprintf("%.2f", t.median(k, j, func(r result) float64 { return float64(r.p50) })/1e6)
				p99 = fmt.Sprintf("%.2f", t.median(k, j, func(r result) float64 { return float64(r.p99) })/1e6)
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%.0f\t(%.0f..%.0f)\t%.2f\t%s\t%s\t%.1f\n", j.name, k.name, k.durability, rate, low, high, rate/first, p50, p99,
				t.median(k, j, func(r result) float64 { return r.cpu / float64(r.records) * 1e6 }))
		}
	}
	return tw.Flush()
}

func byRate(a, b result) int {
	switch {
	case a.rate < b.rate:
		return -1
	case a.rate > b.rate:
		return 1
	}
	return 0
}

func (t *table) median(k kind, j job, of func(result) float64) float64 {
	var list []float64
	for _, r := range t.results[k.name+j.name] {
		list = append(list, of(r))
	}
	slices.Sort(list)
	return list[len(list)/2]
}
