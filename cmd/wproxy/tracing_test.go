package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"wproxy/cmd/wproxy/internal/strict"
	"wproxy/core/trace"
	"wproxy/host/wasmtest"
)

// An otlpReceiver is a receiver of OTLP over HTTP that decodes with OpenTelemetry's own
// types.
type otlpReceiver struct {
	*httptest.Server
	mu    sync.Mutex
	spans []*otlp.Span // guarded by mu
	bad   []string     // guarded by mu; requests that were none
}

func newOTLPReceiver(t *testing.T) *otlpReceiver {
	t.Helper()
	r := &otlpReceiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		// TracesData has the encoding of ExportTraceServiceRequest, which comes with gRPC.
		var data otlp.TracesData
		if err == nil {
			err = proto.Unmarshal(body, &data)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if err != nil || q.URL.Path != "/v1/traces" || q.Method != http.MethodPost || q.Header.Get("Content-Type") != "application/x-protobuf" {
			r.bad = append(r.bad, fmt.Sprint(q.Method, q.URL, q.Header, err))
		}
		for _, s := range data.ResourceSpans {
			for _, s := range s.ScopeSpans {
				r.spans = append(r.spans, s.Spans...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(r.Close)
	return r
}

// all returns what has arrived.
func (r *otlpReceiver) all(t *testing.T) []*otlp.Span {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.bad) > 0 {
		t.Errorf("not a request of OTLP: %q", r.bad)
	}
	return slices.Clone(r.spans)
}

// attributes returns those of a span as text.
func attributes(s *otlp.Span) map[string]string {
	m := map[string]string{}
	for _, a := range s.Attributes {
		v := a.Value.GetStringValue()
		if v == "" {
			v = strings.TrimPrefix(strings.TrimPrefix(a.Value.String(), "int_value:"), "bool_value:")
		}
		m[a.Key] = v
	}
	return m
}

const tracingConfig = `
[listeners.http]
address     = "@ADDR"
trust_proxy = ["127.0.0.1"]

[admin]
address     = "@ADMIN"
debug_token = "0123456789abcdef"

[log.access]
to = "@ACCESS"

[tracing]
otlp   = "@OTLP"
sample = "0%"

[routes.all]
upstream = "shop"
use      = ["one", "ask"]
retry    = { on = ["503"], attempts = 1 }

[plugins.one]
wasm = "@ONE"

[plugins.ask]
wasm  = "@ASK"
grant = ["log", "call:auth"]

[upstreams.shop]
servers = ["@SHOP"]

[upstreams.auth]
servers = ["@AUTH"]
`

// TestTrace: the trace of one request through a retry and two plugins, one of which asks
// somebody else first, arrives whole at a receiver.
func TestTrace(t *testing.T) {
	receiver := newOTLPReceiver(t)
	var mu sync.Mutex
	var places []string // traceparents that the upstream got
	var requests atomic.Int64
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		places = append(places, r.Header.Get("Traceparent"))
		mu.Unlock()
		if r.Header.Get("X-Wproxy-Debug") != "" {
			t.Error("the upstream got the debug token")
		}
		if requests.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = io.WriteString(w, "ok")
	}))
	t.Cleanup(shop.Close)
	var asked atomic.Int64 // when the plugin's call came
	auth := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked.CompareAndSwap(0, time.Now().UnixNano())
	}))
	t.Cleanup(auth.Close)
	dir := t.TempDir()
	one := wasmtest.NewGuest()
	one.Headers("request", wasmtest.I32(0))
	one.Headers("response", wasmtest.I32(0))
	for name, b := range map[string][]byte{"one": one.Bytes(), "ask": askGuest("auth", 1000).Bytes()} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := startInstance(t, strings.NewReplacer(
		"@OTLP", receiver.URL, "@ONE", filepath.Join(dir, "one"), "@ASK", filepath.Join(dir, "ask"),
		"@SHOP", shop.Listener.Addr().String(), "@AUTH", auth.Listener.Addr().String()).Replace(tracingConfig))

	const caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	resp := ask(t, in, "/a?token=secret&b=1", "traceparent: "+caller, "tracestate: vendor=1")
	if resp.Status != 200 || slices.ContainsFunc(resp.Fields, func(f strict.Field) bool { return f.Name == "server-timing" }) {
		t.Fatalf("got %+v", resp)
	}
	ask(t, in, "/unrecorded") // the share is 0
	in.stop(t)                // sends what there is

	spans := receiver.all(t)
	named := map[string]*otlp.Span{}
	for _, s := range spans {
		named[s.Name] = s
		if fmt.Sprintf("%x", s.TraceId) != caller[3:35] || s.TraceState != "vendor=1" {
			t.Errorf("%s: trace %x, state %q", s.Name, s.TraceId, s.TraceState)
		}
	}
	server := named["GET all"]
	if server == nil {
		t.Fatalf("got spans %v", spans)
	}
	if fmt.Sprintf("%x", server.ParentSpanId) != caller[36:52] || server.Kind != otlp.Span_SPAN_KIND_SERVER || server.Status != nil {
		t.Errorf("got %v", server)
	}
	want := map[string]string{
		"http.request.method": "GET", "url.path": "/a", "url.query": "token=***&b=1", "url.scheme": "http", "http.response.status_code": "200",
		"wproxy.route": "all", "wproxy.upstream": "shop", "wproxy.listener": "http", "network.protocol.version": "1.1", "server.address": "a.test",
	}
	for k, v := range want {
		if got := attributes(server)[k]; got != v {
			t.Errorf("%s: got %q, want %q", k, got, v)
		}
	}
	var tries []*otlp.Span
	for _, s := range spans {
		if s.Kind == otlp.Span_SPAN_KIND_CLIENT {
			tries = append(tries, s)
		}
		if s != server && (!bytes.Equal(s.ParentSpanId, server.SpanId) || s.StartTimeUnixNano < server.StartTimeUnixNano || s.EndTimeUnixNano < s.StartTimeUnixNano) {
			t.Errorf("%s is below %x, from %d to %d", s.Name, s.ParentSpanId, s.StartTimeUnixNano, s.EndTimeUnixNano)
		}
	}
	if len(tries) != 2 || tries[0].EndTimeUnixNano > tries[1].StartTimeUnixNano {
		t.Fatalf("got tries %v", tries)
	}
	for i, status := range []string{"503", "200"} {
		a := attributes(tries[i])
		if a["http.response.status_code"] != status || tries[i].Name != "GET shop" || (tries[i].Status.GetCode() == otlp.Status_STATUS_CODE_ERROR) != (i == 0) ||
			i == 1 && a["http.request.resend_count"] != "1" || a["url.full"] != "http://a.test/a?token=***&b=1" {
			t.Errorf("try %d: got %v", i+1, tries[i])
		}
		if at, _ := trace.Parse(places[i]); !bytes.Equal(at.Span[:], tries[i].SpanId) || !bytes.Equal(at.Trace[:], server.TraceId) || !at.Sampled {
			t.Errorf("try %d: the upstream got %q, the span is %x", i+1, places[i], tries[i].SpanId)
		}
	}
	for _, name := range []string{"plugin one request", "plugin one response", "plugin ask request"} {
		s := named[name]
		if s == nil {
			t.Errorf("there is no span %q", name)
			continue
		}
		if a := attributes(s); a["wproxy.plugin.fuel"] == "" || a["wproxy.plugin.callbacks"] != "1" {
			t.Errorf("%s: got %v", name, a)
		}
	}
	if len(spans) != 6 {
		t.Errorf("got %d spans: %v", len(spans), spans)
	}
	// The request goes on when the answer has come to what the plugin has asked.
	p, at := named["plugin ask request"], uint64(asked.Load())
	if p != nil && (p.EndTimeUnixNano > tries[0].StartTimeUnixNano || p.StartTimeUnixNano > at || p.EndTimeUnixNano < at) {
		t.Errorf("from %d to %d, which is not the time of its call, at %d, and before the first try, at %d",
			p.StartTimeUnixNano, p.EndTimeUnixNano, at, tries[0].StartTimeUnixNano)
	}
	if at, ok := trace.Parse(places[2]); !ok || at.Sampled {
		t.Errorf("unrecorded: the upstream got %q", places[2])
	}
	line, err := os.ReadFile(in.access)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(line), fmt.Sprintf(`"trace_id":"%s","span_id":"%x"`, caller[3:35], server.SpanId)) {
		t.Errorf("access log: %s", line)
	}
	if n := strings.Count(string(line), `"trace_id":`); n != 2 {
		t.Errorf("%d of 2 lines have a trace", n)
	}
}

