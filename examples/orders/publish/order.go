package publish

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
)

// Order is the body of a record, as JSON.
type Order struct {
	Number   int    `json:"order"`
	Customer string `json:"customer"`
	Items    int    `json:"items"`
	Cents    int    `json:"cents"`
}

// orderNumber is the n-th order. It is the same in every run, so that the reader can
// check every byte.
func orderNumber(n int) Order {
	return Order{Number: n, Customer: fmt.Sprintf("c-%03d", n%97), Items: 1 + n%7, Cents: 199 + n*37%10_000}
}

func (o Order) encode() ([]byte, error) { return json.Marshal(o) }

// checksum is the SHA-256 of the SHA-256 of each body, in order.
type checksum struct{ sum hash.Hash }

func newChecksum() checksum { return checksum{sha256.New()} }

func (c checksum) add(body []byte) {
	one := sha256.Sum256(body)
	c.sum.Write(one[:])
}

func (c checksum) String() string { return fmt.Sprintf("%x", c.sum.Sum(nil)) }
