package main

import (
	"fmt"
	"net"
)

// The configurations of proxies that are measured where they happen to be
// installed. Their x-forwarded-for is on by default but in Envoy.

func configureCaddy(s setup) (map[string]string, []string) {
	log := ""
	if s.feat&withLog != 0 {
		log = fmt.Sprintf("log {\n\t\toutput file %s\n\t}", s.file("access.log"))
	}
	conf := fmt.Sprintf(`{
	auto_https off
	admin off
	persist_config off
	storage file_system %s
}
http://%s {
	%s
	reverse_proxy %s {
		transport http {
			keepalive_idle_conns_per_host 256
		}
	}
}
`, s.file("storage"), s.address, log, s.origin)
	return map[string]string{"Caddyfile": conf}, []string{
		s.path, "run", "--config", s.file("Caddyfile"), "--adapter", "caddyfile",
	}
}

func configureTraefik(s setup) (map[string]string, []string) {
	log := ""
	if s.feat&withLog != 0 {
		log = fmt.Sprintf("accessLog:\n  filePath: %s\n  bufferingSize: 100\n", s.file("access.log"))
	}
	static := fmt.Sprintf(`global:
  checkNewVersion: false
  sendAnonymousUsage: false
entryPoints:
  web:
    address: %q
    transport:
      respondingTimeouts:
        idleTimeout: 1h
providers:
  file:
    filename: %s
serversTransport:
  maxIdleConnsPerHost: 256
%s`, s.address, s.file("dynamic.yml"), log)
	dynamic := fmt.Sprintf(`http:
  routers:
    all:
      rule: "PathPrefix(`+"`/`"+`)"
      service: origin
  services:
    origin:
      loadBalancer:
        servers:
          - url: "http://%s"
`, s.origin)
	return map[string]string{"traefik.yml": static, "dynamic.yml": dynamic},
		[]string{s.path, "--configFile=" + s.file("traefik.yml")}
}

func configureEnvoy(s setup) (map[string]string, []string) {
	log := ""
	if s.feat&withLog != 0 {
		log = fmt.Sprintf(`
          access_log:
          - name: envoy.access_loggers.file
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: %s`, s.file("access.log"))
	}
	conf := fmt.Sprintf(`static_resources:
  listeners:
  - name: in
    address: { socket_address: %s }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          use_remote_address: true%s
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: { prefix: "/" }
                route: { cluster: origin }
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: origin
    type: STATIC
    connect_timeout: 5s
    load_assignment:
      cluster_name: origin
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: %s } }
`, envoyAddress(s.address), log, envoyAddress(s.origin))
	return map[string]string{"envoy.yaml": conf}, []string{
		s.path, "-c", s.file("envoy.yaml"), "--concurrency", "1", "--disable-hot-restart", "-l", "error",
	}
}

// envoyAddress returns address as the fields of an Envoy socket_address.
func envoyAddress(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "{}" // Envoy then refuses the file and says where
	}
	return fmt.Sprintf("{ address: %s, port_value: %s }", host, port)
}
