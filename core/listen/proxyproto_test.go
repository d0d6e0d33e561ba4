package listen

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"wproxy/core/exchange"
)

// v2 makes a header of version 2.
func v2(command, family byte, addresses string, tlvs ...string) string {
	rest := addresses + strings.Join(tlvs, "")
	size := binary.BigEndian.AppendUint16(nil, uint16(len(rest)))
	return signature2 + string([]byte{0x20 | command, family}) + string(size) + rest
}

// tlv makes one of its TLVs.
func tlv(kind byte, value string) string {
	return string(append([]byte{kind}, binary.BigEndian.AppendUint16(nil, uint16(len(value)))...)) + value
}

// summed fills in the checksum of a header, whose last TLV it is.
func summed(h string) string {
	b := []byte(h)
	sum := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	return string(binary.BigEndian.AppendUint32(b[:len(b)-4], sum))
}

const (
	v4Addresses = "\xcb\x00\x71\x09\xc0\x00\x02\x01\xdc\x04\x01\xbb" // 203.0.113.9:56324, 192.0.2.1:443
	v6Addresses = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x09" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\xdc\x04\x01\xbb"
)

var goodHeaders = []struct {
	name, header     string
	from, to, server string // of the facts; "": as they were
	tls              bool
}{
	{name: "v1 IPv4", header: "PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\r\n", from: "203.0.113.9:56324", to: "192.0.2.1:443"},
	{name: "v1 shortest", header: "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", from: "1.2.3.4:1", to: "5.6.7.8:2"},
	{name: "v1 IPv6", header: "PROXY TCP6 2001:db8::9 2001:db8::1 56324 443\r\n", from: "[2001:db8::9]:56324", to: "[2001:db8::1]:443"},
	{name: "v1 shortest IPv6", header: "PROXY TCP6 :: :: 0 0\r\n", from: "[::]:0", to: "[::]:0"},
	{
		name: "v1 longest", header: "PROXY TCP6 2001:0db8:ffff:ffff:ffff:ffff:ffff:ff09 2001:0db8:ffff:ffff:ffff:ffff:ffff:ff01 65535 65535\r\n",
		from: "[2001:db8:ffff:ffff:ffff:ffff:ffff:ff09]:65535", to: "[2001:db8:ffff:ffff:ffff:ffff:ffff:ff01]:65535",
	},
	{name: "v1 mapped", header: "PROXY TCP6 ::ffff:203.0.113.9 ::ffff:192.0.2.1 56324 443\r\n", from: "203.0.113.9:56324", to: "192.0.2.1:443"},
	{name: "v1 UNKNOWN", header: "PROXY UNKNOWN\r\n"},
	{name: "v1 UNKNOWN with more", header: "PROXY UNKNOWN ffff:f::1 ffff::1 65535 65535\r\n"},
	{name: "v1 UNKNOWN with anything", header: "PROXY UNKNOWN whatever this is\r\n"},
	{name: "v2 IPv4", header: v2(1, 0x11, v4Addresses), from: "203.0.113.9:56324", to: "192.0.2.1:443"},
	{name: "v2 IPv6", header: v2(1, 0x21, v6Addresses), from: "[2001:db8::9]:56324", to: "[2001:db8::1]:443"},
	{name: "v2 LOCAL", header: v2(0, 0, "")},
	{name: "v2 LOCAL with addresses", header: v2(0, 0x11, v4Addresses)},
	{name: "v2 LOCAL with anything", header: v2(0, 0, strings.Repeat("\x04\x00\x00", 100))},
	{name: "v2 of a unix socket", header: v2(1, 0x31, strings.Repeat("\x00", 216))},
	{name: "v2 of UDP", header: v2(1, 0x12, v4Addresses)},
	{
		name: "v2 authority and TLS", header: v2(1, 0x11, v4Addresses, tlv(2, "shop.example"), tlv(0x20, "\x01\x00\x00\x00\x00"+tlv(0x21, "TLSv1.3"))),
		from: "203.0.113.9:56324", to: "192.0.2.1:443", server: "shop.example", tls: true,
	},
	{name: "v2 not encrypted", header: v2(1, 0x11, v4Addresses, tlv(0x20, "\x00\x00\x00\x00\x00")), from: "203.0.113.9:56324", to: "192.0.2.1:443"},
	{name: "v2 TLS cut", header: v2(1, 0x11, v4Addresses, tlv(0x20, "\x01")), from: "203.0.113.9:56324", to: "192.0.2.1:443"},
	{name: "v2 authority with a line end", header: v2(1, 0x11, v4Addresses, tlv(2, "a\nb")), from: "203.0.113.9:56324", to: "192.0.2.1:443"},
	{name: "v2 authority too long", header: v2(1, 0x11, v4Addresses, tlv(2, strings.Repeat("a", 256))), from: "203.0.113.9:56324", to: "192.0.2.1:443"},
	{name: "v2 padded", header: v2(1, 0x11, v4Addresses, tlv(4, strings.Repeat("\x00", 1000)), tlv(0xe0, "custom")), from: "203.0.113.9:56324", to: "192.0.2.1:443"},
	{name: "v2 checksum", header: summed(v2(1, 0x11, v4Addresses, tlv(2, "a"), tlv(3, "\x00\x00\x00\x00"))), from: "203.0.113.9:56324", to: "192.0.2.1:443", server: "a"},
	{name: "v2 largest", header: v2(1, 0x11, v4Addresses, tlv(0xe0, strings.Repeat("x", maxProxyHeader-header2-12-3))), from: "203.0.113.9:56324", to: "192.0.2.1:443"},
}

