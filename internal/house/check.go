package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Check reads every Go file below root and returns what breaks the house, one line
// a fault: file, what, and the rule. Nested modules are not part of the house.
func Check(root string) (faults []string, files int, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return enter(root, path, d.Name())
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		files++
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		src, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("parse %s: %w", rel, err)
		}
		faults = append(faults, checkFile(filepath.ToSlash(rel), src)...)
		return nil
	})
	return faults, files, err
}

// enter skips folders that are not part of the module.
func enter(root, path, name string) error {
	if path == root {
		return nil
	}
	if strings.HasPrefix(name, ".") || name == "testdata" || name == "vendor" {
		return filepath.SkipDir
	}
	if nested, _ := filepath.Glob(filepath.Join(path, "go.mod")); len(nested) > 0 {
		return filepath.SkipDir
	}
	return nil
}

// checkFile applies every rule to one file.
func checkFile(file string, src *ast.File) []string {
	dir := filepath.ToSlash(filepath.Dir(file))
	here, ok := roomOf(dir)
	if !ok {
		return []string{fmt.Sprintf("%s: folder %s is no room of the house; give it a floor in internal/house/rooms.go", file, dir)}
	}
	var faults []string
	if slices.Contains(vague, src.Name.Name) {
		faults = append(faults, fmt.Sprintf("%s: package name %q says nothing", file, src.Name.Name))
	}
	test := strings.HasSuffix(file, "_test.go") || isTestPackage(dir)
	for _, spec := range src.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		faults = append(faults, checkImport(file, here, path, test)...)
	}
	if !test {
		faults = append(faults, checkSelectors(file, here, src)...)
	}
	return faults
}

// isTestPackage reports whether a folder holds test helpers (identitytest, brokertest).
func isTestPackage(dir string) bool {
	return strings.HasSuffix(dir, "test") && dir != "internal/memnet"
}

// checkImport applies the ladder and the owners to one import.
func checkImport(file string, here room, path string, test bool) []string {
	if to, ok := strings.CutPrefix(path, Module+"/"); ok {
		return checkLadder(file, here, to, test)
	}
	if test {
		return nil
	}
	for _, o := range owners {
		if within(path, o.imports) || strings.HasPrefix(path, o.imports+"/v") {
			if !allowed(here.path, o.rooms) {
				return []string{fmt.Sprintf("%s: imports %s, which only %s may", file, path, strings.Join(o.rooms, ", "))}
			}
		}
	}
	return nil
}

// checkLadder holds an import between rooms to the ladder. Tests may look up: they
// assemble a whole node to test a part of it.
func checkLadder(file string, here room, to string, test bool) []string {
	there, ok := roomOf(to)
	if !ok {
		return []string{fmt.Sprintf("%s: imports %s, which is no room of the house", file, to)}
	}
	if isTestPackage(to) && !test {
		return []string{fmt.Sprintf("%s: imports the test package %s outside a test", file, to)}
	}
	if test || mayImport(here, there) {
		return nil
	}
	return []string{fmt.Sprintf("%s: %s (floor %d) imports %s (floor %d); arrows only go down", file, here.path, here.floor, there.path, there.floor)}
}

// checkSelectors finds uses of names that have an owner.
func checkSelectors(file string, here room, src *ast.File) []string {
	imported := importNames(src)
	var faults []string
	ast.Inspect(src, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		pkg, ok := sel.X.(*ast.Ident)
		if !ok || !imported[pkg.Name] {
			return true
		}
		name := pkg.Name + "." + sel.Sel.Name
		for _, s := range selectors {
			if s.name == name && !allowed(here.path, s.rooms) {
				faults = append(faults, fmt.Sprintf("%s: uses %s, which only %v may", file, name, s.rooms))
			}
		}
		return true
	})
	return faults
}

// importNames are the names under which the file sees its imports.
func importNames(src *ast.File) map[string]bool {
	names := map[string]bool{}
	for _, spec := range src.Imports {
		path, _ := strconv.Unquote(spec.Path.Value)
		name := path[strings.LastIndex(path, "/")+1:]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = true
	}
	return names
}
