package broker

import (
	"encoding/hex"

	"github.com/waxwing-mq/waxwing/protocol"
)

// rightsMax bounds the rights that one answer lists.
const rightsMax = 2_000

// onWhoAmI says how the broker sees the connection.
func (c *conn) onWhoAmI(*protocol.WhoAmI) (protocol.Message, *fault) {
	p := &c.peer
	m := &protocol.Identity{
		Principal: string(p.Principal), Serial: p.Serial, Issuer: p.Issuer, SPKI: hex.EncodeToString(p.SPKI[:]), NotAfterMs: p.NotAfter.UnixMilli(),
		TLSVersion: p.TLSVersion, Cipher: p.Cipher, Group: p.Group, PostQuantum: p.PostQuantum, Resumed: p.Resumed,
		PolicyVer: c.s.Policy().Version(), Node: c.s.options.NodeID, RemoteAddr: c.tls.RemoteAddr().String(),
	}
	for _, r := range c.subject().Rights() {
		if len(m.Rights) == rightsMax {
			break
		}
		m.Rights = append(m.Rights, protocol.Right{Allow: r.Allow, Verb: r.Verb.String(), Pattern: r.Pattern, Rule: r.Rule, Line: uint64(r.Line)})
	}
	return m, nil
}
