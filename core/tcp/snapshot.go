package tcp

import (
	"net/netip"
	"sync/atomic"
	"time"

	"wproxy/core/access"
	"wproxy/core/balance"
	"wproxy/core/filter"
	"wproxy/core/internal/refs"
	"wproxy/core/metrics"
	"wproxy/core/pool"
	"wproxy/core/route"
	"wproxy/core/upstream"
)

// A Snapshot is what a configuration says about TCP. It is filled by its maker and immutable
// from the moment that [New] or [Proxy.Swap] has seen it. The zero value has no routes.
type Snapshot struct {
	// Table finds routes by listener and name; nil: there are none. Paths, methods and
	// fields mean nothing here.
	Table     *route.Table[*Route]
	Routes    map[string]*Route    // by name; what Table has
	Listeners map[string]*Listener // by name; those with TCP
	Access    *access.Logger       // nil: no access log
	Grace     time.Duration        // how long a connection goes on whose route is not the same in this snapshot

	refs refs.Count // connections on it, and one while it serves
}

// A Listener is what the engine must know of a door.
type Listener struct {
	Names     bool          // a route of it is for names: the ClientHello is looked at
	HelloTime time.Duration // for a ClientHello to arrive; 0: DefaultHelloTime
}

// A Mark tells whether a reload has touched a route. It is a hash of settings.
type Mark [32]byte

// A Route says what to do with a connection.
type Route struct {
	Name    string
	Info    filter.Route // what filters may know of it
	Metrics *metrics.TCPRoute
	Filters []filter.TCPFactory // `use`, in order

	// Mark and Parts are as in proxy.Route.
	Mark, Parts Mark

	Split    []Target
	ByClient bool // keeps the connections of a client on one side of Split

	Allow, Deny []netip.Prefix // client addresses; no Allow: all; Deny wins
	Idle        time.Duration  // 0: DefaultIdle, negative: for ever
	Timeout     time.Duration  // of a whole connection; 0: none
	Retries     int            // further servers that are tried if one cannot be connected to
	Budget      int            // most of these tries, in percent of the upstream's connections; 0 or less: none at all
	BudgetMin   float64        // a second that are allowed however few connections there are
	Max         int            // connections at a time; 0: any number
	Open        *Count         // counts them, for all snapshots. Required
}

// A Count counts the open connections of a route. It is shared by all snapshots that have a
// route of this name.
type Count struct{ n atomic.Int64 }

// N returns the count.
func (c *Count) N() int64 { return c.n.Load() }

// A Target is one upstream of a route and its share.
type Target struct {
	Upstream *Upstream
	Weight   int // 0 or less: none
}

// An Upstream is where connections go. It is immutable, but for what Servers returns.
type Upstream struct {
	Name string

	// Servers returns the servers as they are now: they may be found while wproxy runs. A
	// connection asks once.
	Servers func() Servers

	// Pool makes the connections, and bounds them; what its Dial returns is made by
	// [NewConn].
	Pool     *pool.Pool
	ByClient bool // the client's address is the key of the picker
	Metrics  *metrics.Upstream
}

// Servers are the servers of an upstream with what chooses one.
type Servers struct {
	Cluster *upstream.Cluster
	Picker  balance.Picker
}

// Drained returns a channel that is closed when the snapshot has been swapped out and its
// last connection is over. It is nil before New or Swap has seen s.
func (s *Snapshot) Drained() <-chan struct{} { return s.refs.Drained() }

// match returns the route of a connection; nil: there is none.
func (s *Snapshot) match(listener, name string) *Route {
	if s.Table == nil {
		return nil
	}
	r, _ := s.Table.Match(&route.Request{Host: name, Path: "/", Listener: listener})
	return r
}

// Allows reports whether a client may use r.
func (r *Route) Allows(a netip.Addr) bool {
	a = a.Unmap()
	for _, p := range r.Deny {
		if p.Contains(a) {
			return false
		}
	}
	for _, p := range r.Allow {
		if p.Contains(a) {
			return true
		}
	}
	return len(r.Allow) == 0
}

// idle returns how long a connection of r may rest; 0: for ever.
func (r *Route) idle() time.Duration {
	switch {
	case r.Idle < 0:
		return 0
	case r.Idle == 0:
		return DefaultIdle
	default:
		return r.Idle
	}
}
