package guestbuild

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/plugins/internal/adapter"
)

func TestScan(t *testing.T) {
	for _, tc := range []struct {
		name, source string
		want         []string
		direct       bool
	}{
		{"nothing", `func F() {}`, nil, true},
		{"methods", `func (c *ctx) OnHttpRequestHeaders(n int, end bool) int { return 0 }; func (ctx) OnTick() {}`, []string{"proxy_on_request_headers", "proxy_on_tick"}, true},
		{"one parameter list", `func (*ctx) OnHttpResponseBody(_, _ int) {}`, []string{"proxy_on_response_body"}, true},
		{"unnamed parameters", `func (*ctx) OnHttpResponseBody(int, bool) {}`, []string{"proxy_on_response_body"}, true},
		{"either kind of end", `func (*ctx) OnStreamDone() {}`, []string{"proxy_on_log"}, false},
		{"other parameters", `func (*ctx) OnTick(n int) {}; func (*ctx) OnHttpRequestBody() {}`, nil, true},
		{"a function, not a method", `func OnTick() {}`, nil, true},
		{"generic receiver", `func (*ctx[T]) OnTick() {}`, []string{"proxy_on_tick"}, true},
		{"a call", `func F() { proxywasm.DispatchHttpCall() }`, []string{"proxy_on_http_call_response"}, false},
		{"a function value", `var f = proxywasm.DispatchHttpCall`, []string{"proxy_on_http_call_response"}, false},
		{"TCP", `func (*ctx) OnDownstreamData(int, bool) int { return 0 }`, []string{"proxy_on_downstream_data"}, false},
		{"a TCP context without callbacks", `func (*ctx) NewTcpContext(uint32) any { return nil }`, nil, false},
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "x.go", "package main\n"+tc.source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		u := uses{exports: map[string]bool{}}
		u.scan(f)
		if got := slices.Sorted(maps.Keys(u.exports)); !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
		if got := u.direct(); got != tc.direct {
			t.Errorf("%s: direct: got %t, want %t", tc.name, got, tc.direct)
		}
	}
}

// exported returns the names in the go:wasmexport directives of a source.
func exported(t *testing.T, src []byte) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "exports.go", src, parser.ParseComments)
	if err != nil {
		t.Fatalf("%v in\n%s", err, src)
	}
	var names []string
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Doc != nil {
			if name := exportName(fn.Doc); name != "" {
				names = append(names, name)
			}
		}
	}
	return names
}

func TestCutExports(t *testing.T) {
	src, err := adapter.Files.ReadFile(adapter.Exports)
	if err != nil {
		t.Fatal(err)
	}
	all := exported(t, src)
	always := []string{
		"proxy_abi_version_0_2_0", "proxy_on_memory_allocate", "main", "proxy_on_context_create", "proxy_on_delete",
	}
	var choice []string
	for _, c := range append(optional(), callback{export: dispatchExport}, callback{export: abi.ExportStreamSlots}) {
		if !slices.Contains(all, c.export) {
			t.Errorf("the adapter does not export %s", c.export)
		}
		if !slices.Contains(choice, c.export) {
			choice = append(choice, c.export)
		}
	}
	if len(all) != len(always)+len(choice) {
		t.Errorf("the adapter exports %d functions; %d are always there and %d optional", len(all), len(always), len(choice))
	}
	for i := range len(choice) + 1 {
		keep := choice[:i]
		out, err := cutExports(src, keep)
		if err != nil {
			t.Fatal(err)
		}
		got := exported(t, out)
		want := slices.Concat(always, keep)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("keeping %v: got %v, want %v", keep, got, want)
		}
		if i < len(choice) && strings.Contains(string(out), choice[i]+"\n") {
			t.Errorf("keeping %v: %s is still named", keep, choice[i])
		}
	}
}
