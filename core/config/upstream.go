package config

import "time"

// An Upstream is a set of servers that answer the same requests.
type Upstream struct {
	// Name is the name of the table: a metric label and a log field.
	Name string `toml:"-"`
	// Pos is where the table begins, or the `to` it was made from.
	Pos Pos `toml:"-" hash:"-"`
	// Hash changes when, and only when, a setting changes.
	Hash Hash `toml:"-" hash:"-"`

	// Servers: addresses, or tables with address and weight. Required unless Discover.
	Servers []ServerEntry `toml:"servers"`
	// Discover finds the servers while wproxy runs; nil: they are Servers.
	Discover *Discover `toml:"discover"`
	// Host is the Host that the servers see: "" (default) the client's,
	// "server" the server's own address, or this name.
	Host string `toml:"host"`
	// Balance picks the server. Default "round-robin" (smooth, weighted).
	Balance string `toml:"balance" default:"round-robin" oneof:"round-robin|random|random-2|least-conn|least-time|hash|maglev"`
	// HashKey is what ties requests to a server with Balance "hash" and "maglev":
	// "client-ip", "header:NAME", "cookie:NAME", "query:NAME" or "path". Required there.
	HashKey string `toml:"hash"`
	// HashBound is the most load of a server as a multiple of its even share; above it, keys
	// go on to the next one. Default 125%; 0%: no bound.
	HashBound Percent `toml:"hash_bound" default:"125%" range:"0%..1000%"`
	// SlowStart is how long the weight of a server that has come back grows. Default 0: not at all.
	SlowStart time.Duration `toml:"slow_start" default:"0" range:"0..1h"`
	// Sticky keeps a client on its server by a cookie. Absent: it does not.
	Sticky *Sticky `toml:"sticky"`
	// Health asks the servers whether they are well; nil: nobody asks.
	Health *Health `toml:"health"`
	// Outlier takes servers out that fail requests; nil: none is.
	Outlier *Outlier `toml:"outlier"`
	// Panic is the share of available servers below which all are tried. Default 30%; 0%: never.
	Panic Percent `toml:"panic" default:"30%" range:"0%..100%"`
	// DeadlineHeader is a field that tells the servers how many milliseconds they have
	// for their answer. A client's own of that name is dropped. Default "": none.
	DeadlineHeader string `toml:"deadline_header"`
	// Pool bounds the connections.
	Pool Pool `toml:"pool"`
	// Connect holds the times of connecting, reading and writing, and the protocol.
	Connect Connect `toml:"connect"`
	// SendProxy "v1" or "v2" begins each connection with a PROXY header of that version, in
	// front of TLS: it names the client, and so no other client gets the connection. Health
	// checks say that they are wproxy's own. Default "": none is sent.
	SendProxy string `toml:"send_proxy" oneof:"v1|v2"`
	// TLS, if there, encrypts the connections to all servers. An https:// in front of
	// an address does so for that server, as if tls were an empty table.
	TLS *UpstreamTLS `toml:"tls"`
}

// UpstreamTLS says how servers are verified and what they are shown. Paths are
// relative to the file that names them.
type UpstreamTLS struct {
	// ServerName is the name that a server's certificate must have, and that is sent
	// as SNI. "" (default): host of the upstream if that is a name, and otherwise the
	// host of the server's address.
	ServerName string `toml:"server_name"`
	// CA is a PEM file of the authorities that are believed. "": the system's.
	CA string `toml:"ca"`
	// Cert and Key are PEM files of the certificate that servers are shown when they
	// ask for one, the leaf first. They are read again when they change.
	Cert string `toml:"cert"`
	Key  string `toml:"key"`
	// InsecureSkipVerify takes any certificate of any name: `check` and the log warn.
	InsecureSkipVerify bool `toml:"insecure_skip_verify"`
	// Min is the lowest version of TLS. Default "1.2".
	Min string `toml:"min" default:"1.2" oneof:"1.2|1.3"`
}

