package config

import (
	"net/netip"
	"time"
)

// A File is a whole configuration: the main file, what it includes, defaults
// filled in, references checked.
type File struct {
	// Path is the main file as it was named to Load; "" if there is none.
	Path string
	// Files lists every file that was read (main file first, includes, and
	// ${file:...} sources): what a watcher would have to watch.
	Files []string

	// Version is the version of the file format; 1 is the only one.
	Version int `toml:"version" default:"1" range:"1..1"`
	// Include lists globs, relative to the directory of the main file. The
	// files are merged by name, in no particular order; the same name in two
	// of them is an error. Included files cannot include.
	Include []string `toml:"include"`

	// Listeners by name. Without any there is one, "http", on :8080.
	Listeners map[string]*Listener `toml:"listeners"`
	// Routes by name.
	Routes map[string]*Route `toml:"routes"`
	// Upstreams by name, including those made from the `to` of a route, whose
	// names are their addresses and so contain a ':'.
	Upstreams map[string]*Upstream `toml:"upstreams"`
	// Plugins by name.
	Plugins map[string]*Plugin `toml:"plugins"`

	// Sandbox holds the defaults for every plugin's sandbox; already merged
	// into each Plugin.Sandbox.
	Sandbox Sandbox `toml:"sandbox"`
	// Server says how the process runs.
	Server Server `toml:"server"`
	// Admin says where metrics, health and control are served.
	Admin Admin `toml:"admin"`
	// Log says what is logged and where.
	Log Log `toml:"log"`
	// Metrics bounds what plugins can make of them.
	Metrics Metrics `toml:"metrics"`
	// Tracing sends traces to a receiver of OpenTelemetry. Without OTLP there are none.
	Tracing Tracing `toml:"tracing"`
	// Tests are checked by `wproxy check`, in the order of the files.
	Tests []Test `toml:"tests"`

	index index
}

// A Listener is a door: where clients connect.
type Listener struct {
	// Name is the name of the table: a metric label and a log field.
	Name string `toml:"-"`
	// Pos is where the table begins.
	Pos Pos `toml:"-" hash:"-"`
	// Hash changes when, and only when, a setting changes.
	Hash Hash `toml:"-" hash:"-"`

	// Address to listen on: "host:port", ":port" or "unix:/path". Required.
	Address string `toml:"address"`
	// Protocols that may be spoken: "h1", "h2" (HTTP/2 over TLS), "h2c" (HTTP/2 without,
	// by prior knowledge), or "tcp" alone: whatever it is, it is passed on as it is, by
	// routes that name the listener. Default: h1 and h2 with TLS, h1 and h2c without.
	Protocols []string `toml:"protocols" oneof:"h1|h2|h2c|tcp" later:"h3"`
	// Limits of what clients may send.
	Limits Limits `toml:"limits"`
	// TrustProxy lists the peers whose X-Forwarded-* and Forwarded fields are
	// believed: addresses or CIDRs. Default: nobody's.
	TrustProxy []netip.Prefix `toml:"trust_proxy"`
	// ProxyProtocol expects a PROXY header, version 1 or 2, at the beginning of each
	// connection, in front of TLS. Peers that are not in TrustProxy, and those that send
	// none, are refused. Default false.
	ProxyProtocol bool `toml:"proxy_protocol"`
	// TLS makes it speak TLS. Absent: it does not.
	TLS *ListenerTLS `toml:"tls"`
	// Redirect "https" answers everything with a redirect (308) to the listener with TLS.
	Redirect string `toml:"redirect" oneof:"https"`
	// StripPort leaves the port out of the authority that plugins, redirects and
	// upstreams see. Default false.
	StripPort bool `toml:"strip_port"`
	// ReusePort lets other sockets, also of other processes, be bound to the same address: the
	// kernel shares new connections out. Default false. Only when the socket is bound.
	ReusePort bool `toml:"reuse_port"`
	// Backlog is how many connections the kernel queues that are not accepted yet; 0, the
	// default: as many as it allows.
	Backlog int `toml:"backlog" default:"0" range:"0..65535"`
	// KeepAlive finds clients that vanished without a word.
	KeepAlive KeepAlive `toml:"keepalive"`
	// NoDelay sends small writes at once (TCP_NODELAY). Default true.
	NoDelay bool `toml:"nodelay" default:"true"`
}

