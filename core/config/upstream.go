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

	// Servers: addresses, or tables with address and weight. Required.
	Servers []ServerEntry `toml:"servers"`
	// Host is the Host that the servers see: "" (default) the client's,
	// "server" the server's own address, or this name.
	Host string `toml:"host"`
	// Balance picks the server. Default and only value so far: "round-robin" (smooth, weighted).
	Balance string `toml:"balance" default:"round-robin" oneof:"round-robin" later:"random|random-2|least-conn|least-time|hash|maglev"`
	// DeadlineHeader is a field that tells the servers how many milliseconds they have
	// for their answer. A client's own of that name is dropped. Default "": none.
	DeadlineHeader string `toml:"deadline_header"`
	// Pool bounds the connections.
	Pool Pool `toml:"pool"`
	// Connect holds the times of connecting, reading and writing.
	Connect Connect `toml:"connect"`
}

// A ServerEntry is one server. Short form: a string, the Address.
type ServerEntry struct {
	// Address as written: "host:port", "http://host[:80]", "unix:/path" or
	// "builtin:httpbin". It names the server in metrics and commands.
	Address string `toml:"address"`
	// Weight is its share of requests among the servers. Default 1.
	Weight int `toml:"weight" default:"1" range:"1..1000"`
	// MaxConnections is the most connections to it; 0, the default: pool.per_server.
	MaxConnections int `toml:"max_connections" default:"0" range:"0..1000000"`
	// MaxRequests is the most requests that it has at a time; 0, the default: pool.max_requests.
	MaxRequests int `toml:"max_requests" default:"0" range:"0..1000000"`

	// Network is "tcp", "unix" or "builtin", from Address.
	Network string `toml:"-"`
	// Dial is "host:port", a path, or the name of the built-in, from Address.
	Dial string `toml:"-"`
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
}

// Connect holds the times of an upstream connection.
type Connect struct {
	// Timeout of one TCP attempt. Default 2s.
	Timeout time.Duration `toml:"timeout" default:"2s" range:"1ms..10m"`
	// Total of name lookup and all attempts together. Default 10s.
	Total time.Duration `toml:"total" default:"10s" range:"1ms..10m"`
	// ReadTimeout is the longest silence while an answer is awaited or read. Default 30s; 0: none.
	ReadTimeout time.Duration `toml:"read_timeout" default:"30s" range:"0..24h"`
	// WriteTimeout is the longest a write may make no progress. Default 30s; 0: none.
	WriteTimeout time.Duration `toml:"write_timeout" default:"30s" range:"0..24h"`
}
