package proxy_test

import (
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/proxy"
)

// TestFault: delays and aborts those that it should, by share and by field.
func TestFault(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name            string
		fault           proxy.Fault
		with            []string
		delayed, status int // of 1000, about; the status of those that are answered otherwise
		aborted         int // of 1000, about
	}{
		{"delay", proxy.Fault{Delay: time.Second, DelayShare: 1}, nil, 1000, 0, 0},
		{"delay some", proxy.Fault{Delay: time.Second, DelayShare: 0.1}, nil, 100, 0, 0},
		{"abort", proxy.Fault{Abort: 503, AbortShare: 1}, nil, 0, 503, 1000},
		{"both", proxy.Fault{Delay: time.Second, DelayShare: 0.5, Abort: 429, AbortShare: 0.2}, nil, 500, 429, 200},
		{"none", proxy.Fault{Delay: time.Second, Abort: 503}, nil, 0, 0, 0},
		{"without the field", proxy.Fault{Abort: 503, AbortShare: 1, Header: "x-fault"}, []string{"x-faulty", "1"}, 0, 0, 0},
		{"with the field", proxy.Fault{Abort: 503, AbortShare: 1, Header: "x-fault"}, []string{"x-fault", ""}, 0, 503, 1000},
	} {
		synctest.Test(t, func(t *testing.T) {
			e := newEngine(t, &origin{}, config{})
			tt.fault.Metrics = e.metrics.Fault("r")
			e.route.Fault = &tt.fault
			delayed, aborted := 0, 0
			for range 1000 {
				start := time.Now()
				c := e.do(newClient("GET", "/").with(tt.with...))
				switch time.Since(start) {
				case 0:
				case tt.fault.Delay:
					delayed++
				default:
					t.Fatalf("%s: took %v", tt.name, time.Since(start))
				}
				switch c.status {
				case 200:
				case tt.status:
					aborted++
					if e.line()["reason"] != "fault" {
						t.Fatalf("%s: %v", tt.name, e.line())
					}
				default:
					t.Fatalf("%s: got %d", tt.name, c.status)
				}
			}
			about := func(what string, got, want int) {
				if off := got - want; (want == 0 || want == 1000) && off != 0 || off < -95 || off > 95 { // 6 standard deviations of 16
					t.Errorf("%s: %s %d of 1000, want about %d", tt.name, what, got, want)
				}
			}
			about("delayed", delayed, tt.delayed)
			about("aborted", aborted, tt.aborted)
			if d, a := e.metric("wproxy_faults_total", "kind", "delay"), e.metric("wproxy_faults_total", "kind", "abort"); d != float64(delayed) || a != float64(aborted) {
				t.Errorf("%s: counted %v and %v", tt.name, d, a)
			}
		})
	}
}

// TestDelayEnds with the client, and with the route's time.
func TestDelayEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, &origin{}, config{})
		e.route.Fault = &proxy.Fault{Delay: time.Hour, DelayShare: 1, Metrics: e.metrics.Fault("r")}
		start := time.Now()
		c := newClient("GET", "/")
		over := make(chan struct{})
		go func() { // ends when the client leaves
			defer close(over)
			e.Serve(t.Context(), c)
		}()
		time.Sleep(3 * time.Second)
		c.leave()
		<-over
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("the exchange went on for %v", took)
		}
		if len(e.origin.streams) != 0 {
			t.Error("the upstream was asked for a client that has gone")
		}
		start = time.Now()
		e.route.Timeout = 5 * time.Second
		e.do(newClient("GET", "/"))
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("the exchange took %v", took)
		}
	})
}
