package trace_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"wproxy/core/trace"
)

// A receiver is the way to a receiver of OTLP, and that.
type receiver struct {
	mu     sync.Mutex
	answer func(n int) (status int, fields http.Header, body []byte) // to the request with this number; nil: 200
	err    error                                                     // instead of an answer
	block  chan struct{}                                             // until it is closed; nil: not
	asked  int
	times  []time.Duration
	start  time.Time
	got    []*otlp.Span
	last   *otlp.TracesData
	fields http.Header
	url    string
}

func (r *receiver) RoundTrip(q *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return nil, err
	}
	if r.block != nil {
		select {
		case <-r.block:
		case <-q.Context().Done():
			return nil, q.Context().Err()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	r.times = append(r.times, time.Since(r.start))
	r.fields, r.url = q.Header, q.URL.String()
	if r.err != nil {
		return nil, r.err
	}
	status, fields, out := 200, http.Header{}, []byte(nil)
	if r.answer != nil {
		status, fields, out = r.answer(r.asked)
	}
	if status == 200 {
		// TracesData has the encoding of ExportTraceServiceRequest, which comes with gRPC.
		r.last = &otlp.TracesData{}
		if err := proto.Unmarshal(body, r.last); err != nil {
			return nil, err
		}
		for _, s := range r.last.ResourceSpans {
			for _, s := range s.ScopeSpans {
				r.got = append(r.got, s.Spans...)
			}
		}
	}
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Header: fields, Body: io.NopCloser(bytes.NewReader(out)), Request: q,
	}, nil
}

func (r *receiver) state() (asked, spans int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked, len(r.got)
}

type counts struct{ sent, dropped, rejected atomic.Int64 }

// open makes a Tracer that everything is recorded by.
func open(r *receiver, c *counts, more func(*trace.Options)) *trace.Tracer {
	r.start = time.Now()
	o := trace.Options{
		URL: "http://receiver.test/v1/traces", Service: "edge", Version: "1.2", Share: 1, Transport: r,
		Sent:     func(n int) { c.sent.Add(int64(n)) },
		Dropped:  func(n int) { c.dropped.Add(int64(n)) },
		Rejected: func(n int) { c.rejected.Add(int64(n)) },
	}
	if more != nil {
		more(&o)
	}
	return trace.Open(o)
}

func send(tr *trace.Tracer, name string) trace.Context {
	c, _ := tr.Begin("", false, false)
	b := tr.Batch()
	b.Begin(&trace.Span{Trace: c.Trace, ID: c.Span, Name: name, Kind: trace.Server, Start: time.Now(), End: time.Now()})
	tr.Send(b)
	return c
}

