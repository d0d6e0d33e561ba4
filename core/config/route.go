package config

import (
	"net/netip"
	"strconv"
	"time"
)

// A Route says which requests it is for and what becomes of them. Exactly one
// of upstream (or to), redirect and respond is set.
type Route struct {
	// Name is the name of the table: a metric label and a log field.
	Name string `toml:"-"`
	// Pos is where the table begins.
	Pos Pos `toml:"-" hash:"-"`
	// Hash changes when, and only when, a setting changes, including those of
	// the plugins it uses as merged in Plugins.
	Hash Hash `toml:"-" hash:"-"`

	// What it is for.

	// Host: one or several of "a.example.com", "*.example.com" (one or more
	// labels in front). Lower case, without port. Absent: any host.
	Host []string `toml:"host"`
	// Path: one or several of "/v1" (exactly this), "/v1/*" (/v1 and all
	// below it), "/*" (any). Absent: any, unless PathRegex is set.
	Path []string `toml:"path"`
	// PathRegex is an RE2 expression searched in the canonical path; anchor it
	// with ^. Not together with Path.
	PathRegex string `toml:"path_regex"`
	// Methods that it is for, in upper case. Absent: any.
	Methods []string `toml:"methods"`
	// When holds further conditions. All of them must hold.
	When When `toml:"when"`
	// Listener restricts it to these doors. Absent: all.
	Listener []string `toml:"listener"`
	// Priority breaks a tie between routes that are equally specific: the
	// higher goes first. Default 0.
	Priority int `toml:"priority" default:"0" range:"-1000000..1000000"`

	// What becomes of the request.

	// Upstream: where it goes; several share by weight. `to = ADDRESS` is
	// turned into one target that is an upstream with one server.
	Upstream []Target `toml:"upstream"`
	// To is a server address, the short form of an upstream with one server.
	To string `toml:"to"`
	// Split says what keeps a request on one side, if Upstream are several. Absent: chance.
	Split *Split `toml:"split"`
	// Mirror sends copies of the requests to another upstream.
	Mirror *Mirror `toml:"mirror"`
	// Fault makes the route slow or fail, for tests of its clients.
	Fault *Fault `toml:"fault"`
	// Redirect answers with a redirect instead.
	Redirect *Redirect `toml:"redirect"`
	// Respond answers with a fixed response instead.
	Respond *Respond `toml:"respond"`

	// Strip is a path prefix that the upstream does not see ("/v1": the
	// upstream sees /users for /v1/users, and / for /v1).
	Strip string `toml:"strip"`
	// Rewrite changes the path that the upstream sees, after Strip.
	Rewrite *Rewrite `toml:"rewrite"`
	// Timeout of the whole request, retries included; not of tunnels. Default 60s; 0: none.
	Timeout time.Duration `toml:"timeout" default:"60s" range:"0..24h"`
	// RequestHeaders edits what the upstream sees.
	RequestHeaders HeaderEdit `toml:"request_headers"`
	// ResponseHeaders edits what the plugins and the client see.
	ResponseHeaders HeaderEdit `toml:"response_headers"`
	// Allow: only clients in these addresses or CIDRs (403 for others). Absent: all.
	Allow []netip.Prefix `toml:"allow"`
	// Deny: no clients in these addresses or CIDRs. Deny wins over Allow.
	Deny []netip.Prefix `toml:"deny"`
	// EncodedSlash: "refuse" (400, the default) or "keep" paths with an encoded slash, backslash or NUL.
	EncodedSlash string `toml:"encoded_slash" default:"refuse" oneof:"refuse|keep"`
	// Repick "refuse" (default) answers 503 when a plugin's edit leads here and
	// this route uses a plugin that has not run; "trust" goes on without it.
	Repick string `toml:"repick" default:"refuse" oneof:"refuse|trust"`
	// Retry says when a request is tried again.
	Retry Retry `toml:"retry"`
	// WebSocket holds settings of upgraded connections.
	WebSocket WebSocket `toml:"websocket"`
	// TCP holds settings of connections, if the listeners speak TCP.
	TCP TCP `toml:"tcp"`

	// Use names the plugins, in the order they see the request.
	Use []string `toml:"use"`
	// With holds this route's own settings per plugin name, as written.
	With map[string]map[string]any `toml:"with"`
	// Plugins is Use with the settings merged: what runs.
	Plugins []Use `toml:"-"`
	// Metadata is readable by plugins as route metadata.
	Metadata map[string]any `toml:"metadata"`
}

