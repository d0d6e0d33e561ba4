package main

import (
	"fmt"
	"net"
	"strings"
)

// The configurations of caches, and of wproxy with some of its plugins.

// shippedPlugins are what configureWproxy writes for the features that have plugins, in the order in
// which a route uses them: limits see every request, and the cache saves the rest of the work.
var shippedPlugins = []struct {
	feat               feature
	name, wasm, config string
}{
	{withPolicies | withHeaders, "headers", "securityheaders", `{ preset = "strict" }`},
	{withPolicies | withLimit, "limit", "ratelimit", `{ rate = "1000000/s", burst = 1000000, key = "client-ip" }`},
	// The time that a message is good for is that of nginx's proxy_cache_valid, however old the origin's files are.
	{withCache, "cache", "cache", `{ default_ttl = "1h", heuristic = false }`},
	// Nothing of the origin's fits in: every request is a miss, and its answer one that is not stored.
	{withMisses, "cache", "cache", `{ default_ttl = "1h", max_object = 1 }`},
	{withBreaker, "breaker", "breaker", `{}`},
}

// wproxyPlugins returns what a route uses, and the tables of the plugins.
func wproxyPlugins(feat feature) (use, tables string) {
	var names []string
	for _, p := range shippedPlugins {
		if feat&p.feat == 0 {
			continue
		}
		names = append(names, fmt.Sprintf("%q", p.name))
		tables += fmt.Sprintf("\n[plugins.%s]\nwasm = \"builtin:%s\"\nconfig = %s\n", p.name, p.wasm, p.config)
	}
	if len(names) > 0 {
		use = "use = [" + strings.Join(names, ", ") + "]"
	}
	return use, tables
}

// nginxCache returns the directives of a cache on a file system in memory, for the server and for
// the location. Answers go from the page cache to the socket by sendfile.
func nginxCache(s setup) (zone, location string) {
	if s.feat&withCache == 0 {
		return "", ""
	}
	return fmt.Sprintf("proxy_cache_path %s levels=1:2 keys_zone=cache:10m max_size=256m inactive=1h use_temp_path=off;", nginxCacheDir),
		"proxy_cache cache; proxy_cache_valid 200 1h; add_header X-Cache $upstream_cache_status;"
}

// nginxCacheDir is where nginx caches; it is removed with the run.
const nginxCacheDir = "/dev/shm/wproxy-bench-cache"

// configureVarnish sets Varnish up as shipped, but for where it listens. It is measured as a cache
// only, for which it is made.
func configureVarnish(s setup) (map[string]string, []string) {
	host, port, err := net.SplitHostPort(s.origin)
	if err != nil {
		host, port = s.origin, "" // Varnish then refuses the file and says where
	}
	vcl := fmt.Sprintf(`vcl 4.1;
backend default {
    .host = %q;
    .port = %q;
}
sub vcl_backend_response {
    set beresp.ttl = 1h;
}
`, host, port)
	return map[string]string{"default.vcl": vcl}, []string{
		s.path, "-F", "-n", s.dir, "-f", s.file("default.vcl"), "-a", s.address, "-s", "malloc,256m", "-T", "none",
	}
}
