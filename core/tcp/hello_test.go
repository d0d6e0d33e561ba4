package tcp

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// helloOf returns what crypto/tls sends first.
func helloOf(tb testing.TB, c *tls.Config) []byte {
	tb.Helper()
	a, b := net.Pipe()
	c.InsecureSkipVerify = true //nolint:gosec // nothing is verified here
	go func() { _ = tls.Client(a, c).Handshake() }()
	defer a.Close()
	defer b.Close()
	buf := make([]byte, maxHello)
	_ = b.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := b.Read(buf)
	if err != nil {
		tb.Fatal(err)
	}
	return buf[:n]
}

// split cuts the handshake message in a record into records of at most n bytes.
func split(record []byte, n int) []byte {
	var out []byte
	for body := record[recordHeader:]; len(body) > 0; {
		k := min(n, len(body))
		out = append(out, recordHandshake, 3, 1, byte(k>>8), byte(k))
		out = append(out, body[:k]...)
		body = body[k:]
	}
	return out
}

// handshake wraps the body of a ClientHello into a record.
func handshake(body []byte) []byte {
	m := append([]byte{typeClientHello, 0, byte(len(body) >> 8), byte(len(body))}, body...)
	return append([]byte{recordHandshake, 3, 1, byte(len(m) >> 8), byte(len(m))}, m...)
}

// hello makes the body of a ClientHello with extensions.
func hello(extensions ...[]byte) []byte {
	b := append([]byte{3, 3}, make([]byte, 32)...)
	b = append(b, 0, 0, 2, 0x13, 1, 1, 0)
	all := bytes.Join(extensions, nil)
	return append(append(b, byte(len(all)>>8), byte(len(all))), all...)
}

// nameExtension is a server_name with entries of type, and name.
func nameExtension(entries ...any) []byte {
	var list []byte
	for i := 0; i < len(entries); i += 2 {
		kind, _ := entries[i].(int)
		name, _ := entries[i+1].(string)
		list = append(append(list, byte(kind), byte(len(name)>>8), byte(len(name))), name...)
	}
	n := len(list)
	return append([]byte{0, 0, byte((n + 2) >> 8), byte(n + 2), byte(n >> 8), byte(n)}, list...)
}