// TestEncoding: what is sent is what OpenTelemetry's own types read.
func TestEncoding(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r receiver
		var c counts
		tr := open(&r, &c, func(o *trace.Options) {
			o.Resource = []trace.Attribute{{Name: "host.name", Value: "h"}}
			o.Fields = []trace.Attribute{{Name: "authorization", Value: "Bearer x"}}
		})
		in, _ := trace.Parse(parent)
		own, above := tr.Begin(parent, true, false)
		start := time.Now()
		b := tr.Batch()
		b.Begin(&trace.Span{
			Trace: own.Trace, ID: own.Span, Parent: above, Remote: true, State: "a=1,b=2", Name: "GET all", Kind: trace.Server,
			Start: start, End: start.Add(time.Second), Failed: true, Why: "upstream_reset",
		})
		b.Text("text", "v\xff\x00é")
		b.Text("long", strings.Repeat("x", 5000))
		b.Text("nothing", "")
		b.Text("a plugin's \xff", "key")
		b.Text(strings.Repeat("k", 5000), "long")
		b.Int("int", -3)
		b.Int("big", math.MaxInt64)
		b.Float("float", 0.25)
		b.Bool("bool", true)
		b.Bool("not", false)
		child := tr.NewSpanID()
		b.Begin(&trace.Span{Trace: own.Trace, ID: child, Parent: own.Span, Name: "", Kind: trace.Internal, Start: start, End: start.Add(-time.Second)})
		tr.Send(b)
		tr.Close()

		if len(r.got) != 2 {
			t.Fatalf("got %d spans", len(r.got))
		}
		s := r.got[0]
		if !bytes.Equal(s.TraceId, in.Trace[:]) || !bytes.Equal(s.SpanId, own.Span[:]) || !bytes.Equal(s.ParentSpanId, in.Span[:]) {
			t.Errorf("got ids %x %x %x", s.TraceId, s.SpanId, s.ParentSpanId)
		}
		if s.Name != "GET all" || s.Kind != otlp.Span_SPAN_KIND_SERVER || s.TraceState != "a=1,b=2" || s.Flags != 0x301 ||
			s.StartTimeUnixNano != uint64(start.UnixNano()) || s.EndTimeUnixNano != uint64(start.Add(time.Second).UnixNano()) ||
			s.Status.GetCode() != otlp.Status_STATUS_CODE_ERROR || s.Status.GetMessage() != "upstream_reset" {
			t.Errorf("got %v", s)
		}
		a := map[string]*common.AnyValue{}
		for _, kv := range s.Attributes {
			a[kv.Key] = kv.Value
		}
		if a["a plugin's \uFFFD"].GetStringValue() != "key" || a[strings.Repeat("k", 1024)].GetStringValue() != "long" {
			t.Errorf("got attributes %v", a)
		}
		if len(a) != 9 || a["text"].GetStringValue() != "v\uFFFD\x00é" || len(a["long"].GetStringValue()) != 1024 || a["int"].GetIntValue() != -3 ||
			a["big"].GetIntValue() != math.MaxInt64 || a["float"].GetDoubleValue() != 0.25 || !a["bool"].GetBoolValue() || a["not"].GetBoolValue() {
			t.Errorf("got attributes %v", a)
		}
		s = r.got[1]
		if !bytes.Equal(s.ParentSpanId, own.Span[:]) || s.Kind != otlp.Span_SPAN_KIND_INTERNAL || s.Flags != 0x101 || s.Status != nil ||
			s.EndTimeUnixNano != s.StartTimeUnixNano || len(s.Attributes) != 0 {
			t.Errorf("got %v", s)
		}
		resource := map[string]string{}
		for _, kv := range r.last.ResourceSpans[0].Resource.Attributes {
			resource[kv.Key] = kv.Value.GetStringValue()
		}
		if resource["service.name"] != "edge" || resource["service.version"] != "1.2" || resource["host.name"] != "h" {
			t.Errorf("got resource %v", resource)
		}
		if scope := r.last.ResourceSpans[0].ScopeSpans[0].Scope; scope.GetName() != "wproxy" || scope.GetVersion() != "1.2" {
			t.Errorf("got scope %v", scope)
		}
		if r.fields.Get("content-type") != "application/x-protobuf" || r.fields.Get("authorization") != "Bearer x" || r.url != "http://receiver.test/v1/traces" {
			t.Errorf("got %s, %v", r.url, r.fields)
		}
		if c.sent.Load() != 2 || c.dropped.Load() != 0 || c.rejected.Load() != 0 {
			t.Errorf("counted %d, %d, %d", c.sent.Load(), c.dropped.Load(), c.rejected.Load())
		}
	})
}

// TestSends: spans travel together, once a second.
func TestSends(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r receiver
		var c counts
		tr := open(&r, &c, nil)
		defer tr.Close()
		for range 100 {
			send(tr, "x")
		}
		synctest.Wait()
		if asked, _ := r.state(); asked != 0 {
			t.Errorf("asked %d times at once", asked)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if asked, spans := r.state(); asked != 1 || spans != 100 {
			t.Errorf("asked %d times for %d spans", asked, spans)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if asked, _ := r.state(); asked != 1 {
			t.Errorf("asked %d times without a span", asked)
		}
	})
}

// TestComesBack: a receiver that is away for a while gets what was begun meanwhile, and
// is not hammered.
func TestComesBack(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		away  func(r *receiver)
		after time.Duration // that the second attempt comes at the earliest, after the first
	}{
		{"nobody listens", func(r *receiver) { r.err = errors.New("connection refused") }, 500 * time.Millisecond},
		{"503", func(r *receiver) {
			r.answer = func(int) (int, http.Header, []byte) { return 503, http.Header{}, nil }
		}, 500 * time.Millisecond},
		{"429 with retry-after", func(r *receiver) {
			r.answer = func(int) (int, http.Header, []byte) { return 429, http.Header{"Retry-After": {"7"}}, nil }
		}, 7 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var r receiver
				var c counts
				var said []string
				tt.away(&r)
				tr := open(&r, &c, func(o *trace.Options) {
					o.Failing = func(err error) {
						if err != nil {
							said = append(said, err.Error())
						} else {
							said = append(said, "again")
						}
					}
				})
				defer tr.Close()
				send(tr, "before")
				time.Sleep(10 * time.Second)
				send(tr, "meanwhile")
				synctest.Wait()
				r.mu.Lock()
				r.err, r.answer = nil, nil
				n, times := r.asked, r.times
				r.mu.Unlock()
				if n < 2 || n > 8 || times[1]-times[0] < tt.after {
					t.Errorf("asked at %v", times)
				}
				time.Sleep(30 * time.Second)
				synctest.Wait()
				if _, spans := r.state(); spans != 2 || c.sent.Load() != 2 || c.dropped.Load() != 0 {
					t.Errorf("%d spans arrived, %d sent, %d dropped", spans, c.sent.Load(), c.dropped.Load())
				}
				if len(said) != 2 || said[1] != "again" {
					t.Errorf("said %q", said)
				}
			})
		})
	}
}

