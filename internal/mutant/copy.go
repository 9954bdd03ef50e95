package mutant

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Copy puts the files that git knows of, as they stand in the tree at root, into dir.
func Copy(ctx context.Context, root, dir string) error {
	cmd := exec.CommandContext(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("list the project's files: %w", err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		if err := copyFile(filepath.Join(root, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	info, err := os.Lstat(from)
	if os.IsNotExist(err) {
		return nil // deleted, and not committed yet
	}
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, b, info.Mode().Perm())
}

// Applies says whether the patch fits the tree at root, and changes nothing.
func (m *Mutant) Applies(ctx context.Context, root string) error {
	return m.git(ctx, root, "apply", "--check", "-")
}

// plant changes the tree at root; heal takes it back.
func (m *Mutant) plant(ctx context.Context, root string) error { return m.git(ctx, root, "apply", "-") }

func (m *Mutant) heal(ctx context.Context, root string) error {
	return m.git(ctx, root, "apply", "-R", "-")
}

func (m *Mutant) git(ctx context.Context, root string, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir, cmd.Stdin = root, bytes.NewReader(m.patch)
	cmd.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(root)) // a copy is no part of another repository
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: git %s: %w: %s", m.File, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
