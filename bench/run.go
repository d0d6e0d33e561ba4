package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// A bench is one run of the program.
type bench struct {
	options
	out io.Writer
	dir string // bench/out

	proxyCPU int // -1 on a machine with one CPU
	loadCPU  int
	all      []*proxy // that are installed and wanted
	nginx    *proxy   // for the origin, wanted or not
	origin   *server
	wrk      *generator

	profiler *profiler // nil: nothing is profiled
}

// say tells the user what is going on.
func (b *bench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.out, format+"\n", args...) // progress only
}

// prepare looks for programs and CPUs.
func (b *bench) prepare(ctx context.Context) error {
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	b.proxyCPU, b.loadCPU = chooseCPUs()
	if b.proxyCPU < 0 {
		b.say("only one CPU: nothing is pinned, and the figures mean little")
	}
	for _, p := range proxies(b.wproxy) {
		err := p.find(ctx)
		if p.name == "nginx" {
			b.nginx = p
		}
		switch {
		case len(b.proxies) > 0 && !slices.Contains(b.proxies, p.name):
		case err != nil:
			b.say("skipping %s: %v", p.name, err)
		default:
			b.all = append(b.all, p)
		}
	}
	var err error
	b.wrk, err = newGenerator(filepath.Join(b.dir, "wrk"), b.loadCPU)
	return err
}

// A result is what one variant has shown in one scenario.
type result struct {
	variant
	samples []sample        // one a round, aligned between variants; zero: failed
	starts  []time.Duration // kind firstAnswer
	bytes   []float64       // kind idleMemory: resident bytes per connection
	failed  string          // the last failure
}

// runAll measures all scenarios that are wanted, until ctx is done.
func (b *bench) runAll(ctx context.Context) *report {
	rep := &report{options: b.options, date: time.Now()}
	var err error
	if b.origin, err = runOrigin(ctx, b.nginx, filepath.Join(b.dir, "origin"), b.loadCPU); err != nil {
		b.say("no origin: %v", err)
		return rep
	}
	defer b.origin.stop()
	for _, s := range scenarios() {
		if len(b.only) > 0 && !slices.Contains(b.only, s.name) {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		b.say("%s: %s", s.name, s.title)
		rep.groups = append(rep.groups, group{scenario: s, results: b.runScenario(ctx, s)})
	}
	return rep
}

// runScenario alternates between the variants, round by round, so that each
// is compared with a neighbour in time.
func (b *bench) runScenario(ctx context.Context, s scenario) []*result {
	var results []*result
	for _, v := range s.variants(b.all) {
		results = append(results, &result{variant: v})
	}
	rounds := b.rounds
	if s.kind == idleMemory {
		rounds = min(rounds, 2) // memory is steady, and each round takes long
	}
	if s.kind == firstAnswer {
		rounds++ // the first fills caches, of compiled plugins among others, and is not counted
	}
	for round := range rounds {
		for _, r := range results {
			if ctx.Err() != nil {
				return results
			}
			line, err := b.measure(ctx, s, r, round)
			if err != nil {
				r.failed = err.Error()
				line = "failed: " + r.failed
				if s.kind == underLoad {
					r.samples = append(r.samples, sample{})
				}
			}
			b.say("  %d/%d %-16s %s", round+1, rounds, r.label(), line)
		}
	}
	return results
}

// measure runs one variant once, adds what it has shown to r, and says it.
func (b *bench) measure(ctx context.Context, s scenario, r *result, round int) (string, error) {
	i := slices.IndexFunc(b.all, func(p *proxy) bool { return p.name == r.proxy })
	srv, took, err := b.all[i].run(ctx, filepath.Join(b.dir, r.proxy), b.proxyCPU, b.origin.address, r.feat)
	if err != nil {
		return "", err
	}
	defer srv.stop()
	switch s.kind {
	case firstAnswer:
		if round > 0 {
			r.starts = append(r.starts, took)
		}
		return took.Round(time.Millisecond / 10).String(), nil
	case idleMemory:
		perConn, err := b.measureIdle(ctx, srv)
		if err != nil {
			return "", err
		}
		r.bytes = append(r.bytes, perConn)
		return fmt.Sprintf("%.2f KiB per connection", perConn/1024), nil
	default:
		sm, err := b.measureLoad(ctx, srv, s.load)
		if err != nil {
			return "", err
		}
		r.samples = append(r.samples, sm)
		return fmt.Sprintf("%8.0f req/s %7.1f µs CPU/req  p99 %v  errors %d", sm.rate(), sm.cpuPerRequest(), sm.p99, sm.errors), nil
	}
}

// measureLoad warms srv up and then measures it.
func (b *bench) measureLoad(ctx context.Context, srv *server, l load) (sample, error) {
	if _, err := b.wrk.run(ctx, srv, l, 1); err != nil {
		return sample{}, fmt.Errorf("warming up: %w", err)
	}
	isWproxy := srv.name == "wproxy"
	var allocs float64
	allocsKnown := false
	if isWproxy {
		var err error
		allocs, err = mallocs(ctx, srv.admin)
		if allocsKnown = err == nil; err != nil {
			b.say("  no allocation count: %v", err)
		}
	}
	before, err := usageOf(srv.pid())
	if err != nil {
		return sample{}, err
	}
	wait := func() error { return nil }
	if isWproxy && b.profiler != nil {
		wait = b.profiler.record(ctx, srv.dir, b.seconds)
	}
	s, err := b.wrk.run(ctx, srv, l, b.seconds)
	if err = errors.Join(err, wait()); err != nil {
		return sample{}, err
	}
	after, err := usageOf(srv.pid())
	if err != nil {
		return sample{}, fmt.Errorf("%w: %s", err, tail(srv.log))
	}
	s.cpu, s.rss = after.cpu-before.cpu, after.rss
	if allocsKnown {
		if n, err := mallocs(ctx, srv.admin); err == nil {
			s.allocs = (n - allocs) / float64(s.requests)
		}
	}
	return s, nil
}

// measureIdle returns the resident bytes that one idle keep-alive connection
// adds to srv.
func (b *bench) measureIdle(ctx context.Context, srv *server) (float64, error) {
	n := min(b.idleConns, openFilesAllowed()-reserveFiles)
	if n < b.idleConns {
		b.say("  %d connections only: the limit of open files is %d", n, openFilesAllowed())
	}
	// Warmed up first, so that what the first requests need once is not counted.
	if _, err := b.wrk.run(ctx, srv, load{path: "/1k"}, 1); err != nil {
		return 0, fmt.Errorf("warming up: %w", err)
	}
	before, err := settled(ctx, srv.pid())
	if err != nil {
		return 0, err
	}
	l, err := openIdle(ctx, srv, n)
	if err != nil {
		return 0, err
	}
	defer l.close()
	after, err := settled(ctx, srv.pid())
	if err != nil {
		return 0, err
	}
	alive := l.alive()
	if alive < n-n/idleLost {
		return 0, fmt.Errorf("%d of %d idle connections were closed", n-alive, n)
	}
	return float64(after.rss-before.rss) / float64(alive), nil
}

// settled waits a moment and reads the usage of pid.
func settled(ctx context.Context, pid int) (usage, error) {
	select {
	case <-ctx.Done():
		return usage{}, ctx.Err()
	case <-time.After(settle):
	}
	return usageOf(pid)
}
