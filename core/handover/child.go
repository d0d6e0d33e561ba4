package handover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Given is a socket that is handed over.
type Given struct {
	Socket
	File *os.File // stays the caller's
}

// Options of Start.
type Options struct {
	Binary  string   // path of the program
	Args    []string // its arguments, without its name
	Sockets []Given
	Version string // of the old process
	State   []byte // sealed: what the new process begins with

	// Rest returns the sealed rest of the state. It is called when the new process has
	// prepared all else.
	Rest func() ([]byte, error)
}

// A Child is the new process as the old one sees it.
type Child struct {
	PID int

	o     Options
	cmd   *exec.Cmd
	conn  net.Conn
	ended chan struct{} // closed when the process has ended
}

// Start starts the new process. Whoever has a Child calls Serving once, and Stop if it fails.
func Start(o Options) (*Child, error) {
	ours, theirs, err := pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	c := &Child{o: o, conn: ours, ended: make(chan struct{})}
	c.cmd = exec.Command(o.Binary, o.Args...)
	c.cmd.Stdout, c.cmd.Stderr = os.Stdout, os.Stderr
	names := make([]string, 0, len(o.Sockets)+1)
	for _, s := range o.Sockets {
		f, err := plain(s.File)
		if err != nil {
			_ = ours.Close()
			return nil, err
		}
		defer f.Close() // the new process has a copy
		c.cmd.ExtraFiles = append(c.cmd.ExtraFiles, f)
		names = append(names, fdName(s.Name))
	}
	c.cmd.ExtraFiles = append(c.cmd.ExtraFiles, theirs)
	names = append(names, "upgrade")
	c.cmd.Env = append(environ(),
		envParent+"="+strconv.Itoa(os.Getpid()),
		"LISTEN_FDS="+strconv.Itoa(len(names)),
		"LISTEN_FDNAMES="+strings.Join(names, ":"))
	if err := c.cmd.Start(); err != nil {
		_ = ours.Close()
		return nil, err
	}
	c.PID = c.cmd.Process.Pid
	go func() { // ends with the process, or with this one
		_ = c.cmd.Wait() // Serving looks at the state
		close(c.ended)
	}()
	return c, nil
}

// plain returns a copy of a socket for os/exec. That calls Fd, which makes the file of a
// socket a blocking one, and with it the socket in which this process accepts: a copy that
// package net has not made is left as it is.
func plain(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	n := 0
	if bad := raw.Control(func(fd uintptr) {
		n, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
	}); bad != nil {
		return nil, bad
	}
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(n), f.Name()), nil //nolint:gosec // not negative
}

// environ is this process's environment, without what is about this process alone.
func environ() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case envParent, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID":
			return true
		}
		return false
	})
}

// pair returns the two ends of a conversation.
func pair() (ours net.Conn, theirs *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	one := os.NewFile(uintptr(fds[0]), "upgrade")   //nolint:gosec // not negative
	theirs = os.NewFile(uintptr(fds[1]), "upgrade") //nolint:gosec // as above
	defer one.Close()
	if ours, err = net.FileConn(one); err != nil {
		_ = theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// Serving talks with the new process until it serves, which is the result, or fails to,
// which is the error, or ctx is done.
func (c *Child) Serving(ctx context.Context) (*Serving, error) {
	defer c.conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	s, err := c.talk()
	if err == nil {
		return s, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return nil, c.why(ctx)
	}
	return nil, err
}

func (c *Child) talk() (*Serving, error) {
	sockets := make([]Socket, 0, len(c.o.Sockets))
	for _, s := range c.o.Sockets {
		sockets = append(sockets, s.Socket)
	}
	hello, err := json.Marshal(Hello{Protocol: protocol, PID: os.Getpid(), Version: c.o.Version, Sockets: sockets})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(writeFrame(c.conn, frameHello, hello), writeFrame(c.conn, frameState, c.o.State)); err != nil {
		return nil, c.failure(err)
	}
	for {
		kind, payload, err := readFrame(c.conn)
		if err != nil {
			return nil, err
		}
		switch kind {
		case framePrepared:
			rest, err := c.o.Rest()
			if err != nil {
				return nil, err
			}
			if err := writeFrame(c.conn, frameRest, rest); err != nil {
				return nil, c.failure(err)
			}
		case frameServing:
			var s Serving
			if err := json.Unmarshal(payload, &s); err != nil {
				return nil, fmt.Errorf("what it says cannot be read: %w", err)
			}
			return &s, nil
		case frameFailed:
			return nil, fmt.Errorf("%s", strings.TrimSpace(string(payload)))
		default: // a newer version has more to say
		}
	}
}

// failure returns what the new process has said before it hung up, or err.
func (c *Child) failure(err error) error {
	if kind, payload, e := readFrame(c.conn); e == nil && kind == frameFailed {
		return fmt.Errorf("%s", strings.TrimSpace(string(payload)))
	}
	return err
}

// why returns how the process has ended that has hung up without a word.
func (c *Child) why(ctx context.Context) error {
	select {
	case <-c.ended:
		return fmt.Errorf("the new process (pid %d) has ended before it served: %s", c.PID, c.cmd.ProcessState)
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Second):
		return fmt.Errorf("the new process (pid %d) has hung up: it is no wproxy that takes over", c.PID)
	}
}

// Wait returns when the process has ended, and how.
func (c *Child) Wait() (state string) {
	<-c.ended
	return c.cmd.ProcessState.String()
}

// Stop kills the process, and returns when it has ended.
func (c *Child) Stop() {
	_ = c.cmd.Process.Kill() // it may have ended
	<-c.ended
}