// A Use is a plugin as a route uses it.
type Use struct {
	// Plugin is the plugin's name.
	Plugin string
	// Config is the plugin's config, with the route's `with` laid over it if it
	// is a table: tables deeply, lists and scalars replaced. See [Raw] for what
	// the guest gets. nil: no settings.
	Config any
	// Hash is the hash of Plugin and Config: equal settings share a root context.
	Hash Hash `hash:"-"`
}

// When holds conditions on header fields and query parameters, by name.
type When struct {
	// Header conditions; names in lower case.
	Header map[string]Match `toml:"header"`
	// Query conditions; names compare byte for byte after percent decoding.
	Query map[string]Match `toml:"query"`
}

// A Match is a condition on one field or parameter: "v" or ["v", "w"] (one of
// these, exactly), true (there, whatever its value), false (not there). What is
// there more than once has no one value and meets true only.
type Match struct {
	// Values: one of these; nil when the condition is about presence.
	Values []string
	// Absent: true for `false`. Values is nil then.
	Absent bool
}

// A Target is an upstream with its share of a split.
type Target struct {
	// Upstream is the name of the upstream.
	Upstream string
	// Weight is its share: Weight / sum of weights. 1 when it is the only one.
	Weight int
}

// A Split keeps requests on one side of a split by weight. One of Hash and Cookie is set.
type Split struct {
	// Hash: requests with the same "client-ip", "header:NAME", "cookie:NAME",
	// "query:NAME" or "path" go to the same upstream.
	Hash string `toml:"hash"`
	// Cookie is the name of one that wproxy sets.
	Cookie string `toml:"cookie"`
	// MaxAge is how long the client keeps Cookie. Default 0: as long as the browser runs.
	MaxAge time.Duration `toml:"max_age" default:"0" range:"0..8760h"`
}

// A Mirror sends copies of requests to another upstream. Short form: a string, the Upstream.
type Mirror struct {
	// Upstream is its name. Required.
	Upstream string `toml:"upstream"`
	// Share of the requests that are copied. Default 100%.
	Share Percent `toml:"share" default:"100%" range:"0%..100%"`
	// Body is the largest body that is copied. Default 64KiB.
	Body Size `toml:"body" default:"64KiB" range:"0..16MiB"`
}

// A Fault makes a route slow or fail.
type Fault struct {
	// Delay before the request is passed on. Default 0: none.
	Delay time.Duration `toml:"delay" default:"0" range:"0..1h"`
	// DelayShare of the requests are delayed. Default 100%.
	DelayShare Percent `toml:"delay_share" default:"100%" range:"0%..100%"`
	// Abort is the status that is answered instead of passing the request on. Default 0: none.
	Abort int `toml:"abort" default:"0" range:"0..599"`
	// AbortShare of the requests are aborted. Default 100%.
	AbortShare Percent `toml:"abort_share" default:"100%" range:"0%..100%"`
	// Header: only requests with this field. Absent: all.
	Header string `toml:"header"`
}

// A Redirect answers with a redirect. Short form: a string, the To.
type Redirect struct {
	// To is a path ("/new"), an absolute URL, or an absolute URL without path
	// ("https://new.example.com": the request's path and query are kept). The
	// query is kept unless To has one.
	To string `toml:"to"`
	// Status: 301, 302, 303, 307 or 308. Default 307.
	Status int `toml:"status" default:"307" range:"301..308"`
}

