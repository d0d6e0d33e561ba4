package main

import "strings"

// A feature is what a proxy is asked to do beyond keep-alive on both sides and
// x-forwarded-for, which all do always.
type feature uint16

const (
	// withLog writes an access log line per request to a file.
	withLog feature = 1 << iota
	// withPolicies sets security headers on answers and limits the rate of
	// requests per client address, at a rate that is never reached.
	withPolicies
	// withTLS speaks TLS 1.3 to clients, and HTTP/2 to those that ask for it.
	withTLS
	// withCache serves what the origin has said before.
	withCache
	// withHeaders, withLimit, withMisses and withBreaker use one of wproxy's plugins; the cache
	// finds nothing that it may store.
	withHeaders
	withLimit
	withMisses
	withBreaker
	// noSendfile and withSpool are how nginx passes long answers on: from memory with
	// sendfile off, and by temporary files, which the others are kept from.
	noSendfile
	withSpool
)

// A kind says how a scenario is measured.
type kind uint8

const (
	underLoad kind = iota // wrk for some seconds
	idleMemory
	firstAnswer
)

// A scenario is one row group of the report.
type scenario struct {
	name  string
	title string
	kind  kind
	load  load
	feat  feature
	// extra are variants that run beside the proxies with feat: the same
	// proxy without the policies shows what the policies cost.
	extra []variant
}

// A variant is one proxy with one set of features.
type variant struct {
	proxy string
	feat  feature
}

// label names v in the report.
func (v variant) label() string {
	names := []string{v.proxy}
	for _, f := range []struct {
		feat feature
		name string
	}{{withPolicies, "policies"}, {withCache, "cache"}, {withHeaders, "headers"}, {withLimit, "limit"}, {withMisses, "cache misses"}, {withBreaker, "breaker"}, {noSendfile, "sendfile off"}, {withSpool, "temporary files"}} {
		if v.feat&f.feat != 0 {
			names = append(names, f.name)
		}
	}
	return strings.Join(names, "+")
}

// spooling is nginx as its packages ship it, which may write an answer to a temporary file
// and send it from there by sendfile, and nginx without sendfile.
var spooling = []variant{{"nginx", withSpool}, {"nginx", noSendfile}}

// scenarios are all that bench can measure, in the order of the report.
func scenarios() []scenario {
	kib1 := load{path: "/1k"}
	return []scenario{
		{name: "h1-1k", title: "GET 1 KiB, keep-alive", load: kib1},
		{name: "h1-64k", title: "GET 64 KiB, keep-alive", load: load{path: "/64k"}, extra: spooling},
		{name: "h1-1m", title: "GET 1 MiB, keep-alive", load: load{path: "/1m"}, extra: spooling},
		{name: "post-16k", title: "POST 16 KiB, keep-alive", load: load{path: "/post", post: 16 << 10}},
		{name: "h1-1k-log", title: "GET 1 KiB, access log to a file", load: kib1, feat: withLog},
		{name: "h1-64k-log", title: "GET 64 KiB, access log to a file", load: load{path: "/64k"}, feat: withLog},
		{name: "post-16k-log", title: "POST 16 KiB, access log to a file", load: load{path: "/post", post: 16 << 10}, feat: withLog},
		{
			name: "h1-1k-policies", title: "GET 1 KiB, security headers and rate limit (wproxy: as wasm plugins)",
			load: kib1, feat: withPolicies, extra: []variant{{proxy: "wproxy"}, {proxy: "nginx"}},
		},
		{
			name: "plugins-1k", title: "GET 1 KiB, each of wproxy's plugins, and all four",
			load: kib1, extra: []variant{
				{"wproxy", withHeaders},
				{"wproxy", withLimit},
				{"wproxy", withMisses},
				{"wproxy", withBreaker},
				{"wproxy", withHeaders | withLimit | withMisses | withBreaker},
			},
		},
		{name: "cache-1k", title: "GET 1 KiB from a cache (nginx: proxy_cache on tmpfs, sendfile)", load: kib1, feat: withCache},
		{name: "cache-64k", title: "GET 64 KiB from a cache (nginx: proxy_cache on tmpfs, sendfile)", load: load{path: "/64k"}, feat: withCache},
		{
			name: "cache-store-1k", title: "GET 1 KiB that nobody has asked for before, and that a cache stores (nginx: proxy_cache on tmpfs)",
			load: load{path: "/1k", once: true}, feat: withCache, extra: []variant{{proxy: "wproxy"}, {proxy: "nginx"}},
		},
		{name: "h1-1k-tls", title: "GET 1 KiB, keep-alive, TLS 1.3", load: kib1, feat: withTLS},
		{name: "h1-64k-tls", title: "GET 64 KiB, keep-alive, TLS 1.3", load: load{path: "/64k"}, feat: withTLS},
		{name: "h2-1k-tls", title: "GET 1 KiB, HTTP/2 over TLS 1.3", load: load{path: "/1k", h2: true}, feat: withTLS},
		{name: "h2-64k-tls", title: "GET 64 KiB, HTTP/2 over TLS 1.3", load: load{path: "/64k", h2: true}, feat: withTLS},
		{name: "idle-10k", title: "Memory of 10,000 idle keep-alive connections", kind: idleMemory, load: kib1},
		{name: "idle-10k-tls", title: "The same over TLS 1.3", kind: idleMemory, load: kib1, feat: withTLS},
		{
			name: "start", title: "From start to the first proxied answer", kind: firstAnswer, load: kib1,
			extra: []variant{{proxy: "wproxy", feat: withPolicies}},
		},
	}
}

// variants returns what s runs, of the proxies that are there. Only wproxy,
// nginx and HAProxy have the policies and TLS configured.
func (s scenario) variants(proxies []*proxy) []variant {
	var vs []variant
	has := make(map[string]bool)
	for _, p := range proxies {
		has[p.name] = true
		if cache := s.feat&withCache != 0; cache && p.caches == noCache || !cache && p.caches == onlyCaches {
			continue
		}
		if s.feat&(withPolicies|withTLS) == 0 || p.native {
			vs = append(vs, variant{proxy: p.name, feat: s.feat})
		}
	}
	for _, v := range s.extra {
		if has[v.proxy] {
			vs = append(vs, v)
		}
	}
	return vs
}
