package exchangetest_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/exchange/exchangetest"
)

func TestPipe(t *testing.T) {
	type closeWriter interface{ CloseWrite() error }
	type lingerer interface{ SetLinger(sec int) error }
	for _, tt := range []struct {
		name string
		end  func(a net.Conn)
		want error // of b's second read
	}{
		{"FIN", func(a net.Conn) { _ = a.(closeWriter).CloseWrite() }, io.EOF},
		{"close", func(a net.Conn) { _ = a.Close() }, io.EOF},
		{"reset", func(a net.Conn) { _ = a.(lingerer).SetLinger(0); _ = a.Close() }, syscall.ECONNRESET},
		{"deadline", func(net.Conn) {}, os.ErrDeadlineExceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := exchangetest.Pipe()
				defer b.Close()
				defer a.Close()
				p := make([]byte, 10)
				if _, err := a.Write([]byte("hi")); err != nil {
					t.Fatal(err)
				}
				if n, err := b.Read(p); string(p[:n]) != "hi" || err != nil {
					t.Fatalf("got %q, %v", p[:n], err)
				}
				tt.end(a)
				start := time.Now()
				_ = b.SetReadDeadline(start.Add(time.Second))
				if _, err := b.Read(p); !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				if d := time.Since(start); errors.Is(tt.want, os.ErrDeadlineExceeded) != (d == time.Second) {
					t.Errorf("after %v", d)
				}
			})
		})
	}
}

func TestRecorderFindsBreaches(t *testing.T) {
	for name, f := range map[string]func(r *exchangetest.Recorder[*exchange.Response]){
		"call after the end": func(r *exchangetest.Recorder[*exchange.Response]) {
			_ = r.Head(&exchange.Response{Status: 200}, true)
			_ = r.Data(nil, true)
		},
		"two heads": func(r *exchangetest.Recorder[*exchange.Response]) {
			_ = r.Head(&exchange.Response{Status: 200}, false)
			_ = r.Head(&exchange.Response{Status: 200}, false)
		},
		"data first": func(r *exchangetest.Recorder[*exchange.Response]) { _ = r.Data([]byte("x"), false) },
		"call after an error": func(r *exchangetest.Recorder[*exchange.Response]) {
			r.OnHead = func(*exchange.Response, bool) error { return errors.New("no") }
			_ = r.Head(&exchange.Response{Status: 200}, false)
			_ = r.Data([]byte("x"), false)
		},
	} {
		var r exchangetest.Recorder[*exchange.Response]
		if f(&r); r.Violation() == "" {
			t.Errorf("%s: not found", name)
		}
	}
}

func TestReadCorpus(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.txt")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# c\ncase: a\nsend: x{{y{{z*2}}*2}}\\r\\n\nsend: \\x41\\0\\\\\nstatus: 200 400\nthen: open\n\ncase: b\n")
	cases, err := exchangetest.ReadCorpus(file)
	if err != nil || len(cases) != 2 || cases[0].Send != "xyzzyzz\r\nA\x00\\" || len(cases[0].Status) != 2 || !cases[0].Open || cases[1].Open {
		t.Errorf("got %+v, %v", cases, err)
	}
	for _, s := range []string{"send: x\n", "case: a\nfoo: x\n", "case: a\nsend: \\q\n", "case: a\nthen: maybe\n", "case: a\ncase: a\n", "case: a\nsees: GET\n"} {
		write(s)
		if _, err := exchangetest.ReadCorpus(file); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}
