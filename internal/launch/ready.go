package launch

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
)

// ReadyFD is the variable that names the file descriptor for Announce.
const ReadyFD = "WAXWING_READY_FD"

// Ready is what a broker announces once it serves.
type Ready struct {
	PID    int    `json:"pid"`
	Node   string `json:"node"`
	Client string `json:"client"` // HOST:PORT of the client listener, as bound
	Peer   string `json:"peer,omitempty"`
	HTTPS  string `json:"https,omitempty"`
}

// Announce writes r to the descriptor that ReadyFD names and closes it. Without the
// variable it does nothing.
func Announce(r Ready, env func(string) string) error {
	text := env(ReadyFD)
	if text == "" {
		return nil
	}
	fd, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return fmt.Errorf("%s: %q is no file descriptor", ReadyFD, text)
	}
	pipe := os.NewFile(uintptr(fd), "ready")
	if pipe == nil {
		return fmt.Errorf("%s: descriptor %d is not open", ReadyFD, fd)
	}
	defer pipe.Close()
	if err := json.NewEncoder(pipe).Encode(r); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	return nil
}
