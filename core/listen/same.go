package listen

import (
	"context"
	"net"
	"path/filepath"
	"strconv"
	"strings"
)

// Same reports whether address, as in Options.Address, means the socket that is
// bound to bound: "localhost:80" and "127.0.0.1:80", ":80" and "[::]:80". Names
// are looked up. Port 0 is never the same: it asks for another one.
func Same(ctx context.Context, address string, bound net.Addr) bool {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		b, isUnix := bound.(*net.UnixAddr)
		if !isUnix {
			return false
		}
		one, err := filepath.Abs(path)
		other, err2 := filepath.Abs(b.Name)
		return err == nil && err2 == nil && one == other
	}
	b, ok := bound.(*net.TCPAddr)
	host, port, err := net.SplitHostPort(address)
	if !ok || err != nil || port != strconv.Itoa(b.Port) {
		return false // no need to look up the name
	}
	return sameIP(lookUp(ctx, host), b.IP)
}

// lookUp returns the address that net.Listen would take for host; nil: all.
func lookUp(ctx context.Context, host string) net.IP {
	if host == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookUpTime)
	defer cancel()
	found, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil || len(found) == 0 {
		return net.IP{} // like no other; binding will say what is wrong
	}
	for _, a := range found {
		if a.IP.To4() != nil {
			return a.IP
		}
	}
	return found[0].IP
}

// sameIP takes all ways to say "every address" for one, as net.Listen does.
func sameIP(a, b net.IP) bool {
	every := func(ip net.IP) bool { return ip == nil || len(ip) > 0 && ip.IsUnspecified() }
	if every(a) || every(b) {
		return every(a) && every(b)
	}
	return a.Equal(b)
}