// TestServerTiming: who shows the token is told where the time has gone, and nobody else.
func TestServerTiming(t *testing.T) {
	receiver := newOTLPReceiver(t)
	shop := newGoOrigin(t)
	dir := t.TempDir()
	one := wasmtest.NewGuest()
	one.Headers("request", wasmtest.I32(0))
	one.Headers("response", wasmtest.I32(0))
	if err := os.WriteFile(filepath.Join(dir, "one"), one.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	toml := strings.NewReplacer(`, "ask"]`, "]", "@OTLP", receiver.URL, "@ONE", filepath.Join(dir, "one"), "@SHOP", shop.Listener.Addr().String()).Replace(tracingConfig)
	head, rest, _ := strings.Cut(toml, "[plugins.ask]")
	_, rest, _ = strings.Cut(rest, "[upstreams.shop]")
	rest, _, _ = strings.Cut(rest, "[upstreams.auth]")
	in := startInstance(t, head+"[upstreams.shop]"+rest)
	for _, tt := range []struct {
		name, field string
		told        bool
	}{
		{"the token", "x-wproxy-debug: 0123456789abcdef", true},
		{"none", "x-other: 0123456789abcdef", false},
		{"another", "x-wproxy-debug: 0123456789abcdeF", false},
		{"a part", "x-wproxy-debug: 0123456789abcde", false},
		{"empty", "x-wproxy-debug: ", false},
	} {
		resp := ask(t, in, "/ok", tt.field)
		got := ""
		for _, f := range resp.Fields {
			if f.Name == "server-timing" {
				got = f.Value
			}
		}
		if (got != "") != tt.told {
			t.Errorf("%s: got %q", tt.name, got)
		}
		for _, part := range []string{"plugin.one.request;dur=", "plugin.one.response;dur=", `;desc="fuel `, "upstream;dur=", "total;dur="} {
			if tt.told && !strings.Contains(got, part) {
				t.Errorf("%s: got %q, without %s", tt.name, got, part)
			}
		}
	}
	in.stop(t)
	n := 0
	for _, s := range receiver.all(t) {
		if s.Kind == otlp.Span_SPAN_KIND_SERVER {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d requests are recorded, want the one with the token", n)
	}
}

// ask sends a GET with fields.
func ask(t *testing.T, in *instance, target string, fields ...string) *strict.Response {
	t.Helper()
	w := in.connect(t)
	defer w.Close()
	head := "GET " + target + " HTTP/1.1\r\nHost: a.test\r\n"
	for _, f := range fields {
		head += f + "\r\n"
	}
	if _, err := io.WriteString(w, head+"\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := w.r.ReadResponse("GET")
	if err != nil {
		t.Fatalf("GET %s: %v", target, err)
	}
	return resp
}
