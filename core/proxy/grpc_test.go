package proxy_test

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/proxy"
	"wproxy/core/route"
)

// newCall is a client that makes a call in gRPC over HTTP/2.
func newCall(pairs ...string) *client {
	c := newClient("POST", "/pkg.Service/Method").with("content-type", "application/grpc", "te", "trailers").with(pairs...)
	c.req.Version = exchange.HTTP2
	return c.sending("message")
}

// TestGRPCOwnAnswers: what wproxy answers itself reaches a client that speaks gRPC as a
// trailers-only answer; the log keeps the reason.
func TestGRPCOwnAnswers(t *testing.T) {
	t.Parallel()
	refused := func(int) error { return upstreamError("dial", exchange.RetryAlways, "connect_failed") }
	for _, tt := range []struct {
		name, code, reason string
		o                  *origin
		edit               func(*proxy.Route)
		call               []string
		after              time.Duration
	}{
		{"no server", "14", "no_server", &origin{}, func(r *proxy.Route) { r.Split = []proxy.Target{} }, nil, 0},
		{"connect", "14", "connect_failed", &origin{dial: refused}, func(r *proxy.Route) { r.Retry.Attempts = -1 }, nil, 0},
		{"denied", "7", "denied", &origin{}, func(r *proxy.Route) { r.Deny = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }, nil, 0},
		{"timeout of the route", "4", "timeout", &origin{feed: untilDeadline}, func(r *proxy.Route) { r.Timeout = time.Second }, nil, time.Second},
		{"timeout of the client", "4", "timeout", &origin{feed: untilDeadline}, nil, []string{"grpc-timeout", "1S"}, time.Second},
		{"timeout of the client, longer", "4", "timeout", &origin{feed: untilDeadline}, func(r *proxy.Route) { r.Timeout = 2 * time.Second }, []string{"grpc-timeout", "3S"}, 2 * time.Second},
		{"timeout of the client alone", "4", "timeout", &origin{feed: untilDeadline}, func(r *proxy.Route) { r.Timeout = -1 }, []string{"grpc-timeout", "2M"}, 2 * time.Minute},
		{"timeout that the upstream acts on first", "4", "timeout", &origin{feed: resetAtDeadline}, func(r *proxy.Route) { r.Timeout = time.Second }, nil, time.Second},
		{"timeout of the upstream", "14", "upstream_read_timeout", &origin{feed: func(int, *stream, exchange.Sink[*exchange.Response]) error {
			return &exchange.Error{Op: "read answer", Side: exchange.UpstreamSide, Status: 504, Reason: "read_timeout"}
		}}, nil, nil, 0},
		{"bad timeout", "13", "bad_grpc_timeout", &origin{}, nil, []string{"grpc-timeout", "1s"}, 0},
		{"two timeouts", "13", "bad_grpc_timeout", &origin{}, nil, []string{"grpc-timeout", "1S", "grpc-timeout", "2S"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e := newEngine(t, tt.o, config{edit: tt.edit})
				start := time.Now()
				c := e.do(newCall(tt.call...))
				e.wantStatus(c, 200, tt.reason)
				if took := time.Since(start); took != tt.after {
					t.Errorf("took %v, want %v", took, tt.after)
				}
				want := "content-type=application/grpc grpc-status=" + tt.code + " grpc-message=" + tt.reason + "; request id "
				if got := pairsOf(&c.fields); !strings.HasPrefix(got, want) || c.got.Len() > 0 || len(c.trailed) > 0 || !c.ended {
					t.Errorf("got %q, %q, %v; want %q and no more", got, c.got.String(), c.trailed, want)
				}
				if got := e.line()["grpc_status"]; got != float64(mustAtoi(t, tt.code)) {
					t.Errorf("grpc_status in the log: got %v", got)
				}
				if n := e.metric("wproxy_grpc_calls_total", "route", "r", "grpc_status", tt.code); n != 1 {
					t.Errorf("counted %v times", n)
				}
				if n := e.metric("wproxy_refused_total", "reason", tt.reason); n != 1 {
					t.Errorf("refused %v times for the reason", n)
				}
			})
		})
	}
}

// TestGRPCConfiguredAnswers: what the configuration says is answered as it says.
func TestGRPCConfiguredAnswers(t *testing.T) {
	t.Parallel()
	e := newEngine(t, &origin{}, config{edit: func(r *proxy.Route) {
		r.Split, r.Respond = nil, &proxy.Respond{Status: 503, Body: []byte("closed")}
	}})
	if c := e.do(newCall()); c.status != 503 || c.got.String() != "closed" || c.fields.Has("grpc-status") {
		t.Errorf("respond: got %d %q", c.status, c.got.String())
	}
	e = newEngine(t, &origin{}, config{edit: func(r *proxy.Route) {
		r.Split = nil
		var err error
		if r.Redirect, err = route.NewRedirect("/new", 308, 0); err != nil {
			t.Fatal(err)
		}
	}})
	if c := e.do(newCall()); c.status != 308 || c.fields.Value("location") != "/new" || c.fields.Has("grpc-status") {
		t.Errorf("redirect: got %d %s", c.status, pairsOf(&c.fields))
	}
}