// A Respond answers with a fixed response.
type Respond struct {
	// Status of the answer. Default 200.
	Status int `toml:"status" default:"200" range:"200..599"`
	// Headers of the answer; content-type is text/plain unless set here.
	Headers map[string]Value `toml:"headers"`
	// Body of the answer.
	Body Value `toml:"body"`
}

// A Rewrite changes the path that the upstream sees: either Path, or Regex
// and To. The query stays as it is.
type Rewrite struct {
	// Path replaces the path.
	Path string `toml:"path"`
	// Regex is an RE2 expression; the path is left alone where it does not match.
	Regex string `toml:"regex"`
	// To replaces the match; $1 or ${1} are its groups.
	To string `toml:"to"`
}

// A HeaderEdit edits header fields: Remove first, then Set, then Add.
type HeaderEdit struct {
	// Set leaves exactly one line with this value. Names in lower case.
	Set map[string]Value `toml:"set"`
	// Add appends a line.
	Add map[string]Value `toml:"add"`
	// Remove removes all lines.
	Remove []string `toml:"remove"`
}

// Retry says when a request is tried again, on another server where there is one. In
// any case that is when a reused connection broke before a byte of the answer.
type Retry struct {
	// Attempts is the number of extra tries; 0: never. Default 1.
	Attempts int `toml:"attempts" default:"1" range:"0..10"`
	// On: after which failures: "connect", "refused-stream", "reset", "timeout", and
	// statuses from 400 to 599. Default: the first two, after which nothing has happened.
	On []string `toml:"on" default:"connect,refused-stream"`
	// Idempotent declares every method of this route safe to repeat; by
	// default only GET, HEAD, OPTIONS, TRACE, QUERY, PUT and DELETE are.
	Idempotent bool `toml:"idempotent"`
	// PerTry is how long the head of an answer may take in one try; 0, the default: as
	// long as the timeouts of the upstream and the route let it.
	PerTry time.Duration `toml:"per_try" default:"0" range:"0..24h"`
	// Budget is the most retries as a share of the requests of the upstream. Default 20%.
	Budget Percent `toml:"budget" default:"20%" range:"0%..100%"`
	// BudgetMin is how many are allowed however few requests there are. Default 3/s.
	BudgetMin Rate `toml:"budget_min" default:"3/s" range:"0/s..1000/s"`
	// BodyBuffer is how much of a body is held to be sent again. Default 64KiB; 0: nothing.
	BodyBuffer Size `toml:"body_buffer" default:"64KiB" range:"0..64MiB"`
	// Backoff is the longest wait before the second try on a server that has seen the
	// first, and, doubled with each, before any. Default 25ms..250ms.
	Backoff Backoff `toml:"backoff" default:"25ms..250ms"`
	// RetryAfter is the longest retry-after of an upstream that is waited for; an
	// answer that asks for more is passed on. Default 1s.
	RetryAfter time.Duration `toml:"retry_after" default:"1s" range:"0..10m"`
}

// Classes of failures in Retry.On.
const (
	RetryConnect = "connect"
	RetryRefused = "refused-stream"
	RetryReset   = "reset"
	RetryTimeout = "timeout"
)

// RetryStatus returns the status that an element of Retry.On stands for; 0: none.
func RetryStatus(on string) int {
	n, err := strconv.Atoi(on)
	if err != nil || n < 400 || n > 599 || len(on) != 3 {
		return 0
	}
	return n
}

// WebSocket holds settings of connections after a 101.
type WebSocket struct {
	// Idle is how long a tunnel may be silent in both directions. Default 5m; 0: for ever.
	Idle time.Duration `toml:"idle" default:"5m" range:"0..720h"`
	// Connections is how many tunnels may be open at a time, with requests for one that are
	// not answered yet. Beyond it: 503. Default 0: any number.
	Connections int `toml:"connections" default:"0" range:"0..1000000"`
}
