package proxy_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"wproxy/core/access"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/proxy"
	"wproxy/core/trace"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// A spanSink is the way to a receiver, and that.
type spanSink struct {
	mu    sync.Mutex
	spans []*otlp.Span
}

func (r *spanSink) RoundTrip(q *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return nil, err
	}
	var data otlp.TracesData // which has the encoding of what is posted
	if err := proto.Unmarshal(body, &data); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range data.ResourceSpans {
		for _, s := range s.ScopeSpans {
			r.spans = append(r.spans, s.Spans...)
		}
	}
	return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("")), Request: q}, nil
}

// trace makes e trace with o and returns what sends, and gives back, its spans.
func (e *engine) trace(o trace.Options, edit func(*proxy.Snapshot)) (collect func() []*otlp.Span) {
	e.t.Helper()
	sink := &spanSink{}
	o.URL, o.Service, o.Transport = "http://receiver.test/", "test", sink
	tracer := trace.Open(o)
	s := &proxy.Snapshot{
		Table: e.snapshot.Table, Listeners: e.snapshot.Listeners, NoRoute: e.snapshot.NoRoute, Access: e.snapshot.Access, Tracer: tracer,
	}
	if edit != nil {
		edit(s)
	}
	e.Swap(s)
	return func() []*otlp.Span {
		tracer.Close()
		sink.mu.Lock()
		defer sink.mu.Unlock()
		return slices.Clone(sink.spans)
	}
}

// describe says what a span has, as far as it is not about times and addresses.
func describe(s *otlp.Span) string {
	out := s.Name
	if s.Status.GetCode() == otlp.Status_STATUS_CODE_ERROR {
		out += " failed"
	}
	for _, key := range []string{"http.response.status_code", "error.type", "http.request.resend_count", "wproxy.reason"} {
		for _, a := range s.Attributes {
			if a.Key == key { // each once
				v := a.Value.GetStringValue()
				if v == "" {
					v = fmt.Sprint(a.Value.GetIntValue())
				}
				out += " " + strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(key, "http.response."), "http.request."), "wproxy.") + "=" + v
			}
		}
	}
	return out
}