// TestNotGRPC: only a POST of application/grpc is a call.
func TestNotGRPC(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ method, contentType string }{
		{"POST", "application/grpc-web"}, {"POST", "application/grpcx"}, {"POST", "text/plain"}, {"POST", ""}, {"PUT", "application/grpc"},
	} {
		e := newEngine(t, &origin{}, config{edit: func(r *proxy.Route) { r.Split = []proxy.Target{} }})
		c := e.do(newClient(tt.method, "/").with("content-type", tt.contentType, "grpc-timeout", "x"))
		e.wantStatus(c, 503, "no_server")
		if e.line()["grpc_status"] != nil {
			t.Errorf("%v: the log has a grpc_status", tt)
		}
	}
	for _, contentType := range []string{"application/grpc+proto", "Application/gRPC", "application/grpc;x=y"} {
		e := newEngine(t, &origin{}, config{edit: func(r *proxy.Route) { r.Split = []proxy.Target{} }})
		e.wantStatus(e.do(newClient("POST", "/").with("content-type", contentType)), 200, "no_server")
	}
}

// TestGRPCAnswers: the answers of upstreams pass as they are, and the log tells how they end.
func TestGRPCAnswers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		feed func(dst exchange.Sink[*exchange.Response]) error
		code any
		end  string // what the metric counts it as
	}{
		{"trailer", func(dst exchange.Sink[*exchange.Response]) error {
			return push(dst, false, "grpc-status", "5")
		}, 5.0, "5"},
		{"trailers only", func(dst exchange.Sink[*exchange.Response]) error {
			return push(dst, true, "grpc-status", "0")
		}, 0.0, "0"},
		{"a status of HTTP", func(dst exchange.Sink[*exchange.Response]) error { return answer(dst, 503, "down") }, nil, "none"},
		{"no status", func(dst exchange.Sink[*exchange.Response]) error { return push(dst, false, "x", "y") }, nil, "none"},
		{"a code that there is not", func(dst exchange.Sink[*exchange.Response]) error { return push(dst, false, "grpc-status", "17") }, nil, "none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := &origin{feed: func(_ int, s *stream, dst exchange.Sink[*exchange.Response]) error {
				<-s.got
				return tt.feed(dst)
			}}
			e := newEngine(t, o, config{})
			c := e.do(newCall())
			if got := e.line()["grpc_status"]; got != tt.code {
				t.Errorf("grpc_status in the log: got %v, want %v", got, tt.code)
			}
			if n := e.metric("wproxy_grpc_calls_total", "grpc_status", tt.end); n != 1 {
				t.Errorf("counted %v times as %s", n, tt.end)
			}
			if c.reset || !c.ended {
				t.Error("the answer is not whole")
			}
			if o.streams[0].head.Fields.Value("te") != "trailers" {
				t.Error("te: trailers did not reach the upstream")
			}
		})
	}
}

// TestGRPCCutAnswer: an answer that breaks off after its head ends with a status over
// HTTP/2, and as a cut one over HTTP/1.1.
func TestGRPCCutAnswer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		version exchange.Version
		feed    func(s *stream) error
		code    string
		reason  string
	}{
		{"reset", exchange.HTTP2, func(*stream) error { return upstreamError("read answer", exchange.RetryNever, "closed") }, "14", "upstream_closed"},
		{"HTTP/1.1", exchange.HTTP11, func(*stream) error { return upstreamError("read answer", exchange.RetryNever, "closed") }, "", "upstream_closed"},
		{"deadline", exchange.HTTP2, func(*stream) error {
			return &exchange.Error{Op: "read answer", Side: exchange.UpstreamSide, Status: 504, Reason: "timeout"}
		}, "4", "timeout"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := &origin{feed: func(_ int, s *stream, dst exchange.Sink[*exchange.Response]) error {
				<-s.got
				h := &exchange.Response{Status: 200, Length: exchange.LengthUnknown}
				if err := dst.Head(h, false); err != nil {
					return err
				}
				if err := dst.Data([]byte("part"), false); err != nil {
					return err
				}
				return tt.feed(s)
			}}
			e := newEngine(t, o, config{})
			c := newCall()
			c.req.Version = tt.version
			e.do(c)
			e.wantStatus(c, 200, tt.reason)
			if tt.code == "" {
				if !c.reset || c.ended || len(c.trailed) > 0 {
					t.Errorf("reset %v, ended %v, trailer %v; want a cut answer", c.reset, c.ended, c.trailed)
				}
				return
			}
			if c.reset || len(c.trailed) != 2 || c.trailed[0].Value != tt.code || !strings.HasPrefix(c.trailed[1].Value, tt.reason+"; request id ") {
				t.Errorf("reset %v, trailer %v; want status %s", c.reset, c.trailed, tt.code)
			}
			if e.line()["grpc_status"] != float64(mustAtoi(t, tt.code)) {
				t.Errorf("grpc_status in the log: got %v", e.line()["grpc_status"])
			}
		})
	}
}

