package main

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"

	"wproxy/core/config"
)

// A recordedLine is what of a line of the access log it takes to send a request again.
type recordedLine struct {
	Listener string `json:"listener"`
	Method   string `json:"method"`
	Host     string `json:"host"`
	Path     string `json:"path"`
}

// plainHost is a host that may stand in a URL as it is.
var plainHost = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)

// plainWord is a word that no shell looks into.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+=,-]+$`)

// plainMethod is a method (RFC 9110 5.6.2).
var plainMethod = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

// curl returns a command for a POSIX shell that sends the request again to the listener it
// came to: method, host and target only. Whatever the client has sent cannot become
// another command, another option, or another header.
func (r *recordedLine) curl(listeners []ListenerStatus, f *config.File) string {
	args := []string{"curl", "-i", "-g", "--path-as-is"}
	switch {
	case r.Method == "HEAD":
		args = append(args, "-I")
	case r.Method != "GET" && plainMethod.MatchString(r.Method):
		args = append(args, "-X", r.Method)
	}
	scheme, address := "http", "127.0.0.1"
	for _, l := range listeners {
		if l.Name == r.Listener {
			address = l.Address
		}
	}
	if l := f.Listeners[r.Listener]; l != nil && l.TLS != nil {
		scheme = "https"
	}
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		args = append(args, "--unix-socket", path)
		address = "localhost"
	}
	address = reachableAddress(address)
	target := urlText(r.Path)
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	switch {
	case scheme == "https" && plainHost.MatchString(r.Host): // the name is for the handshake, too
		args = append(args, "--connect-to", "::"+address, scheme+"://"+r.Host+target)
	default:
		if plainHost.MatchString(r.Host) {
			args = append(args, "-H", "host: "+r.Host)
		}
		args = append(args, scheme+"://"+address+target)
	}
	for i, a := range args {
		args[i] = shellQuote(a)
	}
	return strings.Join(args, " ")
}

// reachableAddress returns where to connect for a listener at address.
func reachableAddress(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "" || err == nil && ip.IsUnspecified() && ip.Is4():
		host = "127.0.0.1"
	case err == nil && ip.IsUnspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}

// urlText returns target with everything escaped that is not printable ASCII: what a
// refused request had for a target can be anything.
func urlText(target string) string {
	var b strings.Builder
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c >= 0x7f {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// shellQuote returns s as one word of a POSIX shell (XCU 2.2.2).
func shellQuote(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
