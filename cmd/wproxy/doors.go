package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"wproxy/core/admin"
	"wproxy/core/config"
	"wproxy/core/handover"
	"wproxy/core/listen"
)

// adminDoors opens and shuts the doors of the admin server as the
// configuration says. One change is made at a time; addressList may be called
// meanwhile, by who comes through a door that has just been opened.
type adminDoors struct {
	server    *admin.Server
	source    source
	inherited *handover.Inherited   // where sockets may be that are bound already
	foreign   map[net.Listener]bool // those that are not bound by us, true: a service manager's

	mu   sync.Mutex
	open map[string]net.Listener // by address: "host:port" or "unix:/path"; changed with mu held
}

// A doorChange is a set of doors that is bound but not yet in use.
type doorChange struct {
	owner *adminDoors
	doors []changedDoor
	shut  []string // addresses
}

type changedDoor struct {
	admin.Door
	address string
	bound   bool // by this change
}

// prepare binds what c asks for and is not open yet.
func (a *adminDoors) prepare(ctx context.Context, c config.Admin) (*doorChange, error) {
	ch := &doorChange{owner: a}
	addresses, err := a.addresses(c)
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, address := range addresses {
		wanted[address] = true
		l := a.open[address]
		bound := l == nil
		if bound {
			if l, err = a.bind(ctx, address); err != nil {
				ch.giveUp()
				return nil, err
			}
		}
		d := admin.Door{Listener: l, Private: strings.HasPrefix(address, "unix:"), Write: c.Write, Token: c.Token.Reveal(), Page: c.Page}
		if host, _, err := net.SplitHostPort(address); err == nil {
			d.Host = host
		}
		ch.doors = append(ch.doors, changedDoor{d, address, bound})
	}
	for address := range a.open {
		if !wanted[address] {
			ch.shut = append(ch.shut, address)
		}
	}
	return ch, nil
}

// addresses lists where c wants doors: its own, and the commands' socket in
// the runtime directory unless it names one.
func (a *adminDoors) addresses(c config.Admin) ([]string, error) {
	var all []string
	for _, address := range c.Address {
		if address != "none" {
			all = append(all, address)
		}
	}
	if unixAddress(all) != "" {
		return all, nil
	}
	for _, address := range append(slices.Collect(maps.Keys(a.open)), a.inherited.Addresses()...) { // stay where we are, whatever has become of the directories
		if strings.HasPrefix(address, "unix:") && strings.HasSuffix(address, "/"+a.source.socketName()) {
			return append(all, address), nil
		}
	}
	path, err := a.source.serverSocket(all)
	if err != nil {
		return nil, err
	}
	return append(all, "unix:"+path), nil
}

// adminSocket is what a door's socket is called when it is handed over; no listener can be.
const adminSocket = "admin:"

// bind returns the socket of a door, which may be inherited.
func (a *adminDoors) bind(ctx context.Context, address string) (net.Listener, error) {
	if l, manager, ok := a.inherited.Take(ctx, listen.Same, adminSocket+address, address); ok {
		a.foreign[l] = manager
		return l, nil
	}
	return bindAdmin(ctx, address)
}

// sockets returns copies of the sockets of all doors.
func (a *adminDoors) sockets() (all []handover.Given, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for address, l := range a.open {
		f, ok := l.(interface{ File() (*os.File, error) })
		if !ok {
			continue // none of ours
		}
		file, err := f.File()
		if err != nil {
			for _, g := range all {
				_ = g.File.Close() // a copy
			}
			return nil, fmt.Errorf("admin: %s: %w", address, err)
		}
		all = append(all, handover.Given{Socket: handover.Socket{Name: adminSocket + address, Address: address, Manager: a.foreign[l]}, File: file})
	}
	return all, nil
}

// leave leaves the files of unix sockets to another process.
func (a *adminDoors) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.open {
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
	}
}

func bindAdmin(ctx context.Context, address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return admin.ListenUnix(ctx, path)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		if oe, ok := errors.AsType[*net.OpError](err); ok {
			err = oe.Err
		}
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("admin: cannot listen on %s: %w: a wproxy seems to run already; another one needs an `[admin] address` of its own", address, err)
		}
		return nil, fmt.Errorf("admin: cannot listen on %s: %w", address, err)
	}
	return l, nil
}

// giveUp closes what was bound.
func (ch *doorChange) giveUp() {
	for _, d := range ch.doors {
		if d.bound {
			_ = d.Listener.Close() // nobody was let in
		}
	}
}

// commit puts the change into use.
func (ch *doorChange) commit() {
	a := ch.owner
	var shut []net.Listener
	a.mu.Lock()
	for _, d := range ch.doors {
		a.open[d.address] = d.Listener
		if u, ok := d.Listener.(*net.UnixListener); ok && !a.foreign[u] {
			u.SetUnlinkOnClose(true) // also of one that was inherited: it is ours now
		}
	}
	for _, address := range ch.shut {
		shut = append(shut, a.open[address])
		delete(a.foreign, a.open[address])
		delete(a.open, address)
	}
	a.mu.Unlock()
	for _, d := range ch.doors {
		if d.bound {
			a.server.Open(d.Door)
		} else {
			a.server.Change(d.Door)
		}
	}
	for _, l := range shut {
		a.server.Shut(l)
	}
}

// addressList returns the addresses of the doors that are open, sorted.
func (a *adminDoors) addressList() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make([]string, 0, len(a.open))
	for address, l := range a.open {
		if !strings.HasPrefix(address, "unix:") {
			address = l.Addr().String()
		}
		all = append(all, address)
	}
	slices.Sort(all)
	return all
}
