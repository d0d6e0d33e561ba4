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

// leanFormat returns what takes the place of the files of package fmt, by their paths, where only
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
	for _, name := range pkgs[i].GoFiles {
		lean[filepath.Join(pkgs[i].Dir, name)] = text
		text = []byte("package fmt\n")
	}
	return lean, nil
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
	return slices.ContainsFunc(f.Imports, func(s *ast.ImportSpec) bool {
		return s.Name != nil && (s.Path.Value == `"fmt"` || s.Path.Value == `"`+sdkPath+`"` && s.Name.Name == ".")
	})
}