// TestSpans: what comes of an exchange is what its trace says.
func TestSpans(t *testing.T) {
	t.Parallel()
	refuse := func(from, to int) func(int) error {
		return func(n int) error {
			if n >= from && n < to {
				return &exchange.Error{Op: "dial", Side: exchange.UpstreamSide, Retry: exchange.RetryAlways, Status: 502, Reason: "upstream_refused", Err: errors.New("refused")}
			}
			return nil
		}
	}
	for _, tt := range []struct {
		name    string
		c       *client
		origin  *origin
		edit    func(*proxy.Route)
		servers int
		want    []string
	}{
		{"plain", newClient("GET", "/"), &origin{}, nil, 1, []string{"GET r status_code=200", "GET u status_code=200"}},
		{"unknown method", newClient("BREW", "/"), &origin{}, nil, 1, []string{"_OTHER r status_code=200", "_OTHER u status_code=200"}},
		{
			"a server refuses", newClient("GET", "/"), &origin{dial: refuse(0, 1)}, nil, 2,
			[]string{"GET r status_code=200", "GET u failed error.type=connect", "GET u status_code=200 resend_count=1"},
		},
		{
			"all refuse", newClient("GET", "/"), &origin{dial: refuse(0, 9)}, nil, 2,
			[]string{"GET r failed status_code=502 error.type=upstream_refused reason=upstream_refused", "GET u failed error.type=connect", "GET u failed error.type=connect resend_count=1"},
		},
		{
			"503, then 500", newClient("GET", "/"), &origin{feed: statusThen(nil, 503, 500)}, on(0, 1, 503), 2,
			[]string{"GET r failed status_code=500 error.type=500", "GET u failed status_code=503 error.type=503", "GET u failed status_code=500 error.type=500 resend_count=1"},
		},
		{"404 of the upstream", newClient("GET", "/"), &origin{feed: statusThen(nil, 404)}, nil, 1, []string{"GET r status_code=404", "GET u failed status_code=404 error.type=404"}},
		{
			"a streaming body, sent again", newClient("PUT", "/").sending("a", "", "b"), &origin{feed: statusThen(nil, 503)}, on(0, 1, 503), 2,
			[]string{"PUT r status_code=200", "PUT u failed status_code=503 error.type=503", "PUT u status_code=200 resend_count=1"},
		},
		{
			"cut", newClient("GET", "/"), &origin{feed: func(_ int, _ *stream, dst exchange.Sink[*exchange.Response]) error {
				if err := dst.Head(&exchange.Response{Status: 200, Length: 10}, false); err != nil {
					return err
				}
				return &exchange.Error{Op: "read body", Side: exchange.UpstreamSide, Status: 502, Reason: "truncated"}
			}}, nil, 1,
			[]string{"GET r failed status_code=200 error.type=upstream_truncated reason=upstream_truncated", "GET u failed status_code=200 error.type=reset"},
		},
		{"denied", newClient("GET", "/"), &origin{}, func(r *proxy.Route) { r.Deny = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} }, 1, []string{"GET r status_code=403 reason=denied"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t, tt.origin, config{edit: tt.edit, servers: tt.servers})
			collect := e.trace(trace.Options{Share: 1}, nil)
			e.do(tt.c)
			spans := collect()
			var got []string
			for i, s := range spans {
				d := describe(s)
				got = append(got, d)
				if i > 0 && (!bytes.Equal(s.ParentSpanId, spans[0].SpanId) || s.EndTimeUnixNano == 0 || s.EndTimeUnixNano > spans[0].EndTimeUnixNano) {
					t.Errorf("%s is not within the first", d)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

// TestTraceContext: what upstreams are told about the trace.
func TestTraceContext(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		share float64 // negative: no tracing
		in    []string
		edit  func(*proxy.Route)
		trust bool
		same  bool   // traceparent is as it came
		none  bool   // there is none
		trace bool   // it is in the trace that it came with
		flags string // at its end
		state string
	}{
		{name: "off", share: -1, in: []string{"traceparent", "whatever", "tracestate", "a=1"}, same: true, state: "a=1"},
		{name: "off, without", share: -1, none: true},
		{name: "recorded", share: 1, in: []string{"traceparent", parent, "tracestate", "a=1", "tracestate", "b=2"}, trace: true, flags: "01", state: "a=1, b=2"},
		{name: "not recorded", share: 0, in: []string{"traceparent", parent, "tracestate", "a=1"}, trace: true, flags: "00", state: "a=1"},
		{name: "trusted", share: 0, in: []string{"traceparent", parent}, trust: true, trace: true, flags: "01"},
		{name: "none", share: 1, in: []string{"tracestate", "a=1"}, flags: "01"},
		{name: "malformed", share: 1, in: []string{"traceparent", "00-abc", "tracestate", "a=1"}, flags: "01"},
		{name: "two", share: 1, in: []string{"traceparent", parent, "traceparent", parent, "tracestate", "a=1"}, flags: "01"},
		{
			name: "taken away by the route", share: 1, in: []string{"traceparent", parent}, none: true,
			edit: func(r *proxy.Route) { r.RequestHeaders.Remove = []string{"traceparent"} },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := &origin{}
			cfg := config{edit: tt.edit}
			if tt.trust {
				cfg.trust = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
			}
			e := newEngine(t, o, cfg)
			collect := func() []*otlp.Span { return nil }
			if tt.share >= 0 {
				collect = e.trace(trace.Options{Share: tt.share}, nil)
			}
			e.do(newClient("GET", "/").with(tt.in...))
			spans := collect()
			f := &o.streams[0].head.Fields
			got, there := f.Get("traceparent")
			switch {
			case tt.none:
				if there {
					t.Errorf("got %q, want none", got)
				}
			case tt.same:
				if got != tt.in[1] {
					t.Errorf("got %q", got)
				}
			default:
				c, ok := trace.Parse(f.Joined("traceparent"))
				if !ok || (got[:35] == parent[:35]) != tt.trace || got[36:52] == parent[36:52] || got[53:] != tt.flags {
					t.Errorf("got %q", got)
				}
				if c.Sampled && (len(spans) != 2 || !bytes.Equal(c.Span[:], spans[1].SpanId) || !bytes.Equal(c.Trace[:], spans[0].TraceId)) {
					t.Errorf("got %q and %v", got, spans)
				}
				if id, _ := e.line()["trace_id"].(string); id != got[3:35] {
					t.Errorf("the log has the trace %q", id)
				}
			}
			if state := f.Joined("tracestate"); state != tt.state {
				t.Errorf("tracestate: got %q, want %q", state, tt.state)
			}
		})
	}
}

// A tagger is a plugin that sets attributes of the span, and tells of calls.
type tagger struct{ timed bool }

func (*tagger) Name() string { return "tagger" }
func (p *tagger) New(x *filter.Exchange) (filter.Filter, error) {
	p.timed = x.Timed
	x.SetProp("trace_span_tag\x00team", []byte("a\xff"))
	x.SetProp("trace_span_tag.other", []byte("b"))
	x.SetProp("trace_span_tagged", []byte("no"))
	x.SetProp("trace_span_tag", []byte("no"))
	var at int
	now := time.Now()
	x.NoteCall(&at, filter.Calls{Plugin: "tagger", Phase: filter.PhaseRequest, Begin: now, End: now.Add(time.Millisecond), Took: time.Millisecond, Fuel: 10, Count: 1})
	x.NoteCall(&at, filter.Calls{End: now.Add(3 * time.Millisecond), Took: time.Millisecond, Fuel: 5, Count: 1})
	x.NoteCall(&at, filter.Calls{End: now})
	return passer{}, nil
}

type passer struct{}

func (passer) Request(next exchange.Sink[*exchange.Request]) exchange.Sink[*exchange.Request] {
	return next
}

func (passer) Response(next exchange.Sink[*exchange.Response]) exchange.Sink[*exchange.Response] {
	return next
}
func (passer) Close(error) {}

func TestPluginsInTraces(t *testing.T) {
	t.Parallel()
	p := &tagger{}
	e := newEngine(t, &origin{}, config{edit: func(r *proxy.Route) { r.Filters = []filter.Factory{p} }})
	collect := e.trace(trace.Options{Share: 1}, func(s *proxy.Snapshot) { s.Hide = access.Hide{Query: []string{"phone"}} })
	e.do(newClient("GET", "/a?phone=1&token=2&z=3"))
	spans := collect()
	if len(spans) != 3 || !p.timed {
		t.Fatalf("got %v, timed %v", spans, p.timed)
	}
	got := map[string]string{}
	for _, a := range spans[0].Attributes {
		got[a.Key] = a.Value.GetStringValue()
	}
	if got["team"] != "a\uFFFD" || got["other"] != "b" || got["ged"] != "" || got["url.query"] != "phone=***&token=***&z=3" {
		t.Errorf("got %v", got)
	}
	s := spans[2]
	if s.Name != "plugin tagger request" || s.EndTimeUnixNano-s.StartTimeUnixNano != 3e6 {
		t.Errorf("got %v", s)
	}
	for _, a := range s.Attributes {
		if a.Key == "wproxy.plugin.fuel" && a.Value.GetIntValue() != 15 || a.Key == "wproxy.plugin.callbacks" && a.Value.GetIntValue() != 2 ||
			a.Key == "wproxy.plugin.seconds" && a.Value.GetDoubleValue() != .002 {
			t.Errorf("got %v", a)
		}
	}
}

// TestTimedIsAskedFor: without anybody who wants to know, plugins do not look at clocks.
func TestTimedIsAskedFor(t *testing.T) {
	t.Parallel()
	p := &tagger{timed: true}
	e := newEngine(t, &origin{}, config{edit: func(r *proxy.Route) { r.Filters = []filter.Factory{p} }})
	e.do(newClient("GET", "/"))
	if p.timed {
		t.Error("timed without tracing")
	}
	p.timed = true
	collect := e.trace(trace.Options{Share: 0}, nil)
	e.do(newClient("GET", "/"))
	if p.timed {
		t.Error("timed although it is not recorded")
	}
	collect()
}

// TestDebugToken: it is for wproxy alone, and without one nobody is told.
func TestDebugToken(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, token, said string
		told, passed      bool
	}{
		{"the token", "secret", "secret", true, false},
		{"another", "secret", "secrets", false, false},
		{"empty", "secret", "", false, false},
		{"there is none", "", "secret", false, true},
		{"there is none, and none is said", "", "", false, true},
	} {
		o := &origin{}
		e := newEngine(t, o, config{})
		e.Swap(&proxy.Snapshot{
			Table: e.snapshot.Table, Listeners: e.snapshot.Listeners, NoRoute: e.snapshot.NoRoute, Debug: proxy.NewDebugToken(tt.token),
		})
		c := e.do(newClient("GET", "/").with("x-wproxy-debug", tt.said))
		if c.fields.Has("server-timing") != tt.told || o.streams[0].head.Fields.Has("x-wproxy-debug") != tt.passed {
			t.Errorf("%s: got %v, the upstream %v", tt.name, c.fields.List(), o.streams[0].head.Fields.List())
		}
	}
}