// TestHeader: what is a header is read, and not a byte of what follows.
func TestHeader(t *testing.T) {
	const rest = "GET / HTTP/1.1\r\n\r\n"
	for _, tt := range goodHeaders {
		t.Run(tt.name, func(t *testing.T) {
			for name, reader := range map[string]func(io.Reader) io.Reader{
				"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader,
				"with an error at the end": iotest.DataErrReader,
			} {
				source := strings.NewReader(tt.header + rest)
				h, err := readHeader(reader(source))
				if err != nil || string(h) != tt.header {
					t.Fatalf("%s: got %q, %v", name, h, err)
				}
				if left, _ := io.ReadAll(source); name != "with an error at the end" && string(left) != rest {
					t.Errorf("%s: left %q", name, left)
				}
			}
			said, err := parseHeader([]byte(tt.header))
			if err != nil {
				t.Fatal(err)
			}
			want := func(got netip.AddrPort, text string) {
				if text == "" && got.IsValid() || text != "" && got != netip.MustParseAddrPort(text) {
					t.Errorf("got %v, want %q", got, text)
				}
			}
			want(said.from, tt.from)
			want(said.to, tt.to)
			if said.Authority != tt.server || said.TLS != tt.tls {
				t.Errorf("got %q, %v", said.Authority, said.TLS)
			}
		})
	}
}

