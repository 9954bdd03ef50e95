package broker

import (
	"encoding/hex"
	"errors"

	"github.com/waxwing-mq/waxwing/cluster"
	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/protocol"
	"github.com/waxwing-mq/waxwing/state"
)

// onRevoke adds or removes an entry of the revocation list.
func (c *conn) onRevoke(j cluster.Judged, m *protocol.Revoke) (protocol.Message, *fault) {
	e := m.Entry
	if !m.Remove && !m.Force && c.isSelf(&e) {
		return nil, &fault{code: protocol.CodeLockout, outcome: protocol.OutcomeRejected, text: "that would revoke the certificate of this very connection; force it if you mean it"}
	}
	cmd := state.AppendRevoke(nil, &state.Revoke{Remove: m.Remove, By: string(c.peer.Principal),
		Entry: state.Revocation{Kind: state.RevocationKind(e.What), Value: e.Value, Issuer: e.Issuer, Reason: e.Reason}})
	before := c.s.options.Group.View().RevocationVersion()
	r, index, f := c.do(j, cmd)
	if f != nil {
		if f.code == protocol.CodeLimit {
			f.limit = "revocations"
		}
		return nil, f
	}
	what := "revocation list changed"
	if r.Version == before { // it was there already, or never was
		what = "revocation list unchanged"
	}
	c.s.log.Info(what, "removed", m.Remove, "value", clip(e.Value), "issuer", clip(e.Issuer), "reason", clip(e.Reason), "by", c.peer.Principal)
	c.s.sync()
	return &protocol.OK{Applied: index}, nil
}

// isSelf reports whether an entry names the caller.
func (c *conn) isSelf(e *protocol.Revocation) bool {
	switch e.What {
	case protocol.RevokeIdentity:
		return e.Value == string(c.peer.Principal)
	case protocol.RevokeSPKI:
		return e.Value == hex.EncodeToString(c.peer.SPKI[:])
	case protocol.RevokeSerial:
		return e.Value == c.peer.Serial && e.Issuer == c.peer.Issuer
	}
	return false
}

// Bounds of one answer that lists something, so that it stays below the frame limit.
const (
	pageEntriesMax = 1000
	pageBytesMax   = 512 << 10
)

// onRevokeList shows the list, a page at a time.
func (c *conn) onRevokeList(m *protocol.RevokeList) (protocol.Message, *fault) {
	answer, bytes := &protocol.Revocations{}, 0
	list := c.s.options.Group.View().Revocations()
	for _, r := range list[min(int(m.Skip), len(list)):] {
		if len(answer.Entries) == pageEntriesMax || bytes > pageBytesMax {
			answer.More = true
			break
		}
		bytes += 64 + len(r.Value) + len(r.Issuer) + len(r.Reason) + len(r.By)
		answer.Entries = append(answer.Entries, protocol.Revocation{What: protocol.RevocationKind(r.Kind), Value: r.Value, Issuer: r.Issuer, Reason: r.Reason, ByWhom: r.By, AtMs: r.AtMs})
	}
	return answer, nil
}

// syncRevocations gives identity the replicated list when it changed.
func (s *Server) syncRevocations(view *state.View) {
	if view.RevocationVersion() <= s.revision {
		return
	}
	s.revision = view.RevocationVersion()
	list := revocationsOf(view.Revocations())
	list.Version = s.revision
	s.options.Identity.SetRevocations(list)
	s.recheck()
	s.revoked.Store(s.revision)
}

func revocationsOf(list []state.Revocation) identity.Revocations {
	r := identity.Revocations{Identities: map[identity.Principal]struct{}{}, SPKI: map[[32]byte]struct{}{}, Serials: map[identity.SerialKey]struct{}{}}
	for _, e := range list {
		switch e.Kind {
		case state.RevokeIdentity:
			r.Identities[identity.Principal(e.Value)] = struct{}{}
		case state.RevokeSPKI:
			var hash [32]byte
			if n, err := hex.Decode(hash[:], []byte(e.Value)); err == nil && n == len(hash) {
				r.SPKI[hash] = struct{}{}
			}
		case state.RevokeSerial:
			r.Serials[identity.SerialKey{Issuer: e.Issuer, Serial: e.Value}] = struct{}{}
		}
	}
	return r
}

// recheck holds every live connection to the rules again, and ends those that break one.
func (s *Server) recheck() {
	s.eachConn(func(c *conn) {
		err := s.options.Identity.Recheck(&c.peer)
		var refused *identity.RefusedError
		if !errors.As(err, &refused) {
			return
		}
		s.log.Warn("connection ended", "identity", c.peer.Principal, "remote", c.tls.RemoteAddr().String(), "reason", string(refused.Reason), "detail", clip(refused.Detail))
		c.finish(&fault{code: refusedCode(refused), text: refused.Error()})
	})
}
