package fault_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/waxwing-mq/waxwing/internal/fault"
)

// pointName is what names of points look like, and nothing else that is passed to a function in a file with points.
var pointName = regexp.MustCompile(`^[a-z]+\.[a-z-]+$`)

// TestPoints holds the list of points to the code, both ways: a new one is met by the tests of every point from then on.
func TestPoints(t *testing.T) {
	used := map[string]string{} // by name: the file
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || filepath.Base(filepath.Dir(path)) == "fault":
			return nil
		}
		for _, name := range pointsIn(t, path) {
			used[name] = path
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	points := fault.Points()
	for name, path := range used {
		if !slices.Contains(points, name) {
			t.Errorf("%s: point %q is not in points.go: name it there, and every test of points will meet it", path, name)
		}
	}
	for i, name := range points {
		if used[name] == "" {
			t.Errorf("point %q is in points.go and nowhere else", name)
		}
		if slices.Contains(points[:i], name) {
			t.Errorf("point %q is listed twice", name)
		}
	}
}

// pointsIn lists the strings that look like points and are passed to a function, in a file that imports this package.
func pointsIn(t *testing.T, path string) (names []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const self = `"github.com/waxwing-mq/waxwing/internal/fault"`
	if !strings.Contains(string(text), self) && !strings.Contains(string(text), "fault.") {
		return nil
	}
	file, err := parser.ParseFile(token.NewFileSet(), path, text, 0)
	if err != nil {
		t.Fatal(err)
	}
	imports := func(s *ast.ImportSpec) bool { return s.Path.Value == self }
	if !slices.ContainsFunc(file.Imports, imports) {
		return nil
	}
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		for _, arg := range call.Args {
			if lit, ok := arg.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if name, err := strconv.Unquote(lit.Value); err == nil && pointName.MatchString(name) {
					names = append(names, name)
				}
			}
		}
		return true
	})
	return names
}
