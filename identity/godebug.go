package identity

import (
	"fmt"
	"slices"
	"strings"
)

// weakSettings are GODEBUG settings that bring back what TLS and x509 have given up.
var weakSettings = []string{"tls10server", "tlsrsakex", "tls3des", "tlssha1", "tlsunsafeekm", "tlsmaxrsasize", "tlsmlkem", "tlssecpmlkem", "fips140ems", "cryptocustomrand",
	"rsa1024min", "x509negativeserial", "x509usepolicies", "x509keypairleaf", "x509sha1", "x509rsacrt", "x509usefallbackroots"}

// CheckGODEBUG refuses to run with a GODEBUG value that changes the rules of TLS or x509.
func CheckGODEBUG(value string) error {
	for setting := range strings.SplitSeq(value, ",") {
		name, _, _ := strings.Cut(strings.TrimSpace(setting), "=")
		if slices.Contains(weakSettings, name) {
			return fmt.Errorf("GODEBUG sets %s, which changes the rules of TLS or of certificates; remove it from the environment", name)
		}
	}
	return nil
}
