package guestbuild

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"wproxy/plugins/internal/adapter"
)

const (
	// adapterDir is the name of the directory, below the plugin's main package, that
	// the adapter seems to be in.
	adapterDir = "wproxy_adapter"
	// adapterImport is the file, in the plugin's main package, that imports it.
	adapterImport = "wproxy_adapter_import.go"

	exportDirective = "//go:wasmexport "
)

// writeOverlay writes the adapter with the given optional exports to tmp, direct or not
// (adapter.Mode), and the file for -overlay that places it in the plugin's tree, whose name it returns.
// lean is what takes the place of other files, by their paths.
func writeOverlay(tmp string, main listed, exports []string, direct bool, lean map[string][]byte) (string, error) {
	replace := map[string]string{}
	add := func(path, name string, data []byte) error {
		file := filepath.Join(tmp, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			return fmt.Errorf("adapter: %w", err)
		}
		replace[path] = file
		return nil
	}
	for path, data := range lean {
		if err := add(path, "lean_"+filepath.Base(filepath.Dir(path))+"_"+filepath.Base(path), data); err != nil {
			return "", err
		}
	}
	entries, err := fs.ReadDir(adapter.Files, ".")
	if err != nil {
		return "", fmt.Errorf("adapter: %w", err)
	}
	for _, e := range entries {
		if e.Name() == adapter.Format {
			continue
		}
		src, err := adapter.Files.ReadFile(e.Name())
		if err == nil && e.Name() == adapter.Exports {
			keep := exports
			if direct {
				keep = append(slices.Clone(keep), adapter.StreamSlots)
			}
			src, err = cutExports(src, keep)
		}
		if direct && e.Name() == adapter.Mode {
			src = []byte(adapter.Direct)
		}
		if err != nil {
			return "", fmt.Errorf("adapter: %w", err)
		}
		if err := add(filepath.Join(main.Dir, adapterDir, e.Name()), e.Name(), src); err != nil {
			return "", err
		}
	}
	glue := "package main\n\nimport _ \"" + main.ImportPath + "/" + adapterDir + "\"\n"
	if err := add(filepath.Join(main.Dir, adapterImport), adapterImport, []byte(glue)); err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", fmt.Errorf("adapter: %w", err)
	}
	name := filepath.Join(tmp, "overlay.json")
	if err := os.WriteFile(name, overlay, 0o600); err != nil {
		return "", fmt.Errorf("adapter: %w", err)
	}
	return name, nil
}

// cutExports returns the text of the exports file without the optional exports that are
// not in keep. The SDK functions they forward to stay declared; nothing calls
// them then, and the linker leaves them out, and the plugin's methods behind them.
func cutExports(src []byte, keep []string) ([]byte, error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, adapter.Exports, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	drop := []string{dispatchExport, adapter.StreamSlots}
	for _, c := range optional() {
		drop = append(drop, c.export)
	}
	drop = slices.DeleteFunc(drop, func(e string) bool { return slices.Contains(keep, e) })
	var out []byte
	from := 0
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Doc == nil || !slices.Contains(drop, exportName(fn.Doc)) {
			continue
		}
		out = append(out, src[from:fset.Position(fn.Doc.Pos()).Offset]...)
		from = fset.Position(fn.End()).Offset
	}
	return append(out, src[from:]...), nil
}

// exportName returns the name in the go:wasmexport directive of a declaration, or "".
func exportName(doc *ast.CommentGroup) string {
	for _, c := range doc.List {
		if name, ok := strings.CutPrefix(c.Text, exportDirective); ok {
			return name
		}
	}
	return ""
}
