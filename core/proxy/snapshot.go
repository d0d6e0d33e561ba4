package proxy

import (
	"net/netip"
	"sync/atomic"
	"time"

	"wproxy/core/access"
	"wproxy/core/balance"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/internal/refs"
	"wproxy/core/metrics"
	"wproxy/core/pool"
	"wproxy/core/route"
	"wproxy/core/trace"
	"wproxy/core/upstream"
)

// A Snapshot is one whole configuration, ready to serve. It is filled by its
// maker and immutable from the moment that [New] or [Proxy.Swap] has seen it.
type Snapshot struct {
	Generation uint64
	Table      *route.Table[*Route]
	Listeners  []*Listener    // exchange.Conn.Listener names one of them
	NoRoute    *metrics.Route // counts requests that no route matched: Metrics.Route("", names)
	Access     *access.Logger // nil: no access log
	Hide       access.Hide    // what traces do not say of a request
	Tracer     *trace.Tracer  // nil: nothing is traced
	Debug      DebugToken     // of those who are told where the time went; zero: nobody is

	Routes      map[string]*Route // by name; what Table has. nil: all of them are new
	TunnelGrace time.Duration     // how long a tunnel goes on whose route is not the same in this snapshot
	// Upstreams are those that filters may choose (filter.Exchange.Selected), by name.
	Upstreams map[string]*Upstream

	refs refs.Count // exchanges on it, and one while it serves
}

// A Listener is what the engine must know of a door. The index in
// Snapshot.Listeners is the listener's index in metrics handles.
type Listener struct {
	Name       string
	TrustProxy []netip.Prefix // peers whose X-Forwarded-* and Forwarded are believed
	StripPort  bool           // the authority of requests is without its port from here on

	// Secure, if set, says what is asked of clients' certificates; see secure.go.
	Secure Policies
	// CertFields hands what is in the client's certificate on to upstreams.
	CertFields bool
	// DropCertFields drops such fields that clients send. It is set on every listener
	// if CertFields is on one: their upstreams may be the same.
	DropCertFields bool

	// Upgrade, if set, redirects requests to https, at the port that it returns.
	Upgrade func() int
}

// A Route is what to do with a request.
type Route struct {
	Name    string
	Info    filter.Route     // what filters may know of it
	Metrics *metrics.Route   // Metrics.Route(Name, names of Snapshot.Listeners)
	Filters []filter.Factory // `use`, in order

	// Mark is equal in two snapshots for routes with the same settings and plugins. Parts
	// is equal if they have the same upstreams, too: then all that either uses is alive as
	// long as one of the snapshots.
	Mark, Parts Mark

	// Exactly one of Split, Redirect and Respond is set.
	Split    []Target
	Redirect *route.Redirect
	Respond  *Respond

	SplitKey    Key          // keeps requests with it on one side of Split
	SplitCookie *SplitCookie // keeps clients there; nil: none. SplitKey has no effect beside it

	Mirror *Mirror // copies of its requests; nil: none
	Fault  *Fault  // for tests of its clients; nil: none

	Allow, Deny     []netip.Prefix // client addresses; no Allow: all; Deny wins
	Timeout         time.Duration  // of the whole exchange; 0: DefaultTimeout, negative: none
	TunnelIdle      time.Duration  // how long neither side of a tunnel may say anything; 0: the codecs' default, negative: for ever
	Rewrite         *route.Rewrite // strip and rewrite; nil: none
	RequestHeaders  HeaderEdits
	ResponseHeaders HeaderEdits
	Retry           Retry
	MaxTunnels      int          // upgrades and tunnels at a time; 0 or less: any number
	Tunnels         *TunnelCount // counts them, for all snapshots; nil: they are not counted
	KeepSlash       bool         // encoded_slash = "keep"
	TrustRepick     bool         // repick = "trust": may be re-picked although a plugin of it has not run
}

// A Target is one upstream of a route and its share.
type Target struct {
	Upstream *Upstream
	Weight   int // 0 or less: none
}

// An Upstream joins what belongs to one upstream of the configuration. It is
// immutable, but for that Replace may say that another one stands in for it: its
// servers are found while it serves.
type Upstream struct {
	Cluster *upstream.Cluster
	Picker  balance.Picker
	Key     Key     // for pickers that hash
	Sticky  *Sticky // nil: clients are not kept on a server
	Timed   bool    // Picker wants to know how long servers take to answer
	Pool    *pool.Pool
	Metrics *metrics.Upstream

	// DeadlineHeader is a field, in lower case, that tells the server how many
	// milliseconds it has for its answer; "": none.
	DeadlineHeader string

	latest atomic.Pointer[Upstream] // what stands in for it; nil: itself
}

// Current returns what is to be used for an exchange that begins: u, or what was
// last given to Replace. An exchange asks once and keeps that to its end.
func (u *Upstream) Current() *Upstream {
	if v := u.latest.Load(); v != nil {
		return v
	}
	return u
}

// Replace makes next what is used instead of u from now on: the same upstream, with
// other servers. It may be called again, always on u.
func (u *Upstream) Replace(next *Upstream) { u.latest.Store(next) }

// HeaderEdits change the fields of a head: first Remove, then Set, then Add.
// Names are in lower case; names and values have been validated.
type HeaderEdits struct {
	Remove []string
	Set    []exchange.Field
	Add    []exchange.Field
}

// Respond is a fixed answer.
type Respond struct {
	Status int
	Fields []exchange.Field
	Body   []byte
}

// Retry says when a request is tried again. The zero value is the default.
type Retry struct {
	Attempts   int        // tries after the first; 0: DefaultRetries, negative: none
	On         RetryClass // after what; 0: DefaultOn, unless Statuses are set
	Statuses   StatusSet  // answers that are not passed on while there is another try
	Idempotent bool       // treat every method as idempotent

	// PerTry is how long the head of an answer may take: from the beginning of a
	// try whose request is at hand, and otherwise from the end of the request. 0 or less: no limit.
	PerTry time.Duration

	Budget    int     // most tries after the first, in percent of the upstream's requests; 0: DefaultBudget, negative: none at all
	BudgetMin float64 // a second that are allowed however few requests there are; 0: DefaultBudgetMin, negative: none

	BodyBuffer int // most bytes of a body that are held to be sent again; 0: DefaultBodyBuffer, negative: none

	// A back-off is between 0 and Backoff, doubled with each try up to MaxBackoff; 0: the defaults.
	Backoff, MaxBackoff time.Duration

	// RetryAfter is the longest retry-after of an upstream that is waited for; what
	// asks for more is passed on. 0: DefaultRetryAfter, negative: none is waited for.
	RetryAfter time.Duration
}

// Drained returns a channel that is closed when the snapshot has been swapped out and its
// last exchange is over. It is nil before New or Swap has seen s.
func (s *Snapshot) Drained() <-chan struct{} { return s.refs.Drained() }

// listener returns the index of the listener called name, or -1.
func (s *Snapshot) listener(name string) int {
	for i, l := range s.Listeners { // a handful; a map would hash the name
		if l.Name == name {
			return i
		}
	}
	return -1
}

// timeout returns what bounds an exchange, 0 for nothing.
func (r *Route) timeout() time.Duration {
	switch {
	case r.Timeout < 0:
		return 0
	case r.Timeout == 0:
		return DefaultTimeout
	default:
		return r.Timeout
	}
}
