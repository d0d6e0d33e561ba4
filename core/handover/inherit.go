package handover

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// envParent has the number of the process that hands over, for the one that it has started;
// whoever else finds it in its environment is not meant. The last descriptor is then the
// conversation between the two.
const envParent = "WPROXY_UPGRADE"

// A Same reports whether address, as it is configured, means the socket that is bound to
// bound. It may look up a name.
type Same func(ctx context.Context, address string, bound net.Addr) bool

// Inherited are the listening sockets that a process was started with. Its methods are safe
// for concurrent use; those of nil have nothing.
type Inherited struct {
	mu      sync.Mutex
	sockets []*inherited // guarded by mu
}

// An inherited is one of them.
type inherited struct {
	Socket
	file *os.File
	addr net.Addr
	used bool
	bad  error // why nobody can listen on it
}

// A Socket says what a socket was in the process that hands it over.
type Socket struct {
	// Name is the name of its listener, or what its service manager calls it
	// (FileDescriptorName=).
	Name string `json:"name"`
	// Address is what it was configured as, "host:port" or "unix:/path"; "": it comes from a
	// service manager, and was not used yet.
	Address string `json:"address,omitempty"`
	// Manager tells that it is a service manager's: it is kept for as long as the process
	// lives, since nobody else could bind it again, and its file is not ours to remove.
	Manager bool `json:"manager,omitempty"`
}

// Receive takes what the process was started with, once, and clears the environment of it.
// The Parent is nil unless another wproxy has started this one to take over from it; it then
// has said hello.
func Receive() (*Inherited, *Parent, error) {
	parent := os.Getenv(envParent)
	_ = os.Unsetenv(envParent) // cannot fail, as below
	upgrade := parent != "" && parent == strconv.Itoa(os.Getppid())
	if upgrade {
		// It could not know our number when it made our environment.
		_ = os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
	if n, err := strconv.Atoi(os.Getenv("LISTEN_FDS")); err == nil && n > maxSockets {
		return nil, nil, fmt.Errorf("LISTEN_FDS: %d descriptors: want at most %d", n, maxSockets)
	}
	files := activation.Files(true)
	if !upgrade {
		all := &Inherited{}
		for _, f := range files {
			all.add(Socket{Name: f.Name(), Manager: true}, f)
		}
		return all, nil, nil
	}
	if len(files) == 0 {
		return nil, nil, fmt.Errorf("%s: there is no conversation with process %s", envParent, parent)
	}
	return newParent(files[:len(files)-1], files[len(files)-1])
}

// add takes a file that was inherited.
func (in *Inherited) add(s Socket, f *os.File) {
	i := &inherited{Socket: s, file: f}
	i.addr, i.bad = listens(f)
	in.sockets = append(in.sockets, i)
}

// listens returns the address of a listening stream socket.
func listens(f *os.File) (net.Addr, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	accepts := 0
	if bad := raw.Control(func(fd uintptr) {
		accepts, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN) //nolint:gosec // a descriptor is small
	}); bad != nil {
		return nil, bad
	}
	if err != nil || accepts == 0 {
		return nil, errNotListening
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, errNotListening
	}
	defer l.Close() // a copy
	return l.Addr(), nil
}

var errNotListening = fmt.Errorf("it is no listening stream socket: want ListenStream= and Accept=no")

// Take returns a listener on the socket for what is called name and configured as address,
// if there is one: the one that had both in the process before, the one that a service
// manager calls so, or the one that is bound to address. manager tells that it is a service
// manager's.
func (in *Inherited) Take(ctx context.Context, same Same, name, address string) (l net.Listener, manager, ok bool) {
	if in == nil {
		return nil, false, false
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, match := range []func(*inherited) bool{
		func(s *inherited) bool { return s.Address == address && s.Name == name },
		func(s *inherited) bool { return s.Address == "" && s.Manager && s.Name == name },
		func(s *inherited) bool { return same(ctx, address, s.addr) },
	} {
		for _, s := range in.sockets {
			if s.bad != nil || s.used && !s.Manager || !match(s) {
				continue
			}
			l, err := net.FileListener(s.file)
			if err != nil {
				s.bad = err
				continue
			}
			s.used = true
			if !s.Manager {
				_ = s.file.Close() // l has a copy
			}
			return l, s.Manager, true
		}
	}
	return nil, false, false
}

// Addresses returns the addresses that sockets had in the process before.
func (in *Inherited) Addresses() (all []string) {
	if in == nil {
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, s := range in.sockets {
		all = append(all, s.Address)
	}
	return all
}

// Unused describes the service manager's sockets that nothing has taken, one each. They are
// kept: a later configuration may want them, or the next process.
func (in *Inherited) Unused() []string {
	return in.unused(func(s *inherited) bool { return s.Manager })
}

// CloseUnused closes the other sockets that nothing has taken, and describes them.
func (in *Inherited) CloseUnused() []string {
	return in.unused(func(s *inherited) bool {
		if s.Manager {
			return false
		}
		s.used = true
		_ = s.file.Close() // nobody is let in
		return true
	})
}

func (in *Inherited) unused(which func(*inherited) bool) (all []string) {
	if in == nil {
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, s := range in.sockets {
		if s.used || !which(s) {
			continue
		}
		text := s.Name
		switch {
		case s.bad != nil:
			text += ": " + s.bad.Error()
		case s.addr != nil:
			text += " (" + s.addr.String() + ")"
		}
		all = append(all, text)
	}
	return all
}

// Spare returns the service manager's sockets that are not among given, for the next process:
// also those that something has used, and does not any more. The files stay the Inherited's.
func (in *Inherited) Spare(given []Given) (all []Given) {
	if in == nil {
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	goes := map[socketID]bool{}
	for _, g := range given {
		goes[idOf(g.File)] = true
	}
	for _, s := range in.sockets {
		if s.Manager && !goes[idOf(s.file)] {
			all = append(all, Given{Socket: s.Socket, File: s.file})
		}
	}
	return all
}

// A socketID tells whether two descriptors are of one socket.
type socketID struct{ dev, ino uint64 }

// idOf returns zero for what has none.
func idOf(f *os.File) (id socketID) {
	raw, err := f.SyscallConn()
	if err != nil {
		return id
	}
	_ = raw.Control(func(fd uintptr) { // as above
		var st unix.Stat_t
		if unix.Fstat(int(fd), &st) == nil { //nolint:gosec // a descriptor is small
			id = socketID{uint64(st.Dev), st.Ino} //nolint:unconvert // 32 bits elsewhere
		}
	})
	return id
}

// Close closes what nobody has taken.
func (in *Inherited) Close() {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, s := range in.sockets {
		_ = s.file.Close() // if it was not closed already
	}
	in.sockets = nil
}

// fdName makes a name for LISTEN_FDNAMES of one, in which ":" separates.
func fdName(name string) string {
	if name == "" {
		return "unknown"
	}
	return strings.ReplaceAll(name, ":", "_")
}
