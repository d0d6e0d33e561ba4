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
	tcp    bool // of a TCP context
}

// optional are the callbacks that are exported only where a plugin declares
// the method. All other exports of the adapter are always there.
func optional() []callback {
	return []callback{
		{"OnVMStart", 1, "proxy_on_vm_start", false},
		{"OnPluginStart", 1, "proxy_on_configure", false},
		{"OnPluginDone", 0, "proxy_on_done", false},
		{"OnQueueReady", 1, "proxy_on_queue_ready", false},
		{"OnTick", 0, "proxy_on_tick", false},
		{"OnNewConnection", 0, "proxy_on_new_connection", true},
		{"OnDownstreamData", 2, "proxy_on_downstream_data", true},
		{"OnDownstreamClose", 1, "proxy_on_downstream_connection_close", true},
		{"OnUpstreamData", 2, "proxy_on_upstream_data", true},
		{"OnUpstreamClose", 1, "proxy_on_upstream_connection_close", true},
		{"OnStreamDone", 0, "proxy_on_log", true},
		{"OnHttpStreamDone", 0, "proxy_on_log", false},
		{"OnHttpRequestHeaders", 2, "proxy_on_request_headers", false},
		{"OnHttpRequestBody", 2, "proxy_on_request_body", false},
		{"OnHttpRequestTrailers", 1, "proxy_on_request_trailers", false},
		{"OnHttpResponseHeaders", 2, "proxy_on_response_headers", false},
		{"OnHttpResponseBody", 2, "proxy_on_response_body", false},
		{"OnHttpResponseTrailers", 1, "proxy_on_response_trailers", false},
	}
}

const (
	// dispatch is the SDK's only function whose answer comes as a callback.
	dispatch       = "DispatchHttpCall"
	dispatchExport = "proxy_on_http_call_response"
)

// uses is what a plugin's source asks of the adapter.
type uses struct {
	exports map[string]bool // optional exports
	tcp     bool            // it has TCP contexts
}

// direct reports whether the adapter may keep the plugin's streams (adapter.Mode).
func (u *uses) direct() bool { return !u.tcp && !u.exports[dispatchExport] }

// callbacks finds what a plugin uses. It reads the syntax of every package outside the
// SDK and the standard library: a context can only have another method than the SDK's
// default, be it by embedding, if one of these declares a method of that name.
// So the answer is never too small; a method of the same name on an unrelated type
// makes it too large, which costs a call and breaks nothing.
func callbacks(pkgs []listed) (uses, error) {
	u := uses{exports: map[string]bool{}}
	for i := range pkgs {
		p := &pkgs[i]
		if p.Standard || p.sdk() {
			continue
		}
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if f == nil {
				return uses{}, fmt.Errorf("plugin source: %w", err)
			}
			// A syntax error is for the compiler to report, in its words; what was
			// parsed is enough until then.
			u.scan(f)
		}
	}
	return u, nil
}

// scan adds what a file uses.
func (u *uses) scan(f *ast.File) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Recv == nil {
				break
			}
			if n.Name.Name == "NewTcpContext" {
				u.tcp = true
			}
			for _, c := range optional() {
				if n.Name.Name == c.method && n.Type.Params.NumFields() == c.params {
					u.exports[c.export] = true
					u.tcp = u.tcp || c.tcp
				}
			}
		case *ast.Ident:
			if n.Name == dispatch {
				u.exports[dispatchExport] = true
			}
		}
		return true
	})
}
