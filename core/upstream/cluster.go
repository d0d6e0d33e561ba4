// Package upstream holds what requests are sent to: an [Endpoint] is one
// server, a [Cluster] is a named, immutable set of them. Everything that
// changes is a counter. It knows no connection, no protocol and no request.
package upstream

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// HostMode says which authority the servers of a cluster are sent.
type HostMode uint8

const (
	// HostClient is the authority that the client sent.
	HostClient HostMode = iota
	// HostServer is the address of the server that was picked.
	HostServer
	// HostName is Cluster.HostName.
	HostName
)

// A Cluster is a named set of servers that can stand in for each other. All
// but Live, Budget and the panic mode is immutable.
type Cluster struct {
	// Immutable.
	Name      string
	Endpoints []*Endpoint // at least one
	Host      HostMode
	HostName  string // with HostName

	changes *Changes // of the endpoints and of panic
	panic   atomic.Bool

	// Live counts exchanges on the whole cluster.
	// Clusters made by With and Empty share it. It is not nil.
	Live *Live
	// Budget bounds the retries of everybody who uses the cluster, or one made from it.
	Budget *Budget
}

// NewCluster checks and makes a cluster. Endpoints may be those of an older cluster
// of the same upstream, together with new ones. host is "" (the client's authority),
// "server", or the authority to send.
func NewCluster(name string, endpoints []*Endpoint, host string) (*Cluster, error) {
	if len(endpoints) == 0 {
		return nil, errors.New("upstream has no servers")
	}
	c := NewEmpty(name, host)
	if err := c.fill(endpoints); err != nil {
		return nil, err
	}
	return c, nil
}

// NewEmpty makes a cluster without servers: one whose servers are still to be found.
func NewEmpty(name, host string) *Cluster {
	return (&Cluster{Name: name, Live: &Live{}, Budget: &Budget{at: time.Now()}}).Empty(host)
}

// Empty returns a cluster without servers that is another configuration of c's
// upstream: it has the same live counters and budget.
func (c *Cluster) Empty(host string) *Cluster {
	c = &Cluster{Name: c.Name, changes: &Changes{}, Live: c.Live, Budget: c.Budget}
	switch host {
	case "":
	case "server":
		c.Host = HostServer
	default:
		c.Host, c.HostName = HostName, host
	}
	return c
}

// With returns what c is with another set of servers, which may be empty: another
// cluster of the same name, with the same live counters and budget. c goes on serving who holds it.
func (c *Cluster) With(endpoints []*Endpoint) (*Cluster, error) {
	next := &Cluster{Name: c.Name, Host: c.Host, HostName: c.HostName, changes: &Changes{}, Live: c.Live, Budget: c.Budget}
	if err := next.fill(endpoints); err != nil {
		return nil, err
	}
	return next, nil
}

// fill sets the endpoints of a new cluster.
func (c *Cluster) fill(endpoints []*Endpoint) error {
	if len(endpoints) == 0 {
		return nil
	}
	seen := make(map[string]bool, len(endpoints))
	for _, e := range endpoints {
		if seen[e.Name] {
			return fmt.Errorf("server %q is named twice; use weight", e.Name)
		}
		seen[e.Name] = true
	}
	changes, err := join(endpoints)
	if err != nil {
		return err
	}
	c.Endpoints, c.changes = endpoints, changes
	return nil
}

// join makes endpoints share one count of changes. Those that were in a cluster
// before (the set of an upstream changes, its servers mostly stay) bring theirs, which
// the new ones get; that the older cluster's pickers then look once too often is no harm.
func join(endpoints []*Endpoint) (*Changes, error) {
	var shared *Changes
	for _, e := range endpoints {
		c := e.changes.Load()
		if c != nil && shared != nil && c != shared {
			return nil, fmt.Errorf("server %q is one of another upstream", e.Name)
		}
		if c != nil {
			shared = c
		}
	}
	if shared == nil {
		shared = &Changes{}
	}
	for _, e := range endpoints {
		e.changes.Store(shared)
	}
	return shared, nil
}

// Join makes e count its changes in c, with others that may come to be of one cluster
// with it. Call it before e is of any.
func (e *Endpoint) Join(c *Changes) { e.changes.Store(c) }

// Changes counts changes of what Available says of c's endpoints, and of SetPanic.
func (c *Cluster) Changes() *Changes { return c.changes }

// SetPanic says whether too few endpoints are up for the others to be left
// out: all that are not draining are then given requests. It is that way without
// being said when none is up. It reports whether that is a change.
func (c *Cluster) SetPanic(on bool) (changed bool) {
	if c.panic.Swap(on) == on {
		return false
	}
	c.changes.bump()
	return true
}

// Panic returns what SetPanic was last told.
func (c *Cluster) Panic() bool { return c.panic.Load() }

// Authority returns what e is sent as authority for a request that came with
// the authority client.
func (c *Cluster) Authority(e *Endpoint, client string) string {
	switch c.Host {
	case HostServer:
		return e.Host
	case HostName:
		return c.HostName
	default:
		if client == "" { // HTTP/1.0 without Host
			return e.Host
		}
		return client
	}
}
