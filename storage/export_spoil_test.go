package storage

import "os"

// SpoilDigest replaces a SEALED file by one that says the segment holds other batches.
func SpoilDigest(name string) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	m, err := parseManifest(b)
	if err != nil {
		return err
	}
	m.Contents.Sum[0]++
	return os.WriteFile(name, m.append(nil), 0o600)
}
