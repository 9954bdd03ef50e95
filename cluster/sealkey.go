package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/waxwing-mq/waxwing/identity"
	"github.com/waxwing-mq/waxwing/internal/fault"
)

// sealKeyFile has the node's private sealing key. It is in no backup; a node that lost it makes another one, and the others
// seal to that.
const sealKeyFile = "seal.key"

// sealKeyVersion is the format of the file.
const sealKeyVersion = 1

// sealKeyText is what the file says.
type sealKeyText struct {
	Version int    `json:"version"`
	Key     []byte `json:"key"`
}

// sealKey reads the folder's sealing key, or makes one.
func (d *DataDir) sealKey(log *slog.Logger) (*identity.SealKey, error) {
	name := filepath.Join(d.path, sealKeyFile)
	k, err := readSealKey(name)
	switch {
	case err == nil:
		return k, nil
	case errors.Is(err, errNewerSealKey):
		return nil, fmt.Errorf("data folder: %w", err)
	case !errors.Is(err, os.ErrNotExist):
		log.Warn("the node's sealing key cannot be read; a new one takes its place, which costs clients a full handshake", "error", err)
	}
	if k, err = identity.NewSealKey(); err != nil {
		return nil, err
	}
	b, err := k.Bytes()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(sealKeyText{sealKeyVersion, b})
	if err != nil {
		return nil, err
	}
	err = fault.Step("sealkey.write", func() error {
		if err := writeSynced(name+".tmp", append(text, '\n')); err != nil {
			return err
		}
		if err := os.Rename(name+".tmp", name); err != nil {
			return err
		}
		return syncDir(d.path)
	})
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	return k, nil
}

var errNewerSealKey = errors.New("a newer program wrote it; use that one")

func readSealKey(name string) (*identity.SealKey, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var text sealKeyText
	if err := json.Unmarshal(b, &text); err != nil {
		return nil, fmt.Errorf("%s is damaged: it is not JSON", name) // the parser's words could show a part of it
	}
	if text.Version > sealKeyVersion {
		return nil, fmt.Errorf("%s: format version %d, this program knows %d: %w", name, text.Version, sealKeyVersion, errNewerSealKey)
	}
	k, err := identity.ParseSealKey(text.Key)
	if err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", name, err)
	}
	return k, nil
}
