package admin

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// routes is every page there is.
func (s *Server) routes() http.Handler {
	metrics := promhttp.HandlerFor(s.options.Gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", s.guard(observers, metrics.ServeHTTP))
	mux.HandleFunc("GET /livez", s.guard(observersOrOwn, live))
	mux.HandleFunc("GET /readyz", s.guard(observersOrOwn, s.ready))
	return mux
}

// live says that the process answers, and nothing about its peers: a node that waits
// for a leader must not be restarted for it.
func live(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(w, "ok")
}

// ready runs every check; ?verbose shows each.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	var text strings.Builder
	failed := 0
	for _, c := range s.options.Checks {
		if err := c.Func(r.Context()); err != nil {
			failed++
			fmt.Fprintf(&text, "[-] %s: %v\n", c.Name, err)
			continue
		}
		fmt.Fprintf(&text, "[+] %s\n", c.Name)
	}
	if failed > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	if failed > 0 || r.URL.Query().Has("verbose") {
		fmt.Fprint(w, text.String())
	}
	if failed == 0 {
		fmt.Fprintln(w, "ok")
	}
}
