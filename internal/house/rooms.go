package house

import "strings"

// Module is the module path of the project.
const Module = "github.com/waxwing-mq/waxwing"

// room is a folder tree with a place on the ladder. A room may import rooms on
// lower floors, never one on its own floor, except itself.
type room struct {
	path  string // folder below the module root; the longest match wins
	floor int
}

// rooms is the ladder. internal/... is below everything: any room may import it,
// and it imports nothing of the project unless it stands here with a floor.
var rooms = []room{
	{"topic", 0},
	{"protocol/codec", 0},
	{"protocol", 1},
	{"batch", 1},
	{"identity", 1},
	{"snapshot", 1},
	{"state", 2},
	{"storage", 2},
	{"policy", 2},
	{"cluster", 3},
	{"cluster/peer", 2},
	{"client", 3},
	{"broker", 4},
	{"examples", 4},
	{"admin", 5},
	{"bench/handshake", 5},
	{"bench", 6},
	{"cmd", 7},
	{"internal/launch", 4},
	{"internal/sim", 4},
	{"internal/powercut", 5},
	{"internal/powercut/cmd", 6},
	{"internal/history", 6}, // of tests only: no room is above it
	{"internal/fault", -1},
	{"internal/lane", -1},
	{"internal/memnet", -1},
	{"internal/mutant", -1},
	{"internal/house", -1},
}

// owner says that only the named rooms may import a dependency.
type owner struct {
	imports string // import path; itself and everything below it
	rooms   []string
}

// owners is the last column of the table in DESIGN section 1. Tests are free to
// use a dependency as an oracle, so only non-test files are held to it.
var owners = []owner{
	{imports: "github.com/spf13/cobra", rooms: []string{"cmd"}},
	{imports: "github.com/spf13/pflag", rooms: []string{"cmd"}},
	{imports: "go.yaml.in/yaml", rooms: []string{"cmd", "policy"}},
	{imports: "github.com/HdrHistogram/hdrhistogram-go", rooms: []string{"bench"}},
	{imports: "gonum.org/v1/plot", rooms: []string{"bench"}},
	{imports: "github.com/prometheus/client_golang/prometheus/promhttp", rooms: []string{"admin"}},
	{imports: "github.com/hashicorp/raft", rooms: []string{"cluster"}},
	{imports: "github.com/hashicorp/raft-wal", rooms: []string{"cluster"}},
	{imports: "github.com/hashicorp/go-immutable-radix", rooms: []string{"state"}},
	{imports: "github.com/RoaringBitmap/roaring", rooms: []string{"state"}},
	{imports: "github.com/dgraph-io/badger", rooms: []string{"storage"}},
	{imports: "github.com/spiffe/go-spiffe", rooms: []string{"identity"}},
	{imports: "github.com/vmihailenco/msgpack", rooms: []string{"protocol/codec"}},
	{imports: "github.com/fsnotify/fsnotify", rooms: []string{"identity", "cmd"}},
	{imports: "github.com/anishathalye/porcupine", rooms: []string{"internal/history"}},
	{imports: "crypto/x509", rooms: []string{"identity", "cmd", "bench", "client", "broker", "admin"}},
}

// selectors are calls and literals with an owner: "package.Name".
var selectors = []struct {
	name  string
	rooms []string
}{
	{"os.Exit", []string{"cmd", "examples", "internal/powercut/cmd"}},
	{"log.Fatal", nil},
	{"log.Fatalf", nil},
	{"x509.ParseCertificate", []string{"identity"}},
	{"x509.ParseCertificates", []string{"identity"}},
	{"x509.ParsePKCS8PrivateKey", []string{"identity"}},
	{"x509.ParseECPrivateKey", []string{"identity"}},
	{"x509.ParsePKCS1PrivateKey", []string{"identity"}},
	{"tls.X509KeyPair", []string{"identity"}},
	{"tls.LoadX509KeyPair", []string{"identity"}},
	{"http.Server", []string{"admin"}},
	{"http.ListenAndServe", []string{"admin"}},
	{"http.Serve", []string{"admin"}},
	{"http.NewServeMux", []string{"admin"}},
	{"time.Sleep", nil},
}

// vague are package names that say nothing.
var vague = []string{"util", "utils", "common", "helper", "helpers", "types", "models", "misc", "shared"}

// roomOf finds the room of a folder.
func roomOf(dir string) (room, bool) {
	best, found := room{}, false
	for _, r := range rooms {
		if within(dir, r.path) && (!found || len(r.path) > len(best.path)) {
			best, found = r, true
		}
	}
	return best, found
}

// within reports whether path is root or below it.
func within(path, root string) bool {
	return path == root || strings.HasPrefix(path, root+"/")
}

// mayImport reports whether code in folder from may import the project folder to.
func mayImport(from, to room) bool {
	return from.path == to.path || to.floor < from.floor
}

// allowed reports whether room is named in rooms, itself or by a parent.
func allowed(path string, rooms []string) bool {
	for _, r := range rooms {
		if within(path, r) {
			return true
		}
	}
	return false
}
