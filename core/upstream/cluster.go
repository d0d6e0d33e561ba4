// Package upstream holds what requests are sent to: an [Endpoint] is one
// server, a [Cluster] is a named, immutable set of them. Everything that
// changes is a counter. It knows no connection, no protocol and no request.
package upstream

import (
	"errors"
	"fmt"
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
// but Live and Budget is immutable.
type Cluster struct {
	// Immutable.
	Name      string
	Endpoints []*Endpoint // at least one
	Host      HostMode
	HostName  string // with HostName

	// Live counts exchanges on the whole cluster.
	Live Live
	// Budget bounds the retries of everybody who uses the cluster.
	Budget Budget
}

// NewCluster checks and makes a cluster. host is "" (the client's authority),
// "server", or the authority to send.
func NewCluster(name string, endpoints []*Endpoint, host string) (*Cluster, error) {
	if len(endpoints) == 0 {
		return nil, errors.New("upstream has no servers")
	}
	seen := make(map[string]bool, len(endpoints))
	for _, e := range endpoints {
		if seen[e.Name] {
			return nil, fmt.Errorf("server %q is named twice; use weight", e.Name)
		}
		seen[e.Name] = true
	}
	c := &Cluster{Name: name, Endpoints: endpoints}
	c.Budget.at = time.Now()
	switch host {
	case "":
	case "server":
		c.Host = HostServer
	default:
		c.Host, c.HostName = HostName, host
	}
	return c, nil
}

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
