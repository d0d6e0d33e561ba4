package guestbuild

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
)

// A callback is a method of the SDK's context types and the export through which the
// host calls it.
type callback struct {
	method string
	params int
	export string
}

// optional are the callbacks that are exported only where a plugin declares
// the method. All other exports of the adapter are always there.
func optional() []callback {
	return []callback{
		{"OnVMStart", 1, "proxy_on_vm_start"},
		{"OnPluginStart", 1, "proxy_on_configure"},
		{"OnPluginDone", 0, "proxy_on_done"},
		{"OnQueueReady", 1, "proxy_on_queue_ready"},
		{"OnTick", 0, "proxy_on_tick"},
		{"OnNewConnection", 0, "proxy_on_new_connection"},
		{"OnDownstreamData", 2, "proxy_on_downstream_data"},
		{"OnDownstreamClose", 1, "proxy_on_downstream_connection_close"},
		{"OnUpstreamData", 2, "proxy_on_upstream_data"},
		{"OnUpstreamClose", 1, "proxy_on_upstream_connection_close"},
		{"OnStreamDone", 0, "proxy_on_log"},
		{"OnHttpStreamDone", 0, "proxy_on_log"},
		{"OnHttpRequestHeaders", 2, "proxy_on_request_headers"},
		{"OnHttpRequestBody", 2, "proxy_on_request_body"},
		{"OnHttpRequestTrailers", 1, "proxy_on_request_trailers"},
		{"OnHttpResponseHeaders", 2, "proxy_on_response_headers"},
		{"OnHttpResponseBody", 2, "proxy_on_response_body"},
		{"OnHttpResponseTrailers", 1, "proxy_on_response_trailers"},
	}
}

const (
	// dispatch is the SDK's only function whose answer comes as a callback.
	dispatch       = "DispatchHttpCall"
	dispatchExport = "proxy_on_http_call_response"
)

// callbacks returns the optional exports that a plugin needs. It reads the syntax of
// every package outside the SDK and the standard library: a context can only have
// another method than the SDK's default, be it by embedding, if one of these
// declares a method of that name. So the answer is never too small; a method of the
// same name on an unrelated type makes it too large, which costs a call and breaks nothing.
func callbacks(pkgs []listed) ([]string, error) {
	found := map[string]bool{}
	for i := range pkgs {
		p := &pkgs[i]
		if p.Standard || p.sdk() {
			continue
		}
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if f == nil {
				return nil, fmt.Errorf("plugin source: %w", err)
			}
			// A syntax error is for the compiler to report, in its words; what was
			// parsed is enough until then.
			scan(f, found)
		}
	}
	var exports []string
	for e := range found {
		exports = append(exports, e)
	}
	return exports, nil
}

// scan adds the exports that a file calls for to found.
func scan(f *ast.File, found map[string]bool) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Recv == nil {
				break
			}
			for _, c := range optional() {
				if n.Name.Name == c.method && n.Type.Params.NumFields() == c.params {
					found[c.export] = true
				}
			}
		case *ast.Ident:
			if n.Name == dispatch {
				found[dispatchExport] = true
			}
		}
		return true
	})
}