// KeepAlive is the keep-alive of TCP, which only kernels see.
type KeepAlive struct {
	// Idle is the silence after which the other end is asked for a sign of life; 0: it is
	// not. Default 15s.
	Idle time.Duration `toml:"idle" default:"15s" range:"0..9h"`
	// Interval between two probes. Default 15s.
	Interval time.Duration `toml:"interval" default:"15s" range:"1s..9h"`
	// Count is how many probes may go unanswered. Default 9.
	Count int `toml:"count" default:"9" range:"1..127"`
}

// Limits bound what one client may make wproxy hold.
type Limits struct {
	// Header is the most bytes of a request head (431 beyond). Default 64KiB.
	Header Size `toml:"header" default:"64KiB" range:"1KiB..1MiB"`
	// Fields is the most field lines in a head (431 beyond). Default 200.
	Fields int `toml:"fields" default:"200" range:"1..10000"`
	// HeaderTime is the longest a head may take to arrive. Default 10s.
	HeaderTime time.Duration `toml:"header_time" default:"10s" range:"100ms..10m"`
	// Idle is how long a keep-alive connection may rest. Default 60s.
	Idle time.Duration `toml:"idle" default:"60s" range:"100ms..24h"`
	// Body is the most bytes of a request body (413 beyond); 0: no limit, the default.
	Body Size `toml:"body" default:"0" range:"0..16TiB"`
	// Streams is the most requests that an HTTP/2 connection may have at a time.
	// Default 128.
	Streams int `toml:"streams" default:"128" range:"1..10000"`
	// Connections is the most connections at a time. Default 20000.
	Connections int `toml:"connections" default:"20000" range:"1..10000000"`
	// ConnectionsPerClient is the most connections of one address, of an IPv6 address
	// with all others of its /64; more are closed at once. Peers in TrustProxy, who
	// speak for others, and unix sockets are not counted. 0, the default: no limit.
	ConnectionsPerClient int `toml:"connections_per_client" default:"0" range:"0..1000000"`
}

// Server says how the process runs.
type Server struct {
	// Drain is how long stop waits for live exchanges. Default 30s.
	Drain time.Duration `toml:"drain" default:"30s" range:"0..24h"`
	// Threads is GOMAXPROCS; 0, the default: the CPUs this process may use.
	Threads int `toml:"threads" default:"0" range:"0..4096"`
	// Objects is how much memory all that plugins store (grant "objects") takes together. Default 1GiB.
	Objects Size `toml:"objects" default:"1GiB" range:"1MiB..1TiB"`
	// H2Memory is how much memory the requests of all HTTP/2 connections may take
	// together, beyond 128 KiB each: heads, and bodies that wait. Default 256MiB.
	H2Memory Size `toml:"h2_memory" default:"256MiB" range:"0..1TiB"`
	// Watch reloads when a file of the configuration, or a .wasm, has changed. Default false.
	Watch bool `toml:"watch"`
	// User is whom the process becomes when its sockets are bound, if root has
	// started it: a name or a number. Only at start.
	User string `toml:"user"`
	// Group goes with User. Default: the user's own.
	Group string `toml:"group"`
	// PidFile is a file for the process id. Only at start.
	PidFile string `toml:"pid_file"`
}

// Admin says where metrics, health and control are served.
type Admin struct {
	// Address: one or several of "host:port" (read-only unless Write) and
	// "unix:/path" (mode 0600). "none": no TCP address. Default 127.0.0.1:9901.
	// Without a unix entry the commands' socket is put into the runtime directory.
	Address []string `toml:"address" default:"127.0.0.1:9901"`
	// Write lets the TCP address change things too; it needs Token.
	Write bool `toml:"write"`
	// Token is what writers over TCP send as "authorization: Bearer TOKEN".
	Token Value `toml:"token"`
	// DebugToken is what a request says in "x-wproxy-debug" to be told in "server-timing"
	// where its time has gone, and to be traced. Default: nobody is told.
	DebugToken Value `toml:"debug_token"`
	// Page serves the page for people at / of the TCP address. Default true.
	Page bool `toml:"page" default:"true"`
}

