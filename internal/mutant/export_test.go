package mutant

// Judge reads the output of go test.
func (m *Mutant) Judge(out string, err error) Verdict { return m.judge(out, err) }
