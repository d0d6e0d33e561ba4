package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A report is what a run has shown.
type report struct {
	options
	date    time.Time
	machine string // lines about machine and versions
	groups  []group
}

// A group is one scenario's results.
type group struct {
	scenario
	results []*result
}

// describeMachine says what was measured on, without naming the machine.
func describeMachine(ctx context.Context, all []*proxy) string {
	var b strings.Builder
	model := "unknown CPU"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	kernel := ""
	if v, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel = ", Linux " + strings.TrimSpace(string(v))
	}
	fmt.Fprintf(&b, "- machine: %d CPUs, %s%s, %s\n", runtime.NumCPU(), model, kernel, runtime.Version())
	for _, p := range all {
		fmt.Fprintf(&b, "- %s: %s\n", p.name, p.release)
	}
	// wrk prints its version and then fails for want of a URL.
	if out, _ := outputAlways(ctx, "wrk", "-v"); out != "" {
		first, _, _ := strings.Cut(out, "\n")
		first, _, _ = strings.Cut(first, " Copyright")
		fmt.Fprintf(&b, "- load: %s, 1 thread, %d connections\n", first, loadConnections)
	}
	return b.String()
}

// markdown renders the report.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Benchmark results

Written by `+"`make bench`"+` on %s. %d rounds of %d s per proxy, alternating; medians over the rounds.
The figure to trust is CPU per request (user and system time of the proxy's processes); "ratio" is the median
of the ratios to the yardstick in the same round. Absolute figures belong to this machine and moment.
The proxy is alone on one CPU; load generator and origin share another one, so that requests/s may be
bounded by them. Every proxy keeps connections alive on both sides and sets x-forwarded-for; wproxy also makes an
x-request-id and keeps its metrics. Buffers and all else are as shipped.

%s`, r.date.UTC().Format("2006-01-02 15:04 UTC"), r.rounds, r.seconds, r.machine)
	for _, g := range r.groups {
		fmt.Fprintf(&b, "\n## %s: %s\n\n", g.name, g.title)
		switch g.kind {
		case idleMemory:
			idleTable(&b, g.results)
		case firstAnswer:
			startTable(&b, g.results)
		default:
			loadTable(&b, g)
		}
		for _, res := range g.results {
			if res.failed != "" {
				fmt.Fprintf(&b, "\n%s failed at least once: %s\n", res.label(), strings.Join(strings.Fields(res.failed), " "))
			}
		}
	}
	return b.String()
}

// loadTable writes the table of a scenario under load. The yardstick is nginx
// doing the same; where wproxy runs with and without plugins, the price of
// the plugins is a second ratio.
func loadTable(b *strings.Builder, g group) {
	find := func(v variant) *result {
		i := slices.IndexFunc(g.results, func(r *result) bool { return r.variant == v })
		if i < 0 {
			return nil
		}
		return g.results[i]
	}
	nginx := find(variant{"nginx", g.feat})
	var plain *result
	if one := find(variant{"wproxy", g.feat &^ (withPolicies | withCache)}); slices.ContainsFunc(g.results, func(r *result) bool { return one != nil && r.proxy == "wproxy" && r != one }) {
		plain = one
	}
	b.WriteString("| proxy | requests/s | CPU µs/request | ratio to nginx")
	if plain != nil {
		b.WriteString(" | ratio to plain wproxy")
	}
	b.WriteString(" | p50 ms | p99 ms | p99.9 ms | RSS MiB | allocs/request | errors |\n|---")
	if plain != nil {
		b.WriteString("|---")
	}
	b.WriteString("|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range g.results {
		med := func(f func(sample) float64) float64 { return medianOf(r.samples, f) }
		ms := func(f func(sample) time.Duration) float64 {
			return med(func(s sample) float64 {
				if f(s) == 0 { // h2load does not say
					return math.NaN()
				}
				return float64(f(s)) / float64(time.Millisecond)
			})
		}
		var errs int64
		for _, s := range r.samples {
			errs += s.errors
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s", r.label(), number(med(sample.rate), 0), number(med(sample.cpuPerRequest), 1),
			number(ratio(r, nginx), 2))
		if plain != nil {
			fmt.Fprintf(b, " | %s", number(ratio(r, plain), 2))
		}
		fmt.Fprintf(b, " | %s | %s | %s | %s | %s | %d |\n",
			number(ms(func(s sample) time.Duration { return s.p50 }), 2),
			number(ms(func(s sample) time.Duration { return s.p99 }), 2),
			number(ms(func(s sample) time.Duration { return s.p999 }), 2),
			number(med(func(s sample) float64 { return float64(s.rss) / (1 << 20) }), 1),
			number(med(func(s sample) float64 {
				if s.allocs < 0 {
					return math.NaN()
				}
				return s.allocs
			}), 2), errs)
	}
}

// idleTable writes the table of the memory scenario.
func idleTable(b *strings.Builder, results []*result) {
	b.WriteString("| proxy | KiB per idle connection |\n|---|---|\n")
	for _, r := range results {
		fmt.Fprintf(b, "| %s | %s |\n", r.label(), number(median(r.bytes)/1024, 2))
	}
}

// startTable writes the table of the start scenario.
func startTable(b *strings.Builder, results []*result) {
	b.WriteString("| proxy | ms |\n|---|---|\n")
	for _, r := range results {
		var ms []float64
		for _, d := range r.starts {
			ms = append(ms, float64(d)/float64(time.Millisecond))
		}
		fmt.Fprintf(b, "| %s | %s |\n", r.label(), number(median(ms), 1))
	}
}

// ratio returns the median, over the rounds both have finished, of r's CPU
// per request divided by base's.
func ratio(r, base *result) float64 {
	if base == nil {
		return math.NaN()
	}
	var ratios []float64
	for i, s := range r.samples {
		if i < len(base.samples) && s.requests > 0 && base.samples[i].requests > 0 && base.samples[i].cpu > 0 {
			ratios = append(ratios, s.cpuPerRequest()/base.samples[i].cpuPerRequest())
		}
	}
	return median(ratios)
}

// medianOf returns the median of f over the samples that were taken.
func medianOf(samples []sample, f func(sample) float64) float64 {
	var v []float64
	for _, s := range samples {
		if s.requests > 0 {
			v = append(v, f(s))
		}
	}
	return median(v)
}

// median returns the median of v, ignoring NaN, or NaN if nothing is left.
func median(v []float64) float64 {
	v = slices.DeleteFunc(slices.Clone(v), math.IsNaN)
	if len(v) == 0 {
		return math.NaN()
	}
	slices.Sort(v)
	m := len(v) / 2
	if len(v)%2 == 1 {
		return v[m]
	}
	return (v[m-1] + v[m]) / 2
}

// number formats v, or a dash if there is no figure.
func number(v float64, digits int) string {
	if math.IsNaN(v) {
		return "-"
	}
	return fmt.Sprintf("%.*f", digits, v)
}