// TestNotWanted: what a receiver refuses for good is not sent again, and counted.
func TestNotWanted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                    string
		status                  int
		body                    []byte
		sent, dropped, rejected int64
	}{
		{"400", 400, nil, 0, 1, 0},
		{"redirect", 307, nil, 0, 1, 0},
		{"some of it", 200, []byte{0x0a, 0x02, 0x08, 0x01}, 0, 0, 1}, // partial_success { rejected_spans: 1 }
		{"more than there was", 200, []byte{0x0a, 0x02, 0x08, 0x09}, 0, 0, 1},
		{"less than none", 200, []byte{0x0a, 0x0b, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, 1, 0, 0},
		{"nonsense", 200, []byte{0xff, 0xff}, 1, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var r receiver
				var c counts
				r.answer = func(int) (int, http.Header, []byte) { return tt.status, http.Header{"Location": {"/x"}}, tt.body }
				tr := open(&r, &c, nil)
				send(tr, "x")
				time.Sleep(time.Minute)
				if asked, _ := r.state(); asked != 1 {
					t.Errorf("asked %d times", asked)
				}
				tr.Close()
				if c.sent.Load() != tt.sent || c.dropped.Load() != tt.dropped || c.rejected.Load() != tt.rejected {
					t.Errorf("counted %d, %d, %d", c.sent.Load(), c.dropped.Load(), c.rejected.Load())
				}
			})
		})
	}
}

// TestDeadReceiver: nobody waits for one, memory is bounded, every span is sent or
// counted, and the end comes soon.
func TestDeadReceiver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := receiver{block: make(chan struct{})}
		var c counts
		tr := open(&r, &c, nil)
		const n = 100_000 // some 10 MB
		before := time.Now()
		for range n {
			send(tr, strings.Repeat("x", 50))
		}
		if took := time.Since(before); took > 0 {
			t.Errorf("Send waited for %v", took)
		}
		if d := c.dropped.Load(); d == 0 || d >= n {
			t.Errorf("%d of %d dropped", d, n)
		}
		before = time.Now()
		tr.Close()
		tr.Close()
		if took := time.Since(before); took > 3*time.Second {
			t.Errorf("Close took %v", took)
		}
		send(tr, "late")
		if got := c.dropped.Load() + c.sent.Load(); got != n+1 {
			t.Errorf("%d of %d are accounted for", got, n+1)
		}
	})
}

// TestGivesUp: what nobody has taken for a minute is dropped, so that what is new has
// its chance.
func TestGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := receiver{err: errors.New("refused")}
		var c counts
		tr := open(&r, &c, nil)
		defer tr.Close()
		send(tr, "old")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if c.dropped.Load() != 1 {
			t.Errorf("%d dropped", c.dropped.Load())
		}
		r.mu.Lock()
		r.err = nil
		r.mu.Unlock()
		send(tr, "new")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(r.got) != 1 || r.got[0].Name != "new" {
			t.Errorf("got %v", r.got)
		}
	})
}

// TestNil: what there is no Tracer for is closed all the same.
func TestNil(t *testing.T) {
	t.Parallel()
	var tr *trace.Tracer
	tr.Close()
}

// FuzzRejected: whatever a receiver answers is read without a panic.
func FuzzRejected(f *testing.F) {
	f.Add([]byte{0x0a, 0x02, 0x08, 0x01})
	f.Add([]byte{0x12, 0x01, 'x', 0x0a, 0x05, 0x12, 0x01, 'x', 0x08, 0x07})
	f.Add([]byte{0x0b, 0x0c, 0xff})
	f.Fuzz(func(_ *testing.T, p []byte) { trace.Rejected(p) })
}
