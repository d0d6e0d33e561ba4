package main

import (
	"cmp"
	"fmt"
	"strings"
)

// The configurations of wproxy and of the two proxies written in C. All do
// the same: keep-alive on both sides, x-forwarded-for, Host kept, one worker,
// answers streamed and never spooled to disk.

// configureWproxy leaves everything at its shipped default but the log and how long
// connections may rest, which is an hour for all.
func configureWproxy(s setup) (map[string]string, []string) {
	access := "none"
	if s.feat&withLog != 0 {
		access = s.file("access.log")
	}
	use, plugins := wproxyPlugins(s.feat)
	tls := ""
	if s.feat&withTLS != 0 {
		tls = fmt.Sprintf("tls = { min = \"1.3\", certs = [{ cert = %[1]q, key = %[1]q }] }\n", s.file("tls.pem"))
	}
	toml := fmt.Sprintf(`version = 1

[listeners.http]
address = %q
limits = { idle = "1h" }
%s
[routes.all]
upstream = "origin"
%s

[upstreams.origin]
servers = [%q]
%s
[admin]
address = [%q, %q]

[log]
to = "stderr"
access = { to = %q }
`, s.address, tls, use, s.origin, plugins, s.admin, "unix:"+s.file(adminSocket), access)
	return map[string]string{"wproxy.toml": toml}, []string{s.path, "run", "-c", s.file("wproxy.toml")}
}

// nginxFrame is what the origin and the proxy have in common: one worker, and
// nothing outside their own directory.
func nginxFrame(s setup, http string) (map[string]string, []string) {
	sendfile := "on"
	if s.feat&noSendfile != 0 {
		sendfile = "off"
	}
	conf := nginxUser() + fmt.Sprintf(`worker_processes 1;
daemon off;
pid nginx.pid;
error_log error.log error;
worker_rlimit_nofile %d;
events { worker_connections 24000; }
http {
    client_body_temp_path tmp_body;
    proxy_temp_path tmp_proxy;
    fastcgi_temp_path tmp_fastcgi;
    uwsgi_temp_path tmp_uwsgi;
    scgi_temp_path tmp_scgi;
    default_type application/octet-stream;
    sendfile %s;
    tcp_nodelay on;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    client_body_buffer_size 64k;
%s
}
`, openFilesAllowed(), sendfile, http)
	return map[string]string{"nginx.conf": conf}, []string{
		s.path, "-p", s.dir, "-c", s.file("nginx.conf"), "-e", s.file("error.log"),
	}
}

// configureOrigin serves static files, and answers a POST after reading it.
func configureOrigin(s setup) (map[string]string, []string) {
	return nginxFrame(s, fmt.Sprintf(`
    access_log off;
    open_file_cache max=16;
    server {
        listen %s backlog=4096;
        root %s;
        location = /post { return 200 "ok\n"; }
    }`, s.address, s.dir))
}

func configureNginx(s setup) (map[string]string, []string) {
	access, zone, policies := "access_log off;", "", ""
	if s.feat&withLog != 0 {
		// Buffered, as wproxy's is.
		access = "access_log access.log combined buffer=64k flush=1s;"
	}
	if s.feat&withPolicies != 0 {
		zone = "limit_req_zone $binary_remote_addr zone=clients:10m rate=1000000r/s;"
		var b strings.Builder
		b.WriteString("limit_req zone=clients burst=1000000 nodelay;\n")
		for _, h := range policyHeaders {
			fmt.Fprintf(&b, "            add_header %s %q always;\n", h[0], h[1])
		}
		policies = b.String()
	}
	cache, cached := nginxCache(s)
	listen, tls := "backlog=4096", ""
	if s.feat&withTLS != 0 {
		listen = "ssl http2 " + listen
		tls = fmt.Sprintf("ssl_protocols TLSv1.3; ssl_certificate %[1]s; ssl_certificate_key %[1]s; ssl_session_tickets on;", s.file("tls.pem"))
	}
	spool := "proxy_max_temp_file_size 0;"
	if s.feat&withSpool != 0 {
		spool = "" // 1 GiB, as is the default
	}
	return nginxFrame(s, fmt.Sprintf(`
    %s
    %s
    %s
    upstream origin {
        server %s;
        keepalive 256;
        keepalive_requests 1000000000;
    }
    server {
        listen %s %s;
        %s
        location / {
            %s
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            %s
        }
    }`, access, zone, cache, s.origin, s.address, listen, tls, policies, cmp.Or(cached, spool)))
}

// policyHeaders are what the strict preset of wproxy's securityheaders sends
// on a plain-text connection, so that the others send as much.
var policyHeaders = [][2]string{
	{"content-security-policy", "default-src 'self'; object-src 'none'; base-uri 'self'; frame-ancestors 'none'"},
	{"x-content-type-options", "nosniff"},
	{"x-frame-options", "DENY"},
	{"referrer-policy", "no-referrer"},
	{"permissions-policy", "camera=(), geolocation=(), microphone=()"},
	{"cross-origin-opener-policy", "same-origin"},
	{"cross-origin-resource-policy", "same-origin"},
}

func configureHAProxy(s setup) (map[string]string, []string) {
	log, policies, table := "", "", ""
	if s.feat&withLog != 0 {
		// HAProxy writes no files itself; its standard output is one.
		log = "    log stdout format raw local0\n    option httplog\n"
	}
	if s.feat&withPolicies != 0 {
		var b strings.Builder
		b.WriteString("    http-request track-sc0 src table clients\n")
		b.WriteString("    http-request deny deny_status 429 if { sc_http_req_rate(0) gt 100000000 }\n")
		for _, h := range policyHeaders {
			fmt.Fprintf(&b, "    http-response set-header %s %q\n", h[0], h[1])
		}
		policies = b.String()
		table = "backend clients\n    stick-table type ip size 100k expire 10s store http_req_rate(1s)\n"
	}
	tls := ""
	if s.feat&withTLS != 0 {
		tls = " ssl crt " + s.file("tls.pem") + " alpn h2,http/1.1 ssl-min-ver TLSv1.3"
	}
	conf := fmt.Sprintf(`global
    nbthread 1
    maxconn 16000
    # It counts two descriptors per connection; idle ones have one.
    no strict-limits
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout http-keep-alive 1h
    option http-keep-alive
    option forwardfor
    http-reuse always
frontend in
    bind %s backlog 4096%s
%s%s    default_backend origin
backend origin
    server origin %s pool-max-conn 256
%s`, s.address, tls, log, policies, s.origin, table)
	return map[string]string{"haproxy.cfg": conf}, []string{s.path, "-db", "-f", s.file("haproxy.cfg")}
}