// Log says what is logged and where.
type Log struct {
	// Level of wproxy's own log. Default "info".
	Level string `toml:"level" default:"info" oneof:"debug|info|warn|error"`
	// To is where wproxy's own log goes: "stderr" (default), "stdout" or a file.
	To string `toml:"to" default:"stderr"`
	// Access is the access log.
	Access Access `toml:"access"`
}

// Access says where the access log goes: one line per exchange.
type Access struct {
	// To: "stdout" (default), "stderr", "none" or a file.
	To string `toml:"to" default:"stdout"`
	// Format of a line: "json" (default), or "combined", which is Apache's and
	// nginx's and says nothing of routes and upstreams.
	Format string `toml:"format" default:"json" oneof:"json|combined"`
	// Fields of a line of JSON, in order: names of the usual ones, "default" for all of
	// these, "header:NAME", "response:NAME", "cookie:NAME", and "added:NAME", which plugins
	// have added. Default: ["default"].
	Fields []string `toml:"fields"`
	// Hide lists what is written as "***": "NAME" for a field of a head, "query:NAME" and
	// "query:*", "cookie:NAME". Default: DefaultHide.
	Hide []string `toml:"hide"`
	// Sample is the share of lines that are written, of those that say nothing special: a
	// 5xx, a request that was refused, an answer that broke off and a trap always have
	// their line. Default 100%.
	Sample Percent `toml:"sample" default:"100%" range:"0%..100%"`
}

// DefaultHide returns what is hidden in the access log where nothing else is said:
// credentials, should somebody choose these fields.
func DefaultHide() []string {
	return []string{"authorization", "proxy-authorization", "cookie", "set-cookie"}
}

// Metrics says what there may be of them.
type Metrics struct {
	// Limit is the most series that plugins' own metrics may have, all plugins together;
	// what is beyond is counted as "other". Default 20000.
	Limit int `toml:"limit" default:"20000" range:"100..10000000"`
}

// Tracing says which requests are traced, and where traces go.
type Tracing struct {
	// OTLP is the receiver: the URL of one that speaks OTLP over HTTP. To one without a
	// path "/v1/traces" is added. "": nothing is traced.
	OTLP string `toml:"otlp"`
	// Sample is the share of requests that are recorded, of those for which the sender
	// has not decided, or does not count. Default 1%.
	Sample Percent `toml:"sample" default:"1%" range:"0%..100%"`
	// Parent says whose decision is followed: of peers in trust_proxy ("trusted", the
	// default), of everybody ("follow"), or of nobody ("ignore": each request begins a trace).
	Parent string `toml:"parent" default:"trusted" oneof:"trusted|follow|ignore"`
	// Service is the service.name that the receiver is told. Default "wproxy".
	Service string `toml:"service" default:"wproxy"`
	// Resource is what else it is told about this process: attributes by name.
	Resource map[string]string `toml:"resource"`
	// Headers of the requests to the receiver.
	Headers map[string]Value `toml:"headers"`
}

// A Test is a request and what must become of it, checked without sending it.
type Test struct {
	// Pos is where the table begins.
	Pos Pos `toml:"-" hash:"-"`

	// Request is "METHOD URL", e.g. "GET https://api.example.com/v1/users". Required.
	Request string `toml:"request"`
	// Headers of the request.
	Headers map[string]string `toml:"headers"`
	// Listener the request comes in by; "": the one with the port of the URL,
	// else the only one, else the first by name.
	Listener string `toml:"listener"`
	// Expect is what must come out; keys that are absent are not compared.
	Expect Expect `toml:"expect"`
}

// Expect says what a Test expects. A nil field is not compared.
type Expect struct {
	// Route is the name of the route that wins; "none" if there is to be none (404).
	Route *string `toml:"route"`
	// Plugins is the plugin chain in order.
	Plugins *[]string `toml:"plugins"`
	// Upstream is the name of the upstream, or of one of a split.
	Upstream *string `toml:"upstream"`
	// UpstreamPath is the path that the upstream sees, after strip and rewrite.
	UpstreamPath *string `toml:"upstream_path"`
	// Status is the status of an answer that wproxy makes itself.
	Status *int `toml:"status" range:"100..599"`
	// Location is where a redirect leads.
	Location *string `toml:"location"`
}