func TestHello(t *testing.T) {
	t.Parallel()
	genuine := helloOf(t, &tls.Config{ServerName: "Db.Example.com"})
	none := helloOf(t, &tls.Config{})
	grease := []byte{0x1a, 0x1a, 0, 1, 0}
	ech := append([]byte{0xfe, 0x0d, 0, 100}, make([]byte, 100)...)
	for name, tt := range map[string]struct {
		raw  []byte
		want string
		err  error
		more bool // it waits for more
	}{
		"real":               {raw: genuine, want: "db.example.com"},
		"without a name":     {raw: none},
		"in records of 1":    {raw: split(genuine[:recordHeader+60], 1), more: true},
		"in records of 7":    {raw: split(genuine, 7), want: "db.example.com"},
		"with more behind":   {raw: append(bytes.Clone(genuine), 20, 3, 3, 0, 1, 1), want: "db.example.com"},
		"GREASE":             {raw: handshake(hello(grease, nameExtension(0, "a.example"), grease)), want: "a.example"},
		"ECH":                {raw: handshake(hello(ech, nameExtension(0, "outer.example"))), want: "outer.example"},
		"no extensions":      {raw: handshake(hello()[:2+32+1+4+2])},
		"nothing":            {raw: nil, more: true},
		"one byte":           {raw: genuine[:1], more: true},
		"all but one":        {raw: genuine[:len(genuine)-1], more: true},
		"http":               {raw: []byte("GET / HTTP/1.1\r\n"), err: errNotTLS},
		"ssh":                {raw: []byte("S"), err: errNotTLS},
		"SSL 2":              {raw: []byte{0x80, 46, 1, 3, 1}, err: errNotTLS},
		"version of 2":       {raw: []byte{22, 2}, err: errNotTLS},
		"empty record":       {raw: []byte{22, 3, 1, 0, 0}, err: errBadHello},
		"huge record":        {raw: []byte{22, 3, 1, 0x40, 1}, err: errBadHello},
		"another message":    {raw: []byte{22, 3, 1, 0, 4, 2, 0, 0, 0}, err: errBadHello},
		"an alert follows":   {raw: append(split(genuine[:recordHeader+10], 10), 21, 3, 1, 0, 2, 1, 0), err: errBadHello},
		"too large":          {raw: []byte{22, 3, 1, 0, 4, 1, 1, 0, 0}, err: errTooLarge},
		"many records":       {raw: split(append(make([]byte, recordHeader), append([]byte{1, 0, 0x40, 0}, make([]byte, maxHello)...)...), 4096), err: errTooLarge},
		"trailing bytes":     {raw: handshake(append(hello(), 1)), err: errBadHello},
		"cut extension":      {raw: handshake(hello([]byte{0, 0, 0, 9, 0})), err: errBadHello},
		"two extensions":     {raw: handshake(hello(nameExtension(0, "a"), nameExtension(0, "b"))), err: errBadHello},
		"two names":          {raw: handshake(hello(nameExtension(0, "a", 0, "b"))), err: errBadHello},
		"other type":         {raw: handshake(hello(nameExtension(1, "x", 0, "b"))), want: "b"},
		"empty list":         {raw: handshake(hello([]byte{0, 0, 0, 2, 0, 0})), err: errBadHello},
		"empty name":         {raw: handshake(hello(nameExtension(0, ""))), err: errBadHello},
		"dot at the end":     {raw: handshake(hello(nameExtension(0, "a.example."))), err: errBadHello},
		"two dots":           {raw: handshake(hello(nameExtension(0, "a..b"))), err: errBadHello},
		"NUL":                {raw: handshake(hello(nameExtension(0, "a\x00b"))), err: errBadHello},
		"slash":              {raw: handshake(hello(nameExtension(0, "a/b"))), err: errBadHello},
		"IPv6":               {raw: handshake(hello(nameExtension(0, "::1"))), err: errBadHello},
		"long label":         {raw: handshake(hello(nameExtension(0, strings.Repeat("a", 64)+".b"))), err: errBadHello},
		"odd cipher suites":  {raw: handshake(append(append([]byte{3, 3}, make([]byte, 32)...), 0, 0, 1, 1, 1, 0)), err: errBadHello},
		"session id of 33":   {raw: handshake(append(append([]byte{3, 3}, make([]byte, 32)...), append(append([]byte{33}, make([]byte, 33)...), 0, 2, 1, 1, 1, 0)...)), err: errBadHello},
		"version 4 in hello": {raw: handshake(append([]byte{4}, hello()[1:]...)), err: errBadHello},
	} {
		// At once, and byte by byte.
		for _, step := range []int{len(tt.raw), 1} {
			var h helloReader
			var got string
			var done bool
			var err error
			for n := min(step, len(tt.raw)); ; n = min(n+max(step, 1), len(tt.raw)) {
				got, done, err = h.look(tt.raw[:n])
				if done || err != nil || n == len(tt.raw) {
					break
				}
			}
			if got != tt.want || !errors.Is(err, tt.err) || done != (tt.err == nil && !tt.more) {
				t.Errorf("%s, %d at a time: got %q, done %v, %v", name, step, got, done, err)
			}
		}
	}
}

// fakeConn gives crypto/tls bytes, and takes what it says.
type fakeConn struct {
	net.Conn
	r *bytes.Reader
}

func (c fakeConn) Read(p []byte) (int, error)       { return c.r.Read(p) }
func (c fakeConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c fakeConn) Close() error                     { return nil }
func (c fakeConn) SetDeadline(time.Time) error      { return nil }
func (c fakeConn) SetWriteDeadline(time.Time) error { return nil }

// FuzzHello: a name that is found is the one that crypto/tls finds, whatever pieces it comes in.
func FuzzHello(f *testing.F) {
	genuine := helloOf(f, &tls.Config{ServerName: "db.example.com"})
	f.Add(genuine, 1)
	f.Add(split(genuine, 3), 5)
	f.Add(handshake(hello(nameExtension(1, "x", 0, "b"))), 100)
	f.Fuzz(func(t *testing.T, raw []byte, step int) {
		var whole helloReader
		name, done, err := whole.look(raw)
		step = max(step%len(append(raw, 0)), 1)
		var h helloReader
		for n := min(step, len(raw)); len(raw) > 0; n = min(n+step, len(raw)) {
			got, over, bad := h.look(raw[:n])
			if over || bad != nil || n == len(raw) {
				if got != name || over != done || !errors.Is(bad, err) {
					t.Fatalf("in pieces of %d: %q %v %v; at once: %q %v %v", step, got, over, bad, name, done, err)
				}
				break
			}
		}
		if !done {
			return
		}
		seen, told := "", false
		s := tls.Server(fakeConn{r: bytes.NewReader(raw)}, &tls.Config{
			MinVersion: tls.VersionTLS12,
			GetConfigForClient: func(i *tls.ClientHelloInfo) (*tls.Config, error) {
				seen, told = strings.ToLower(i.ServerName), true
				return nil, io.EOF
			},
		})
		_ = s.Handshake()
		if told && seen != name {
			t.Errorf("crypto/tls has %q, we have %q", seen, name)
		}
	})
}
