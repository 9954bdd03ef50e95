package house

import (
	"go/parser"
	"go/token"
	"strings"
	"testing"
)

// TestHouse holds the project to its own structure.
func TestHouse(t *testing.T) {
	faults, files, err := Check("../..")
	if err != nil {
		t.Fatal(err)
	}
	if files < 10 {
		t.Fatalf("only %d Go files seen: the test looks at the wrong folder", files)
	}
	for _, f := range faults {
		t.Error(f)
	}
}

// TestHouseSeesFaults plants one fault of every sort and expects it to be found.
func TestHouseSeesFaults(t *testing.T) {
	for name, c := range map[string]struct{ file, src, want string }{
		"upwards":       {"storage/x.go", `package storage; import _ "github.com/waxwing-mq/waxwing/broker"`, "arrows only go down"},
		"sideways":      {"state/x.go", `package state; import _ "github.com/waxwing-mq/waxwing/policy"`, "arrows only go down"},
		"stranger":      {"attic/x.go", `package attic`, "no room of the house"},
		"to a stranger": {"broker/x.go", `package broker; import _ "github.com/waxwing-mq/waxwing/attic"`, "no room of the house"},
		"owner":         {"broker/x.go", `package broker; import _ "github.com/dgraph-io/badger/v4"`, "only storage may"},
		"owner below":   {"broker/x.go", `package broker; import _ "github.com/hashicorp/raft-wal/verifier"`, "only cluster may"},
		"selector":      {"broker/x.go", `package broker; import "os"; func f() { os.Exit(1) }`, "uses os.Exit"},
		"sleep":         {"cluster/x.go", `package cluster; import "time"; func f() { time.Sleep(1) }`, "uses time.Sleep"},
		"test package":  {"broker/x.go", `package broker; import _ "github.com/waxwing-mq/waxwing/identity/identitytest"`, "outside a test"},
		"vague name":    {"broker/util/x.go", `package util`, "says nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			src, err := parser.ParseFile(token.NewFileSet(), c.file, c.src, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(checkFile(c.file, src), "\n")
			if !strings.Contains(got, c.want) {
				t.Errorf("got %q, want a fault with %q", got, c.want)
			}
		})
	}
}

// TestHouseAllows checks that the rules leave room for what is right.
func TestHouseAllows(t *testing.T) {
	for name, c := range map[string]struct{ file, src string }{
		"down":          {"broker/x.go", `package broker; import _ "github.com/waxwing-mq/waxwing/cluster"`},
		"own room":      {"identity/ca/x.go", `package ca; import _ "github.com/waxwing-mq/waxwing/identity"`},
		"owner":         {"storage/x.go", `package storage; import _ "github.com/dgraph-io/badger/v4/options"`},
		"test looks up": {"client/x_test.go", `package client_test; import _ "github.com/waxwing-mq/waxwing/broker/brokertest"`},
		"exit in cmd":   {"cmd/waxwing/main.go", `package main; import "os"; func main() { os.Exit(0) }`},
	} {
		t.Run(name, func(t *testing.T) {
			src, err := parser.ParseFile(token.NewFileSet(), c.file, c.src, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			if got := checkFile(c.file, src); len(got) > 0 {
				t.Errorf("unexpected faults: %v", got)
			}
		})
	}
}