// A ServerEntry is one server. Short form: a string, the Address.
type ServerEntry struct {
	// Address as written: "host:port", "http://host[:80]", "https://host[:443]",
	// "unix:/path" or "builtin:httpbin". It names the server in metrics and commands.
	Address string `toml:"address"`
	// Weight is its share of requests among the servers. Default 1.
	Weight int `toml:"weight" default:"1" range:"1..1000"`
	// Priority: servers with a higher number are used when none with a lower one is
	// available. Default 0.
	Priority int `toml:"priority" default:"0" range:"0..100"`
	// Backup: used when no other is available, after all priorities.
	Backup bool `toml:"backup"`
	// MaxConnections is the most connections to it; 0, the default: pool.per_server.
	MaxConnections int `toml:"max_connections" default:"0" range:"0..1000000"`
	// MaxRequests is the most requests that it has at a time; 0, the default: pool.max_requests.
	MaxRequests int `toml:"max_requests" default:"0" range:"0..1000000"`

	// Network is "tcp", "unix" or "builtin", from Address.
	Network string `toml:"-"`
	// Dial is "host:port", a path, or the name of the built-in, from Address.
	Dial string `toml:"-"`
	// Scheme is "http" or "https": as written in Address, and otherwise by whether there
	// is a tls.
	Scheme string `toml:"-"`
}

// A Sticky is the cookie that keeps a client on its server.
type Sticky struct {
	// Cookie is its name. Default "wproxy-server".
	Cookie string `toml:"cookie" default:"wproxy-server"`
	// Secret is what its values are made with. Absent: wproxy makes one when it starts,
	// which reloads keep, and other instances do not have.
	Secret Value `toml:"secret"`
	// MaxAge is how long the client keeps it, from when it gets it. Default 0: as long as the browser runs.
	MaxAge time.Duration `toml:"max_age" default:"0" range:"0..8760h"`
	// Path that it is for. Default "/".
	Path string `toml:"path" default:"/"`
	// Secure: over TLS only; "auto" (default) when the request came over TLS.
	Secure string `toml:"secure" default:"auto" oneof:"auto|always|never"`
	// HTTPOnly hides it from scripts. Default true.
	HTTPOnly bool `toml:"http_only" default:"true"`
	// SameSite attribute. Default "lax".
	SameSite string `toml:"same_site" default:"lax" oneof:"lax|strict|none"`
}

// A Pool bounds the connections of an upstream.
type Pool struct {
	// Idle is the most idle connections kept in all. Default 256; 0: none are kept.
	Idle int `toml:"idle" default:"256" range:"0..1000000"`
	// IdleTime is how long an idle connection is kept. Default 60s.
	IdleTime time.Duration `toml:"idle_time" default:"60s" range:"10ms..24h"`
	// PerServer is the most connections to one server; 0, the default: no limit.
	PerServer int `toml:"per_server" default:"0" range:"0..1000000"`
	// MaxRequests is the most requests that one server has at a time; 0, the default: no limit.
	MaxRequests int `toml:"max_requests" default:"0" range:"0..1000000"`
	// Queue is the most requests that wait for a connection or their turn (503 beyond). Default 100.
	Queue int `toml:"queue" default:"100" range:"0..1000000"`
	// QueueTime is the longest such a wait. Default 1s.
	QueueTime time.Duration `toml:"queue_time" default:"1s" range:"1ms..10m"`
	// Streams is the most requests at a time on one connection, where its protocol
	// carries several (HTTP/2), if the server allows as many. Default 100.
	Streams int `toml:"streams" default:"100" range:"1..100000"`
}

// Connect holds the times of an upstream connection, and its protocol.
type Connect struct {
	// Timeout of one TCP attempt. Default 2s.
	Timeout time.Duration `toml:"timeout" default:"2s" range:"1ms..10m"`
	// Total of name lookup, all attempts and TLS together. Default 10s.
	Total time.Duration `toml:"total" default:"10s" range:"1ms..10m"`
	// ReadTimeout is the longest silence while an answer is awaited or read. Default 30s; 0: none.
	ReadTimeout time.Duration `toml:"read_timeout" default:"30s" range:"0..24h"`
	// WriteTimeout is the longest a write may make no progress. Default 30s; 0: none.
	WriteTimeout time.Duration `toml:"write_timeout" default:"30s" range:"0..24h"`
	// Protocol is "auto": HTTP/2 or HTTP/1.1 over TLS, whichever the server prefers,
	// and HTTP/1.1 in clear; "h1"; or "h2", in clear with prior knowledge. Default "auto".
	Protocol string `toml:"protocol" default:"auto" oneof:"auto|h1|h2"`
}
