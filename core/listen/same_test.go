package listen_test

import (
	"net"
	"testing"

	"wproxy/core/listen"
)

func TestSame(t *testing.T) {
	tcp := func(ip string, port int) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: port} }
	unix := &net.UnixAddr{Name: "/tmp/x/a.sock"}
	for _, tt := range []struct {
		address string
		bound   net.Addr
		want    bool
	}{
		{"127.0.0.1:80", tcp("127.0.0.1", 80), true},
		{"localhost:80", tcp("127.0.0.1", 80), true},
		{"localhost:81", tcp("127.0.0.1", 80), false},
		{"127.0.0.2:80", tcp("127.0.0.1", 80), false},
		{"127.0.0.1:0", tcp("127.0.0.1", 80), false},
		{"[0:0:0:0:0:0:0:1]:80", tcp("::1", 80), true},
		{":80", tcp("::", 80), true},
		{"0.0.0.0:80", tcp("::", 80), true},
		{"[::]:80", tcp("0.0.0.0", 80), true},
		{"127.0.0.1:80", tcp("::", 80), false},
		{":80", tcp("127.0.0.1", 80), false},
		{"no such name.invalid:80", tcp("::", 80), false},
		{"nonsense", tcp("::", 80), false},
		{"unix:/tmp/x/a.sock", unix, true},
		{"unix:/tmp/./x//a.sock", unix, true},
		{"unix:/tmp/x/b.sock", unix, false},
		{"127.0.0.1:80", unix, false},
		{"unix:/tmp/x/a.sock", tcp("::", 80), false},
	} {
		if got := listen.Same(t.Context(), tt.address, tt.bound); got != tt.want {
			t.Errorf("Same(%q, %v) is %v", tt.address, tt.bound, got)
		}
	}
}
