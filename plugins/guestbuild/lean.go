package guestbuild

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"

	"wproxy/plugins/internal/adapter"
)

// leanFormat returns what takes the place of the files of packages fmt and time, by their paths, where only
// the SDK imports it, and for its own messages only: a few lines (adapter.Format) with nothing
// behind them. Nothing is returned if somebody else needs package fmt, or the plugin has the SDK
// format lines of its log, or the SDK does something else with it than is known here: then all
// stays as it is.
func leanFormat(pkgs []listed) (map[string][]byte, error) {
	i := slices.IndexFunc(pkgs, func(p listed) bool { return p.ImportPath == "fmt" && p.Standard })
	if i < 0 || slices.ContainsFunc(pkgs, needsFormats) {
		return nil, nil //nolint:nilnil // no files is an answer
	}
	text, err := adapter.Files.ReadFile(adapter.Format)
	if err != nil {
		return nil, fmt.Errorf("adapter: %w", err)
	}
	text = bytes.Replace(text, []byte(adapter.FormatClause), []byte(adapter.FormatPackage), 1)
	lean := map[string][]byte{}
	replace(lean, &pkgs[i], text)
	if t := slices.IndexFunc(pkgs, func(p listed) bool { return p.ImportPath == "time" && p.Standard }); t >= 0 && !needsTimes(pkgs) {
		replace(lean, &pkgs[t], []byte(adapter.Times))
	}
	return lean, nil
}

// replace puts text in the place of a package's files.
func replace(lean map[string][]byte, p *listed, text []byte) {
	for _, name := range p.GoFiles {
		lean[filepath.Join(p.Dir, name)] = text
		text = []byte("package " + p.Name + "\n")
	}
}

// needsTimes reports whether somebody needs more of package time than adapter.Times has, where package
// fmt is that of the adapter, which imports nothing.
func needsTimes(pkgs []listed) bool {
	at := map[string]int{}
	for i := range pkgs {
		at[pkgs[i].ImportPath] = i
	}
	seen := map[string]bool{"fmt": true}
	for next := []int{len(pkgs) - 1}; len(next) > 0; next = next[1:] {
		p := &pkgs[next[0]]
		if slices.Contains(p.Imports, "time") && (!p.sdk() || usesTimes(p)) {
			return true
		}
		for _, path := range p.Imports {
			if i, ok := at[path]; ok && path != "time" && !seen[path] {
				seen[path] = true
				next = append(next, i)
			}
		}
	}
	return false
}

// usesTimes reports whether a package uses package time for more than the arguments of a function
// that it never calls.
func usesTimes(p *listed) bool {
	return slices.ContainsFunc(p.GoFiles, func(name string) bool {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil || renames(f, "time") {
			return true
		}
		uses := false
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				x, _ := s.X.(*ast.Ident)
				uses = uses || x != nil && x.Name == "time" && s.Sel.Name != "Time" && s.Sel.Name != "Now"
			}
			return true
		})
		return uses
	})
}

// sdkFormats are the SDK's functions that format what the plugin gives them.
var sdkFormats = []string{"LogTracef", "LogDebugf", "LogInfof", "LogWarnf", "LogErrorf", "LogCriticalf"}

// needsFormats reports whether a package needs more of package fmt than adapter.Format has. Names are
// enough: one too many only keeps what is there.
func needsFormats(p listed) bool {
	imports := slices.Contains(p.Imports, "fmt")
	if p.Standard || imports && !p.sdk() {
		return imports
	}
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return true
		}
		needs := false
		ast.Inspect(f, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, _ := s.X.(*ast.Ident)
			needs = needs || slices.Contains(sdkFormats, s.Sel.Name) || x != nil && x.Name == "fmt" && s.Sel.Name != "Sprintf"
			return true
		})
		if needs || renamesFormat(f) {
			return true
		}
	}
	return false
}

// renamesFormat reports whether package fmt has another name in a file, or functions of the SDK are
// named without their package.
func renamesFormat(f *ast.File) bool {
	return renames(f, "fmt") || slices.ContainsFunc(f.Imports, func(s *ast.ImportSpec) bool {
		return s.Name != nil && s.Path.Value == `"`+sdkPath+`"` && s.Name.Name == "."
	})
}

// renames reports whether a package has another name in a file.
func renames(f *ast.File, path string) bool {
	return slices.ContainsFunc(f.Imports, func(s *ast.ImportSpec) bool {
		return s.Name != nil && s.Path.Value == `"`+path+`"`
	})
}
