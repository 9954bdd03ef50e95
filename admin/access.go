package admin

import (
	"fmt"
	"net/http"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/policy"
)

// access is what a page asks of its caller.
type access uint8

const (
	observers      access = iota // the verb observe or admin
	observersOrOwn               // the same, or this node's own certificate
)

// guard lets a request through to a page if the caller's certificate has the right.
func (s *Server) guard(need access, page http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		peer, err := s.options.Identity.Peer(*r.TLS)
		if err != nil {
			s.refuse(w, r, "unknown", err.Error())
			return
		}
		if peer.Role != identity.RoleBroker && s.options.Policy() == nil {
			http.Error(w, "the node is starting, and does not know the policy yet; its own certificate may ask for /livez and /readyz", http.StatusServiceUnavailable)
			return
		}
		if reason := s.denied(need, peer); reason != "" {
			s.refuse(w, r, string(peer.Principal), reason)
			return
		}
		page(w, r)
	}
}

// denied says why peer may not see the page, or "".
func (s *Server) denied(need access, peer identity.Peer) string {
	if peer.Role == identity.RoleBroker {
		if need == observersOrOwn && peer.Node == s.options.NodeID {
			return ""
		}
		return "a node's own certificate may ask for /livez and /readyz only"
	}
	subject := s.options.Policy().For(string(peer.Principal))
	if subject.Has(policy.Observe).Allow || subject.Has(policy.Admin).Allow {
		return ""
	}
	return "the policy grants neither observe nor admin; ask an admin for one of them"
}

// refuse answers 403 and logs it.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, who, reason string) {
	who = identity.Printable(who, 256)
	s.refused.warn(s.options.Logger, "https request denied", "identity", who, "path", identity.Printable(r.URL.Path, 256), "remote", r.RemoteAddr, "reason", identity.Printable(reason, 512))
	http.Error(w, fmt.Sprintf("denied: %s: %s", who, identity.Printable(reason, 512)), http.StatusForbidden)
}