var badHeaders = []struct{ name, header string }{
	{"HTTP", "GET / HTTP/1.1\r\nhost: a\r\n\r\n"},
	{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"},
	{"lower case", "proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n"},
	{"two blanks", "PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n"},
	{"blanks between", "PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n"},
	{"LF alone", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n"},
	{"empty line", "PROXY \r\nGET / HTTP/1.1\r\n\r\n"},
	{"too long", "PROXY UNKNOWN " + strings.Repeat("x", 100) + "\r\n"},
	{"no end", "PROXY TCP4 " + strings.Repeat("1", 1000)},
	{"UDP", "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n"},
	{"a name", "PROXY TCP4 localhost 5.6.7.8 1 2\r\n"},
	{"IPv6 for IPv4", "PROXY TCP4 ::1 ::1 1 2\r\n"},
	{"IPv4 for IPv6", "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n"},
	{"a zone", "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n"},
	{"port too large", "PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n"},
	{"port with a zero", "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n"},
	{"negative port", "PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n"},
	{"a field too many", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n"},
	{"a field too few", "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n"},
	{"version 1 in binary", strings.Replace(v2(1, 0x11, v4Addresses), "\x21\x11", "\x11\x11", 1)},
	{"version 3", strings.Replace(v2(1, 0x11, v4Addresses), "\x21\x11", "\x31\x11", 1)},
	{"unknown command", v2(2, 0x11, v4Addresses)},
	{"unknown family", v2(1, 0x41, v4Addresses)},
	{"unknown transport", v2(1, 0x13, v4Addresses)},
	{"without addresses", v2(1, 0x11, "")},
	{"half an address", v2(1, 0x11, v4Addresses[:6])},
	{"of nobody", v2(1, 0, "")},
	{"too large", v2(1, 0x11, v4Addresses, tlv(0xe0, strings.Repeat("x", maxProxyHeader)))},
	{"largest", v2(1, 0x11, v4Addresses, strings.Repeat("x", 1<<16-1-12))},
	{"TLV cut", v2(1, 0x11, v4Addresses, "\x02\x00\x09ab")},
	{"TLV without length", v2(1, 0x11, v4Addresses, "\x02")},
	{"wrong checksum", v2(1, 0x11, v4Addresses, tlv(3, "\x01\x02\x03\x04"))},
	{"short checksum", v2(1, 0x11, v4Addresses, tlv(3, "\x01"))},
}

// TestBadHeader: what is no header is refused as soon as it can be seen, without waiting for
// more.
func TestBadHeader(t *testing.T) {
	for _, tt := range badHeaders {
		t.Run(tt.name, func(t *testing.T) {
			h, err := readHeader(io.MultiReader(strings.NewReader(tt.header), hangs{t}))
			if err == nil {
				_, err = parseHeader(h)
			}
			if err == nil || errors.Is(err, errClosed) {
				t.Errorf("got %v", err)
			}
			if len(h) > maxProxyHeader {
				t.Errorf("%d bytes were read", len(h))
			}
		})
	}
}

// hangs is where a reader would have to wait.
type hangs struct{ t *testing.T }

func (h hangs) Read([]byte) (int, error) {
	h.t.Error("more is waited for")
	return 0, io.EOF
}

func FuzzProxyHeader(f *testing.F) {
	for _, tt := range goodHeaders {
		f.Add([]byte(tt.header+"rest"), uint8(3))
	}
	for _, tt := range badHeaders {
		f.Add([]byte(tt.header), uint8(1))
	}
	f.Fuzz(func(t *testing.T, data []byte, piece uint8) {
		hear := func(r io.Reader) (h []byte, said heard, err error) {
			if h, err = readHeader(r); err == nil {
				said, err = parseHeader(h)
			}
			return h, said, err
		}
		source, pieces := bytes.NewReader(data), bytes.NewReader(data)
		h, said, err := hear(source)
		read := len(data) - source.Len()
		if read > maxProxyHeader {
			t.Fatalf("%d bytes were read", read)
		}
		h2, said2, err2 := hear(&piecewise{pieces, int(piece)%16 + 1})
		if (err == nil) != (err2 == nil) || err == nil && (!bytes.Equal(h, h2) || said != said2) {
			t.Fatalf("at once %q, %v; in pieces %q, %v", h, err, h2, err2)
		}
		if err != nil {
			return
		}
		if !bytes.Equal(h, data[:read]) || pieces.Len() != source.Len() {
			t.Fatalf("%q, but %d bytes were read, and in pieces %d", h, read, len(data)-pieces.Len())
		}
		if said.from.IsValid() != said.to.IsValid() {
			t.Errorf("%q: one address: %v, %v", h, said.from, said.to)
		}
		if len(said.Authority) > maxAuthority || strings.ContainsAny(said.Authority, "\x00\r\n \x7f") {
			t.Errorf("authority %q", said.Authority)
		}
	})
}

type piecewise struct {
	r io.Reader
	n int
}

func (p *piecewise) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), p.n)]) }

// proxied is a listener whose connections begin with a header, what it has served, and
// what it has refused.
type proxied struct {
	*Listener
	facts   chan exchange.Conn
	refused chan string
	tooMany chan bool
}

