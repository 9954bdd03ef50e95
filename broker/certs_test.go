package broker_test

import (
	"encoding/hex"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/identity/ca"
)

func spkiOf(c *ca.Issued) string {
	h := identity.SPKIHash(c.Leaf)
	return hex.EncodeToString(h[:])
}

func serialOf(c *ca.Issued) string { return identity.SerialText(c.Leaf.SerialNumber) }
