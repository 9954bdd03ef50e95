package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/waxwing-mq/waxwing/internal/lane"
)

// TestHealthBeforeReady: a node that waits for its cluster says that it lives, and that it is not ready and why. Once the others are there it is ready.
func TestHealthBeforeReady(t *testing.T) {
	lane.Need(t, 2, "R-02")
	s := newThreeNodes(t)
	for i, name := range threeNames {
		conf, err := os.ReadFile(s.path(name + ".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		s.write(name+".yaml", []byte(strings.Replace(string(conf), `https: ""`, fmt.Sprintf(`https: "%s%d:17422"`, s.network, i+1), 1)))
	}
	ask := func(name, page string) (string, error) {
		return s.program(name, nil, "healthcheck", "-c", s.path(name+".yaml"), "--page", page)
	}
	s.spawn("n1")
	for lives := false; !lives; {
		_, err := ask("n1", "/livez")
		if lives = err == nil; !lives && t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
	for waits := false; !waits; { // it opens its log first
		words, err := ask("n1", "/readyz")
		if err == nil {
			t.Fatal("a node without a cluster is ready")
		}
		waits = strings.Contains(words, "503") && strings.Contains(words, "waits for the others of cluster.join") && strings.Contains(words, "clients are not served yet")
	}
	s.spawn("n2")
	s.spawn("n3")
	s.await(threeNames...)
	for _, name := range threeNames {
		for {
			words, err := ask(name, "/readyz")
			if err == nil {
				break
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-t.Context().Done():
				t.Fatalf("%s: %s", name, words)
			}
		}
	}
}