func startProxied(t *testing.T, p ProxyProtocol, o Options) *proxied {
	t.Helper()
	l := &proxied{facts: make(chan exchange.Conn, 10), refused: make(chan string, 10), tooMany: make(chan bool, 10)}
	o.Serve = stays(func(ctx context.Context, c net.Conn, f *exchange.Conn) {
		l.facts <- *f
		echo(ctx, c, f)
	})
	o.Settings.Proxy = &p
	o.ProxyRefused = func(_ netip.AddrPort, err *ProxyError) { l.refused <- err.Reason }
	o.TooMany = func() { l.tooMany <- true }
	l.Listener = start(t, o)
	return l
}

func (l *proxied) send(t *testing.T, text string) net.Conn {
	t.Helper()
	c := dial(t, l.Listener)
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	return c
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// TestProxied: a connection is the client's that the header names.
func TestProxied(t *testing.T) {
	l := startProxied(t, ProxyProtocol{Trust: loopback, Timeout: time.Minute}, Options{})
	c := l.send(t, v2(1, 0x11, v4Addresses, tlv(2, "shop.example"), tlv(0x20, "\x01\x00\x00\x00\x00"))+"hello")
	f := <-l.facts
	if f.RemoteIP != "203.0.113.9" || f.RemoteAddr != "203.0.113.9:56324" || f.LocalAddr != "192.0.2.1:443" ||
		f.Remote.String() != f.RemoteAddr || f.Local.String() != f.LocalAddr {
		t.Errorf("got %+v", f)
	}
	if p := f.Proxied; p == nil || p.Peer.String() != c.LocalAddr().String() || p.Authority != "shop.example" || !p.TLS || f.SchemeOf("http") != "https" {
		t.Errorf("got %+v", p)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
		t.Errorf("got %q, %v", b, err)
	}

	c = l.send(t, "PROXY TCP6 2001:db8::9 2001:db8::1 1 2\r\n")
	if f := <-l.facts; f.RemoteIP != "2001:db8::9" || f.RemoteAddr != "[2001:db8::9]:1" || f.SchemeOf("http") != "http" {
		t.Errorf("got %+v", f)
	}
	_ = c.Close()

	for own, unnamed := range map[string]bool{
		v2(0, 0, ""): false, v2(0, 0x11, v4Addresses): false,
		"PROXY UNKNOWN\r\n": true, v2(1, 0x31, strings.Repeat("\x00", 216)): true, v2(1, 0x12, v4Addresses): true,
	} {
		c := l.send(t, own)
		if f := <-l.facts; f.RemoteAddr != c.LocalAddr().String() || (f.Proxied != nil) != unnamed || f.IsUnnamed() != unnamed {
			t.Errorf("%q: got %+v", own, f)
		}
		_ = c.Close()
	}

	l.SetSettings(Settings{}) // a reload
	c = l.send(t, "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n")
	if f := <-l.facts; f.RemoteAddr != c.LocalAddr().String() {
		t.Errorf("without: got %+v", f)
	}
}

// TestProxyRefused: who does not send a header is not served, and keeps nobody waiting.
func TestProxyRefused(t *testing.T) {
	l := startProxied(t, ProxyProtocol{Trust: loopback, Timeout: time.Second}, Options{})
	slow := l.send(t, "PROXY TCP4 1.2")
	silent := l.send(t, "")
	l.send(t, "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n") // is not held up by them
	<-l.facts
	for _, c := range []net.Conn{slow, silent} {
		if reason := <-l.refused; reason != ProxyTimeout {
			t.Errorf("got %s", reason)
		}
		wantEnd(t, c)
	}
	bad := l.send(t, "GET / HTTP/1.1\r\n\r\n")
	if reason := <-l.refused; reason != ProxyHeader {
		t.Errorf("got %s", reason)
	}
	wantEnd(t, bad)
	gone := l.send(t, "PROXY ")
	_ = gone.Close()
	if reason := <-l.refused; reason != ProxyClosed {
		t.Errorf("got %s", reason)
	}

	l.SetSettings(Settings{Proxy: &ProxyProtocol{Trust: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Timeout: time.Minute}})
	stranger := dial(t, l.Listener)
	if reason := <-l.refused; reason != ProxyUntrusted {
		t.Errorf("got %s", reason)
	}
	wantEnd(t, stranger)
	if len(l.facts) > 0 {
		t.Error("one of them was served")
	}
}

func wantEnd(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection goes on: %v", err)
	}
}

