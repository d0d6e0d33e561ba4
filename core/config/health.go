package config

import "time"

// Health says how servers are asked whether they are well.
type Health struct {
	// Protocol of a check: "http" (default) sends a request, "tcp" connects, "grpc" calls
	// grpc.health.v1.Health/Check.
	Protocol string `toml:"protocol" default:"http" oneof:"http|tcp|grpc"`
	// Service that Protocol "grpc" asks about; "", the default: the server as a whole.
	Service string `toml:"service"`
	// Path of the request, with a query if need be. Default "/".
	Path string `toml:"path" default:"/"`
	// Method of the request. Default "GET".
	Method string `toml:"method" default:"GET" oneof:"GET|HEAD|OPTIONS"`
	// Host of the request; "", the default: what the upstream's host says, else the server's address.
	Host string `toml:"host"`
	// Headers of the request.
	Headers map[string]Value `toml:"headers"`
	// Expect lists the statuses that are good: "204", "200-299". Default "200-299".
	Expect []string `toml:"expect" default:"200-299"`
	// Body is what the body has to contain; "", the default: anything.
	Body string `toml:"body"`
	// BodyRegex is what the body has to match; "", the default: anything.
	BodyRegex string `toml:"body_regex"`

	// Every is the time between two checks of a server. Default 10s.
	Every time.Duration `toml:"every" default:"10s" range:"100ms..1h"`
	// EveryDown is that of a server that is down; 0, the default: as Every.
	EveryDown time.Duration `toml:"every_down" default:"0" range:"0..1h"`
	// Timeout of one check, connecting included, 10ms at least; 0, the default: 2s, or Every
	// if that is shorter.
	Timeout time.Duration `toml:"timeout" default:"0" range:"0..1m"`
	// Up is how many good checks in a row bring a server up. Default 2.
	Up int `toml:"up" default:"2" range:"1..100"`
	// Down is how many bad checks in a row take it down. Default 3.
	Down int `toml:"down" default:"3" range:"1..100"`
	// Initial is what a server counts as until its first check: "up" (default) or "down".
	Initial string `toml:"initial" default:"up" oneof:"up|down"`
}

// Outlier says when servers are taken out for failing requests.
type Outlier struct {
	// Errors in a row that take a server out. Default 5; 0: not by these.
	Errors int `toml:"errors" default:"5" range:"0..10000"`
	// Ratio of failures that takes a server out; 0, the default: not by it.
	Ratio Percent `toml:"ratio" default:"0%" range:"0%..100%"`
	// MinRequests within Window before Ratio counts. Default 20.
	MinRequests int `toml:"min_requests" default:"20" range:"1..1000000"`
	// Window that Ratio looks back. Default 10s.
	Window time.Duration `toml:"window" default:"10s" range:"100ms..1h"`
	// On lists what a failure is. Default: all but statuses.
	On []string `toml:"on" default:"connect,tls,reset,timeout,protocol" oneof:"connect|tls|reset|timeout|protocol|5xx|500|502|503|504"`
	// Eject is how long the first ejection takes, the second twice as long. Default 30s.
	Eject time.Duration `toml:"eject" default:"30s" range:"100ms..24h"`
	// MaxEject is the longest ejection. Default 5m.
	MaxEject time.Duration `toml:"max_eject" default:"5m" range:"100ms..24h"`
	// MaxEjected is the share of the servers that may be out at a time. Default 50%.
	MaxEjected Percent `toml:"max_ejected" default:"50%" range:"0%..100%"`
}

// Discover says where servers are found. Exactly one of DNS and File is set.
type Discover struct {
	// DNS is "name:port", whose addresses are the servers, or "srv:name", whose
	// targets are.
	DNS string `toml:"dns"`
	// File is a list of servers, in JSON or TOML by its ending; it is watched.
	File string `toml:"file"`
	// Every is the longest time between two looks. Default 30s for DNS, where a
	// shorter TTL is obeyed, and 1s for a file.
	Every time.Duration `toml:"every" default:"0" range:"0..1h"`
	// Keep is how long the last servers are kept when none are found any more. Default 5m.
	Keep time.Duration `toml:"keep" default:"5m" range:"0..720h"`
	// Resolver lists DNS servers, "address" or "address:port"; empty, the default: those of
	// /etc/resolv.conf.
	Resolver []string `toml:"resolver"`
}
