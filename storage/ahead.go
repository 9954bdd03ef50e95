package storage

import "path/filepath"

// wantedPart is the part of a segment behind whose reading the rest is wanted, too: one read in sequence takes about as
// long as so much of it in pieces.
const wantedPart = 32

// opened prepares a sealed segment's files for reads in random order.
func (s *segment) opened(m *Manifest) error {
	for _, f := range m.Files {
		if !isValueLog(f.Name) {
			continue
		}
		if err := readNothingAhead(filepath.Join(s.dir, f.Name)); err != nil {
			return err
		}
	}
	return nil
}

// readSome counts bytes that were read from a sealed segment; when they are many, all of it is read ahead, again after as
// many bytes as it has: the page cache may have lost it.
func (s *segment) readSome(n int) {
	m := s.manifest.Load()
	if m == nil {
		return
	}
	size := int64(m.Contents.Bytes)
	if s.pieces.Add(int64(n)) < size/wantedPart {
		return
	}
	s.pieces.Store(-size)
	s.readWhole(m)
}

// readWhole reads the values of a sealed segment ahead.
func (s *segment) readWhole(m *Manifest) {
	for _, f := range m.Files {
		if isValueLog(f.Name) {
			readFileAhead(filepath.Join(s.dir, f.Name))
		}
	}
}
