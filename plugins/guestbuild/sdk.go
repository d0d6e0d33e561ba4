package guestbuild

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strings"

	"wproxy/plugins/internal/adapter"
)

// checkSDK reports an error unless the plugin uses an SDK that the adapter fits: the
// adapter passes a value of its own interface type off as one of the SDK's, so
// with another set of methods every host call would go to a wrong function.
func checkSDK(dir string, pkgs []listed) error {
	i := slices.IndexFunc(pkgs, func(p listed) bool { return p.ImportPath == sdkPath+"/internal" })
	if i < 0 {
		return &SourceError{dir, "does not use the SDK " + sdkPath +
			"; plugins for other SDKs are built with their own toolchain and need no adapter"}
	}
	have, err := sdkHostMethods(pkgs[i])
	if err != nil {
		return err
	}
	want, err := adapterHostMethods()
	if err != nil {
		return err
	}
	if !slices.Equal(have, want) {
		return &SourceError{dir, "uses a version of the SDK with other host functions than " + sdkVersion + " (" +
			difference(have, want) + "); run `go get " + strings.TrimSuffix(sdkPath, "/proxywasm") + "@" + sdkVersion + "` there"}
	}
	return nil
}

// sdkStateFits reports whether the SDK's state begins as the adapter's copy of it does
// (streams.go). Where it does not, the SDK keeps the streams.
func sdkStateFits(pkgs []listed) bool {
	i := slices.IndexFunc(pkgs, func(p listed) bool { return p.ImportPath == sdkPath+"/internal" })
	if i < 0 {
		return false
	}
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(pkgs[i].Dir, "vmstate.go"), nil, parser.SkipObjectResolution)
	if err != nil {
		return false
	}
	return strings.HasPrefix(structFields(f, "state"), "vmContext types.VMContext;pluginContexts map[uint32]*pluginContextState;") &&
		strings.HasPrefix(structFields(f, "pluginContextState"), "context types.PluginContext;")
}

// structFields prints the fields of a struct declared in f, each "name type;".
func structFields(f *ast.File, name string) string {
	var out strings.Builder
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != name {
			return true
		}
		if st, ok := spec.Type.(*ast.StructType); ok {
			for _, field := range st.Fields.List {
				for _, n := range field.Names {
					out.WriteString(n.Name + " " + types.ExprString(field.Type) + ";")
				}
			}
		}
		return false
	})
	return out.String()
}

// sdkHostMethods returns the methods of the SDK's ProxyWasmHost, sorted.
func sdkHostMethods(internal listed) ([]string, error) {
	for _, name := range internal.GoFiles {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(internal.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("SDK: %w", err)
		}
		if m := interfaceMethods(f, "ProxyWasmHost"); m != nil {
			return m, nil
		}
	}
	return nil, nil
}

// adapterHostMethods returns the methods of the adapter's copy of that interface.
func adapterHostMethods() ([]string, error) {
	src, err := adapter.Files.ReadFile("keep.go")
	if err != nil {
		return nil, fmt.Errorf("adapter: %w", err)
	}
	f, err := parser.ParseFile(token.NewFileSet(), "keep.go", src, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("adapter: %w", err)
	}
	return interfaceMethods(f, "sdkHost"), nil
}

// interfaceMethods returns the methods of an interface declared in f, each as its name
// and the machine types of its parameters, sorted; nil if there is no such interface.
func interfaceMethods(f *ast.File, name string) []string {
	var methods []string
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != name {
			return true
		}
		it, ok := spec.Type.(*ast.InterfaceType)
		if !ok {
			return false
		}
		for _, m := range it.Methods.List {
			ft, ok := m.Type.(*ast.FuncType)
			if !ok || len(m.Names) != 1 {
				continue
			}
			methods = append(methods, m.Names[0].Name+"("+machineTypes(ft.Params)+")")
		}
		return false
	})
	slices.Sort(methods)
	return methods
}

// machineTypes prints a parameter list without names; the SDK's named integers, all of
// them uint32, are printed as that.
func machineTypes(fields *ast.FieldList) string {
	var types []string
	for _, f := range fields.List {
		for range max(1, len(f.Names)) {
			types = append(types, machineType(f.Type))
		}
	}
	return strings.Join(types, ",")
}

func machineType(e ast.Expr) string {
	switch t := e.(type) {
	case *ast.StarExpr:
		return "*" + machineType(t.X)
	case *ast.Ident:
		if ast.IsExported(t.Name) {
			return "uint32"
		}
		return t.Name
	}
	return "?"
}

// maxDifferences is how many methods an error names.
const maxDifferences = 4

// difference names methods that only one of the two lists has.
func difference(have, want []string) string {
	var d []string
	for _, m := range have {
		if !slices.Contains(want, m) {
			d = append(d, "it has "+m)
		}
	}
	for _, m := range want {
		if !slices.Contains(have, m) {
			d = append(d, "it lacks "+m)
		}
	}
	if len(d) > maxDifferences {
		d = append(d[:maxDifferences], "and more")
	}
	return strings.Join(d, ", ")
}