// TestGRPCTimeoutTravels: the upstream is told how much is left of the client's time, or of
// the route's if that is less, whatever a filter says.
func TestGRPCTimeoutTravels(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, sent, want string
		route, wait      time.Duration
		edit             func(h *exchange.Request)
	}{
		{"as it is", "10S", "10000000u", 0, 0, nil},
		{"less", "10S", "7000000u", 0, 3 * time.Second, nil},
		{"the route's", "10S", "2000000u", 2 * time.Second, 0, nil},
		{"no time of the route", "99999999H", "52560000M", -1, 0, nil},
		{"none", "", "1000000u", time.Second, 0, nil},
		{"none, and some of the route's is over", "", "750000u", time.Second, 250 * time.Millisecond, nil},
		{"none, and none of the route", "", "", -1, 0, nil},
		{"a plugin's", "", "500000u", time.Second, 0, func(h *exchange.Request) { h.Fields.Set("grpc-timeout", "500m") }},
		{"taken away", "10S", "", 0, 0, func(h *exchange.Request) { h.Fields.Remove("grpc-timeout") }},
		{"lowered", "10S", "5000000u", 0, 0, func(h *exchange.Request) { h.Fields.Set("grpc-timeout", "5S") }},
		{"raised", "10S", "10000000u", 0, 0, func(h *exchange.Request) { h.Fields.Set("grpc-timeout", "50S") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := &origin{}
				e := newEngine(t, o, config{noLog: true, edit: func(r *proxy.Route) {
					r.Timeout = tt.route
					r.Filters = []filter.Factory{&probe{name: "f", log: &events{}, head: func(f *probeFilter, h *exchange.Request, end bool) error {
						time.Sleep(tt.wait)
						if tt.edit != nil {
							tt.edit(h)
						}
						return f.req.Head(h, end)
					}}}
				}})
				c := newCall()
				if tt.sent != "" {
					c.with("grpc-timeout", tt.sent)
				}
				e.do(c)
				if got := o.streams[0].head.Fields.Value("grpc-timeout"); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// untilDeadline is the feed of an upstream that is silent until the exchange's time is over.
func untilDeadline(_ int, s *stream, _ exchange.Sink[*exchange.Response]) error {
	time.Sleep(time.Until(s.deadline))
	return &exchange.Error{Op: "read answer", Side: exchange.UpstreamSide, Status: 504, Reason: "timeout"}
}

// resetAtDeadline is the feed of an upstream that resets the stream when the exchange's time is
// over, of which it was told.
func resetAtDeadline(_ int, s *stream, _ exchange.Sink[*exchange.Response]) error {
	time.Sleep(time.Until(s.deadline))
	return upstreamError("read answer", exchange.RetryNever, "reset")
}

// pairsOf writes f as "name=value" pairs.
func pairsOf(f *exchange.Fields) string {
	var s []string
	for n, v := range f.All() {
		s = append(s, n+"="+v)
	}
	return strings.Join(s, " ")
}

func mustAtoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// push sends an answer in gRPC that ends with pairs, in a trailer or the head itself.
func push(dst exchange.Sink[*exchange.Response], only bool, pairs ...string) error {
	h := &exchange.Response{Status: 200, Length: exchange.LengthUnknown}
	h.Fields.Add("content-type", "application/grpc")
	f := new(exchange.Fields)
	if only {
		f = &h.Fields
	}
	for i := 0; i < len(pairs); i += 2 {
		f.Add(pairs[i], pairs[i+1])
	}
	if err := dst.Head(h, only); err != nil || only {
		return err
	}
	if err := dst.Data([]byte("answer"), false); err != nil {
		return err
	}
	return dst.Trailer(f)
}

// TestAnsweredToTheWriter: a codec that has the whole answer says so to who still sends;
// the answer is read all the same.
func TestAnsweredToTheWriter(t *testing.T) {
	t.Parallel()
	o := &origin{
		data: func(int, *stream, []byte) error { return exchange.ErrAnswered },
		feed: func(_ int, _ *stream, dst exchange.Sink[*exchange.Response]) error {
			return answer(dst, 413, "too much")
		},
	}
	e := newEngine(t, o, config{})
	c := e.do(newClient("POST", "/").sending("a", "b"))
	e.wantStatus(c, 413, "")
	if c.got.String() != "too much" {
		t.Errorf("got %q", c.got.String())
	}
}
