package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// errNotSocket is returned by ListenUnix for a path that holds something else.
var errNotSocket = errors.New("exists and is not a socket")

// ListenUnix binds the unix socket path with mode 0600. A socket file that
// nobody listens on any more is replaced; one that is in use is an error.
func ListenUnix(ctx context.Context, path string) (net.Listener, error) {
	if fi, err := os.Lstat(path); err == nil {
		if fi.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("admin socket %s: %w", path, errNotSocket)
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", path)
		switch {
		case err == nil:
			_ = c.Close() // it only had to answer
			return nil, fmt.Errorf("admin socket %s: %w (is wproxy running with this configuration already?)", path, syscall.EADDRINUSE)
		case errors.Is(err, syscall.ECONNREFUSED):
			_ = os.Remove(path) // if it cannot be removed, Listen says so
		}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	// Between these two lines sameUser keeps strangers out.
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close() // it was not used yet
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	return l, nil
}
