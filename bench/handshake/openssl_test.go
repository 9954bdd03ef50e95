package handshake_test

import (
	"bufio"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/broker/brokertest"
	"github.com/waxwing-mq/waxwing/identity/identitytest"
)

// TestOpensslResumes has another program than ours keep a session of a broker and come back with it.
func TestOpensslResumes(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("interoperation: the openssl program is not installed here")
	}
	n := brokertest.Start(t, brokertest.Options{})
	f := n.PKI.ClientFiles("orders")
	session := filepath.Join(t.TempDir(), "session.pem")
	if first := visit(t, n.Addr, f, "-sess_out", session); first != "New" {
		t.Errorf("the first visit was %q, want New", first)
	}
	if again := visit(t, n.Addr, f, "-sess_in", session); again != "Reused" {
		t.Errorf("the second visit was %q, want Reused", again)
	}
	if other := visit(t, n.Addr, f); other != "New" {
		t.Errorf("a visit without the session was %q, want New", other)
	}
}

// visit shakes hands and stays until the broker has sent a ticket. It returns whether openssl says New or Reused.
func visit(t *testing.T, addr string, f identitytest.Files, more ...string) (how string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", append([]string{"s_client", "-connect", addr, "-servername", "localhost", "-alpn", "waxwing/1", "-tls1_3", "-cert", f.Cert, "-cert_chain", f.Cert, "-key", f.Key, "-CAfile", f.CA, "-verify_return_error"}, more...)...)
	stay, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errors strings.Builder
	cmd.Stderr = &errors
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := lines.Text()
		all.WriteString(line + "\n")
		for _, word := range []string{"New", "Reused"} {
			if strings.HasPrefix(line, word+", TLSv1.3") && how == "" {
				how = word
			}
		}
		if strings.HasPrefix(line, "Post-Handshake New Session Ticket arrived") {
			stay.Close()
		}
	}
	if err := cmd.Wait(); err != nil && how == "" {
		t.Fatalf("openssl: %v: %s%s", err, all.String(), errors.String())
	}
	return how
}
