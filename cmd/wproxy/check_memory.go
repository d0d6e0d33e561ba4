package main

import (
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"

	"wproxy/core/config"
)

// A memoryReport is the most that wproxy may hold for a configuration: every connection
// open, every request as large as it may be. It bounds, and says nothing of what is usual.
type memoryReport struct {
	Requests int64    `json:"requests_bytes"` // heads and bodies that wait
	Plugins  int64    `json:"plugins_bytes"`  // memory of instances
	Lines    []string `json:"lines"`          // the arithmetic
}

// What a TCP connection may hold, as core/tcp has it: 32 KiB for each direction, and a
// ClientHello where a route goes by its name.
const (
	tcpBuffers = 64 << 10
	tcpHello   = 16 << 10
)

// A term is one part of what a request may hold.
type term struct {
	bytes int64
	what  string
}

// mostMemory adds up what can be held. called is what callbacksOf returns.
func mostMemory(f *config.File, called map[string][]callbacks) *memoryReport {
	m := &memoryReport{}
	for _, name := range slices.Sorted(maps.Keys(f.Listeners)) {
		m.listener(f, f.Listeners[name], called)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Plugins)) {
		p := f.Plugins[name]
		n := p.Sandbox.Instances
		switch {
		case n > 0:
		case p.Kind == kindService:
			n = 1
		default:
			n = runtime.GOMAXPROCS(0)
		}
		sum := multiply(int64(n), int64(p.Sandbox.Memory))
		m.Plugins = add(m.Plugins, sum)
		m.Lines = append(m.Lines, fmt.Sprintf("  plugin %q: %s x %s (sandbox.memory) = %s", name, count(n, "instance"),
			humanSize(int64(p.Sandbox.Memory)), humanSize(sum)))
	}
	m.Lines = slices.Insert(m.Lines, 0, fmt.Sprintf("memory at most: %s for requests, %s for plugins", humanSize(m.Requests), humanSize(m.Plugins)))
	return m
}

// listener adds what can come in by one listener: as many requests as there may be, each
// on the route that can hold most.
func (m *memoryReport) listener(f *config.File, l *config.Listener, called map[string][]callbacks) {
	requests, how := int64(l.Limits.Connections), count(l.Limits.Connections, "connection")
	base := []term{{int64(l.Limits.Header), "limits.header"}}
	if l.TCP() {
		base = []term{{tcpBuffers, "buffers"}}
	}
	if slices.ContainsFunc(l.Protocols, func(p string) bool { return p == "h2" || p == "h2c" }) {
		requests = multiply(requests, int64(l.Limits.Streams))
		how += fmt.Sprintf(" x %d requests (limits.streams)", l.Limits.Streams)
	}
	var most []term
	var of string
	for _, name := range slices.Sorted(maps.Keys(f.Routes)) {
		r := f.Routes[name]
		if len(r.Listener) > 0 && !slices.Contains(r.Listener, l.Name) {
			continue
		}
		terms := held(f, r, called[name])
		if l.TCP() {
			terms = heldTCP(f, r, l.Name)
		}
		if total(terms) > total(most) {
			most, of = terms, name
		}
	}
	terms := append(base, most...)
	var parts []string
	for _, t := range terms {
		parts = append(parts, humanSize(t.bytes)+" "+t.what)
	}
	text := strings.Join(parts, " + ")
	if of != "" {
		text += fmt.Sprintf(", on route %q", of)
	}
	sum := multiply(requests, total(terms))
	m.Requests = add(m.Requests, sum)
	m.Lines = append(m.Lines, fmt.Sprintf("  listener %q: %s x %s (%s) = %s", l.Name, how, humanSize(total(terms)), text, humanSize(sum)))
}

// held returns what one request on r may hold beside its head.
func held(f *config.File, r *config.Route, called []callbacks) (terms []term) {
	if len(r.Upstream) > 0 && r.Retry.Attempts > 0 && r.Retry.BodyBuffer > 0 {
		terms = append(terms, term{int64(r.Retry.BodyBuffer), "retry.body_buffer"})
	}
	if m := r.Mirror; m != nil && m.Share > 0 && m.Body > 0 {
		terms = append(terms, term{int64(m.Body), "mirror.body"})
	}
	for i, use := range r.Use {
		if i >= len(called) || f.Plugins[use] == nil {
			continue
		}
		n := int64(0)
		if called[i].RequestBody && answersItself(r) == "" {
			n++
		}
		if called[i].ResponseBody {
			n++
		}
		if b := int64(f.Plugins[use].Sandbox.BodyBuffer); n > 0 && b > 0 {
			what := fmt.Sprintf("body_buffer of plugin %q", use)
			if n > 1 {
				what += ", request and response"
			}
			terms = append(terms, term{multiply(n, b), what})
		}
	}
	return terms
}

// heldTCP returns what one connection on r may hold beside its buffers, if r is for l.
func heldTCP(f *config.File, r *config.Route, l string) (terms []term) {
	if !slices.Contains(r.Listener, l) { // one for requests
		return nil
	}
	if len(r.Host) > 0 {
		terms = append(terms, term{tcpHello, "ClientHello"})
	}
	for _, use := range r.Use {
		if p := f.Plugins[use]; p != nil && p.Sandbox.BodyBuffer > 0 {
			terms = append(terms, term{multiply(2, int64(p.Sandbox.BodyBuffer)), fmt.Sprintf("body_buffer of plugin %q, both directions", use)})
		}
	}
	return terms
}

func total(terms []term) (sum int64) {
	for _, t := range terms {
		sum = add(sum, t.bytes)
	}
	return sum
}

// add and multiply stay at the largest number there is: of so much memory it is enough to
// know that.
func add(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

func multiply(a, b int64) int64 {
	if b != 0 && a > math.MaxInt64/b {
		return math.MaxInt64
	}
	return a * b
}

// humanSize writes a size to the next tenth of a unit.
func humanSize(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	x, i := float64(n), 0
	for ; x >= 1024 && i < len(units)-1; i++ {
		x /= 1024
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", x), ".0") + units[i]
}
