package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A load says what is sent.
type load struct {
	path string
	post int  // bytes of the request body; 0 is a GET
	h2   bool // over HTTP/2, by h2load and not by wrk
	once bool // no URL is asked for twice: each has another query; not with h2
}

// environment is what the script is told of l, in a run that begins now.
func (l load) environment(now time.Time) []string {
	env := []string{fmt.Sprintf("BENCH_POST=%d", l.post)}
	if l.once { // runs count from the beginning, so each has a name
		env = append(env, fmt.Sprintf("BENCH_ONCE=%x", now.UnixNano()))
	}
	return env
}

// A sample is what one measured interval of load has shown.
type sample struct {
	requests int64
	seconds  float64 // of load
	p50      time.Duration
	p99      time.Duration
	p999     time.Duration
	errors   int64 // connect, read, write, status above 399, timeout

	cpu    time.Duration // of the proxy in that interval
	rss    int64         // of the proxy at its end
	allocs float64       // per request, of wproxy; negative if not known
}

// rate returns requests per second.
func (s sample) rate() float64 { return float64(s.requests) / s.seconds }

// cpuPerRequest returns the microseconds of CPU the proxy spent on a request.
func (s sample) cpuPerRequest() float64 {
	return float64(s.cpu.Nanoseconds()) / 1e3 / float64(s.requests)
}

// script is given to wrk. Its own report has no p99.9 and no bare numbers.
const script = `
local size = tonumber(os.getenv("BENCH_POST") or "0")
if size > 0 then
   wrk.method = "POST"
   wrk.body = string.rep("x", size)
   wrk.headers["Content-Type"] = "application/octet-stream"
end
local once = os.getenv("BENCH_ONCE")
if once then
   local prefix, n = wrk.path .. "?" .. once .. "-", 0
   request = function()
      n = n + 1
      return wrk.format(nil, prefix .. n)
   end
end
done = function(summary, latency, requests)
   local e = summary.errors
   io.write(string.format("bench-result %d %d %d %d %d %d\n", summary.requests, summary.duration,
      latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
      e.connect + e.read + e.write + e.status + e.timeout))
end
`

// A generator is wrk, ready to run.
type generator struct {
	dir string // of the script and the logs
	cpu int
}

// newGenerator writes wrk's script below dir.
func newGenerator(dir string, cpu int) (*generator, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return &generator{dir: dir, cpu: cpu}, os.WriteFile(filepath.Join(dir, "bench.lua"), []byte(script), 0o644)
}

// run sends l to srv for whole seconds and returns wrk's part of a sample.
// It returns early when ctx is done.
func (g *generator) run(ctx context.Context, srv *server, l load, seconds int) (sample, error) {
	if l.h2 {
		return g.runH2(ctx, srv.address, l, seconds)
	}
	scheme := "http://"
	if srv.feat&withTLS != 0 {
		scheme = "https://"
	}
	log := filepath.Join(g.dir, "wrk.log")
	p, err := start("wrk", g.cpu, l.environment(time.Now()), log,
		"wrk", "-t1", fmt.Sprintf("-c%d", loadConnections), fmt.Sprintf("-d%ds", seconds), "--timeout", "5s",
		"-s", filepath.Join(g.dir, "bench.lua"), scheme+srv.address+l.path)
	if err != nil {
		return sample{}, err
	}
	defer p.stop()
	select {
	case <-p.done:
	case <-ctx.Done():
		return sample{}, ctx.Err()
	case <-time.After(time.Duration(seconds)*time.Second + startTimeout):
		return sample{}, fmt.Errorf("wrk does not end")
	}
	b, err := os.ReadFile(log)
	if err != nil {
		return sample{}, err
	}
	s, err := parseResult(string(b))
	if err != nil {
		return sample{}, fmt.Errorf("%w: %s", err, tail(log))
	}
	return s, nil
}

// parseResult finds the line that the script has printed in wrk's output.
func parseResult(out string) (sample, error) {
	_, line, ok := strings.Cut(out, "bench-result ")
	if !ok {
		return sample{}, fmt.Errorf("wrk: no result")
	}
	var s sample
	var us, p50, p99, p999 int64
	if _, err := fmt.Sscan(line, &s.requests, &us, &p50, &p99, &p999, &s.errors); err != nil {
		return sample{}, fmt.Errorf("wrk: %w", err)
	}
	if s.requests == 0 || us == 0 {
		return sample{}, fmt.Errorf("wrk: no request was answered")
	}
	s.seconds = float64(us) / 1e6
	s.p50 = time.Duration(p50) * time.Microsecond
	s.p99 = time.Duration(p99) * time.Microsecond
	s.p999 = time.Duration(p999) * time.Microsecond
	s.allocs = -1
	return s, nil
}