// TestLinkLocal: a client of a link is in the networks that it is in. It comes with a zone,
// and no prefix contains an address that has one.
func TestLinkLocal(t *testing.T) {
	link := &net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 1234, Zone: "eth0"}
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	var f exchange.Conn
	var l Listener
	l.setAddresses(&f, &addressed{server, link})
	for _, network := range []string{"fe80::/10", "::/0"} {
		p := netip.MustParsePrefix(network)
		if !p.Contains(f.Remote.Addr()) || !p.Contains(peerOf(&addressed{server, link})) {
			t.Errorf("%v is not in %v", f.Remote, p)
		}
		if trust := (&ProxyProtocol{Trust: []netip.Prefix{p}}); !trust.trusts(addrPort(link).Addr()) {
			t.Errorf("%v is not trusted in %v", link, p)
		}
	}
	if f.RemoteIP != "fe80::1" || f.RemoteAddr != "[fe80::1]:1234" {
		t.Errorf("got %q, %q", f.RemoteIP, f.RemoteAddr)
	}
}

// addressed is a connection from an address.
type addressed struct {
	net.Conn
	from net.Addr
}

func (a *addressed) RemoteAddr() net.Addr { return a.from }

// TestProxiedDrain: who has not sent a header holds up no end for the time that it may take,
// and whose header is on its way is served.
func TestProxiedDrain(t *testing.T) {
	l := startProxied(t, ProxyProtocol{Trust: loopback, Timeout: time.Minute}, Options{})
	silent, half, late := l.send(t, ""), l.send(t, "PROXY TCP4 1.2"), l.send(t, "PROXY TCP4 1.2.3.4 ")
	deadline := time.Now().Add(10 * time.Second)
	for open := 0; open < 3 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		open, _ = l.Open()
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l.Drain()
	if _, err := io.WriteString(late, "5.6.7.8 1 2\r\n"); err != nil {
		t.Fatal(err)
	}
	if f := <-l.facts; f.RemoteAddr != "1.2.3.4:1" {
		t.Errorf("got %+v", f)
	}
	wantEnd(t, silent)
	wantEnd(t, half)
	time.Sleep(2 * drainHeader) // who is served has all of its time
	if _, err := io.WriteString(late, "hello"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(late, b); err != nil || string(b) != "hello" {
		t.Errorf("got %q, %v", b, err)
	}
	_ = late.Close()
	ctx, cancel := context.WithDeadline(t.Context(), deadline)
	defer cancel()
	if err := l.Wait(ctx); err != nil {
		t.Error(err)
	}
}

// TestProxiedPerClient: clients are counted, and not the peer that speaks for them.
func TestProxiedPerClient(t *testing.T) {
	l := startProxied(t, ProxyProtocol{Trust: loopback, Timeout: time.Minute}, Options{PerClient: 2, Exempt: loopback})
	var first net.Conn
	for range 2 {
		first = l.send(t, "PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\n")
		<-l.facts
	}
	wantEnd(t, l.send(t, "PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\n"))
	<-l.tooMany
	l.send(t, "PROXY TCP4 203.0.113.10 192.0.2.1 1 2\r\n")
	<-l.facts
	for range 3 { // nobody in particular
		l.send(t, "PROXY UNKNOWN\r\n")
		<-l.facts
	}
	_ = first.Close()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // its goroutine has to notice
		l.mu.Lock()
		n := l.clients[netip.MustParseAddr("203.0.113.9")]
		l.mu.Unlock()
		if n == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections of the client", n)
		}
	}
	l.send(t, "PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\n")
	<-l.facts
}

// TestProxiedUnix: a peer on a unix socket counts as 127.0.0.1.
func TestProxiedUnix(t *testing.T) {
	l := startProxied(t, ProxyProtocol{Trust: loopback, Timeout: time.Minute}, Options{Address: "unix:" + t.TempDir() + "/s"})
	l.send(t, "PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\n")
	if f := <-l.facts; f.RemoteIP != "203.0.113.9" {
		t.Errorf("got %+v", f)
	}
}
