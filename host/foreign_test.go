package host_test

import (
	"bytes"
	"compress/zlib"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host"
)

// foreign calls a foreign function from a stream and returns its result.
func foreign(t *testing.T, st *fakeStream, version, name, args string) (string, abi.Status, *setup) {
	t.Helper()
	p := newCall(t, version, "proxy_call_foreign_function", "iiiiii>i", name, args, out(0), out(4))
	status, mem, s := p.run(t, st, options{plugin: host.PluginOptions{LogLevel: abi.LogDebug, CPU: time.Second}}) // the race detector is slow
	if status != abi.StatusOK {
		p.area(t, mem, 0)
		return "", status, s
	}
	area := p.area(t, mem, 8)
	at, n := binary.LittleEndian.Uint32(area), binary.LittleEndian.Uint32(area[4:])
	return string(mem[at : at+n]), status, s
}

// message encodes a message of strings, by their numbers.
func message(fields ...any) string {
	var b []byte
	for i := 0; i < len(fields); i += 2 {
		n := uint32(fields[i].(int))
		switch v := fields[i+1].(type) {
		case string:
			b = abi.AppendProtoBytes(b, n, v)
		case int:
			b = abi.AppendProtoUint(b, n, uint64(v))
		}
	}
	return string(b)
}

func deflate(t *testing.T, n int) string {
	t.Helper()
	var b bytes.Buffer
	w, err := zlib.NewWriterLevel(&b, zlib.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, io.LimitReader(zeros{}, int64(n))); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return b.String()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestCompress(t *testing.T) {
	text := strings.Repeat("the same again, ", 5000)
	packed, status, _ := foreign(t, newStream(), v021, "compress", text)
	r, err := zlib.NewReader(strings.NewReader(packed))
	if status != abi.StatusOK || err != nil || len(packed) > len(text)/20 {
		t.Fatalf("compress: %v, %d bytes, %v", status, len(packed), err)
	}
	if back, err := io.ReadAll(r); err != nil || string(back) != text {
		t.Errorf("what was compressed is not what it was: %v", err)
	}
	if back, status, _ := foreign(t, newStream(), v021, "uncompress", packed); status != abi.StatusOK || back != text {
		t.Errorf("uncompress: %v, %d bytes", status, len(back))
	}
	if got, status, _ := foreign(t, newStream(), v021, "compress", ""); status != abi.StatusOK || len(got) == 0 {
		t.Errorf("compress nothing: %v, %q", status, got)
	}
	for _, tt := range []struct {
		name, fn, args string
		want           abi.Status
	}{
		{"nothing", "uncompress", "", abi.StatusSerializationFailure},
		{"garbage", "uncompress", "garbage!", abi.StatusSerializationFailure},
		{"cut off", "uncompress", packed[:len(packed)-5], abi.StatusSerializationFailure},
		{"the most", "uncompress", deflate(t, host.MaxUncompressed), abi.StatusOK},
		{"a bomb", "uncompress", deflate(t, host.MaxUncompressed+1), abi.StatusSerializationFailure},
		{"a large bomb", "uncompress", deflate(t, 4*host.MaxUncompressed), abi.StatusSerializationFailure},
		{"too large an argument", "compress", strings.Repeat("x", host.MaxForeignArgs+1), abi.StatusBadArgument},
		{"empty result", "uncompress", deflate(t, 0), abi.StatusOK},
	} {
		if _, status, _ := foreign(t, newStream(), v021, tt.fn, tt.args); status != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, status, tt.want)
		}
	}
}

// TestCompressShort: a short text is one block, as zlib makes it (the example is from the
// SDK's foreign_call_on_tick), and what comes back is the text, whatever its bits.
func TestCompressShort(t *testing.T) {
	packed, err := host.Compress("hello world!")
	if got := hex.EncodeToString(packed); err != nil || got != "789ccb48cdc9c95728cf2fca495104001e89047e" {
		t.Errorf("got %s, %v", got, err)
	}
	r := mathrand.New(mathrand.NewPCG(1, 2)) //nolint:gosec // the same each time
	for n := 1; n < 1<<14+100; n += 1 + n/40 {
		for _, symbols := range []int{1, 2, 30, 256} {
			text := make([]byte, n)
			for i := range text {
				text[i] = byte(r.IntN(symbols))
			}
			packed, err := host.Compress(string(text))
			if err != nil {
				t.Fatal(err)
			}
			z, err := zlib.NewReader(bytes.NewReader(packed))
			if err != nil {
				t.Fatal(err)
			}
			if back, err := io.ReadAll(z); err != nil || !bytes.Equal(back, text) {
				t.Fatalf("%d bytes of %d symbols: %v", n, symbols, err)
			}
		}
	}
}

func TestForeignLogLevel(t *testing.T) {
	got, status, _ := foreign(t, newStream(), "proxy_abi_version_0_2_100", "get_log_level", "")
	if status != abi.StatusOK || got != "\x01\x00\x00\x00" {
		t.Errorf("get_log_level: %v, %q", status, got)
	}
}

func TestFilterState(t *testing.T) {
	st := newStream()
	_, status, _ := foreign(t, st, v021, "set_envoy_filter_state", message(1, "my.key", 2, "value", 3, 1))
	if got := st.set["filter_state\x00my.key"]; status != abi.StatusOK || got != "value" {
		t.Errorf("%v, stored %q", status, st.set)
	}
	for name, args := range map[string]string{"malformed": "\x0a\x09x", "no path": message(2, "value")} {
		if _, status, _ := foreign(t, newStream(), v021, "set_envoy_filter_state", args); status != abi.StatusBadArgument {
			t.Errorf("%s: %v", name, status)
		}
	}
}

// A property that is declared read-only keeps its first value, on streams and on roots.
func TestDeclareProperty(t *testing.T) {
	q := newSeq()
	const sig, set, get = "iiiiii>i", "proxy_set_property", "proxy_get_property"
	declare := func(args string) {
		q.call("proxy_call_foreign_function", sig, "declare_property", args, out(40), out(44))
	}
	declare(message(1, "once", 2, 1, 3, 1))
	declare(message(1, "often"))
	declare(message(1, "once")) // again
	declare(message(2, 1))      // no name
	declare("\x0a\x05x")        // malformed
	q.call("proxy_set_effective_context", "i>i", 1)
	q.call(set, "iiii>i", "once", "first")
	q.call(set, "iiii>i", "once", "second")
	q.call(set, "iiii>i", "often", "first")
	q.call(set, "iiii>i", "often", "second")
	q.call(get, "iiii>i", "once", out(0), out(4))
	q.sayOut(0)
	q.call(get, "iiii>i", "often", out(0), out(4))
	q.sayOut(0)
	q.call("proxy_set_effective_context", "i>i", 2)
	q.call(set, "iiii>i", "once", "on a stream")
	q.call(set, "iiii>i", "route_name", "set already")
	q.finish()
	s := start(t, q.m, options{})
	statuses, _ := q.run(t, s)
	want := make([]abi.Status, len(statuses))
	want[2], want[3], want[4] = abi.StatusBadArgument, abi.StatusBadArgument, abi.StatusBadArgument
	for i := range want {
		if statuses[i] != want[i] {
			t.Errorf("call %d: %v, want %v", i, statuses[i], want[i])
		}
	}
	wantLines(t, s.log.lines(true), "first", "second")
	if !s.log.contains(false, "read-only") {
		t.Errorf("the host logged %q", s.log.lines(false))
	}
}

func TestSignatures(t *testing.T) {
	const text = "what is signed"
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(text))
	rsaSig, err1 := rsa.SignPKCS1v15(nil, rsaKey, crypto.SHA256, sum[:])
	ecSig, err2 := ecdsa.SignASN1(rand.Reader, ecKey, sum[:])
	rsaPub, err3 := x509.MarshalPKIXPublicKey(rsaKey.Public())
	ecPub, err4 := x509.MarshalPKIXPublicKey(ecKey.Public())
	modulus := new(big.Int).SetBit(big.NewInt(1), 8191, 1)
	large, err5 := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: modulus, E: 65537})
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		t.Fatal(err)
	}
	asPEM := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	const good = "\x08\x01"
	for _, tt := range []struct {
		name, args, want string // want: the result, or a part of the error in it
	}{
		{"rsa", message(1, "sha256", 2, string(rsaPub), 3, string(rsaSig), 4, text), good},
		{"rsa, PEM", message(1, "sha256", 3, string(rsaSig), 4, text, 5, asPEM("PUBLIC KEY", rsaPub)), good},
		{"ecdsa", message(1, "sha256", 2, string(ecPub), 3, string(ecSig), 4, text), good},
		{"another text", message(1, "sha256", 2, string(rsaPub), 3, string(rsaSig), 4, "x"), "is wrong"},
		{"another hash", message(1, "sha512", 2, string(rsaPub), 3, string(rsaSig), 4, text), "is wrong"},
		{"another key", message(1, "sha256", 2, string(ecPub), 3, string(rsaSig), 4, text), "is wrong"},
		{"unknown hash", message(1, "md4", 2, string(rsaPub), 3, string(rsaSig), 4, text), `"md4" is not supported`},
		{"no key", message(1, "sha256", 3, string(rsaSig), 4, text), "cannot be read"},
		{"no PEM", message(1, "sha256", 5, "x"), "no PEM"},
		{"RSA of 8192 bits", message(1, "sha256", 2, string(large), 3, string(rsaSig), 4, text), "too long"},
		{"long key", message(1, "sha256", 2, strings.Repeat("x", 10000)), "too long"},
		{"nothing", "", "cannot be read"},
	} {
		got, status, _ := foreign(t, newStream(), v021, "verify_signature", tt.args)
		if status != abi.StatusOK || (got == good) != (tt.want == good) || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %v, %q, want %q", tt.name, status, got, tt.want)
		}
	}
	if _, status, _ := foreign(t, newStream(), v021, "verify_signature", "\x0a\x09"); status != abi.StatusBadArgument {
		t.Errorf("malformed: %v", status)
	}

	for name, key := range map[string]any{"rsa": rsaKey, "ecdsa": ecKey} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		pub := rsaPub
		if name == "ecdsa" {
			pub = ecPub
		}
		for _, args := range []string{
			message(1, "sha384", 2, string(der), 3, text),
			message(1, "sha384", 3, text, 4, asPEM("PRIVATE KEY", der)),
		} {
			got, status, _ := foreign(t, newStream(), v021, "sign", args)
			var signature string
			for f, ok := range abi.ProtoFields(got) {
				if ok && f.Number == 2 {
					signature = f.Bytes
				}
			}
			check, _, _ := foreign(t, newStream(), v021, "verify_signature", message(1, "sha384", 2, string(pub), 3, signature, 4, text))
			if status != abi.StatusOK || check != good {
				t.Errorf("sign with %s: %v, %q; verified: %q", name, status, got, check)
			}
		}
	}
	for _, args := range []string{message(1, "sha256", 2, "x", 3, text), message(1, "sha256", 2, string(rsaPub), 3, text), ""} {
		if got, status, _ := foreign(t, newStream(), v021, "sign", args); status != abi.StatusOK || !strings.Contains(got, "cannot be read") {
			t.Errorf("sign with a bad key: %v, %q", status, got)
		}
	}
	if _, status, _ := foreign(t, newStream(), v021, "sign", "\x0a\x09"); status != abi.StatusBadArgument {
		t.Errorf("malformed: %v", status)
	}
}

// The host calls on_foreign_function of a stream or of a root; buffer 8 has the
// arguments, and only meanwhile.
func TestOnForeignFunction(t *testing.T) {
	const src = `(module
  (import "env" "proxy_get_buffer_bytes" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_status" (func $size (param i32 i32 i32) (result i32)))
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param $n i32) (result i32) (i32.const 65536))
  (func $read
    (i32.store (i32.const 1028) (call $size (i32.const 8) (i32.const 1072) (i32.const 1080)))
    (i32.store (i32.const 1024) (call $get (i32.const 8) (i32.const 0) (i32.const 100) (i32.const 600) (i32.const 604)))
    (if (i32.eqz (i32.load (i32.const 1024)))
      (then (drop (call $log (i32.const 2) (i32.load (i32.const 600)) (i32.load (i32.const 604)))))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $read) (i32.const 0))
  (func (export "proxy_on_foreign_function") (param $context i32) (param $id i32) (param $n i32)
    (i32.store (i32.const 1032) (local.get $context))
    (i32.store (i32.const 1040) (local.get $id))
    (i32.store (i32.const 1048) (local.get $n))
    (if (i32.eq (local.get $id) (i32.const 666)) (then unreachable))
    (call $read)))`
	s := startWasm(t, assemble(t, src), options{})
	word := func(at int) uint32 { return binary.LittleEndian.Uint32(s.plugin.Peek()[at:]) }
	c := s.open(newStream())
	if _, err := c.RequestHeaders(1, true); err != nil || word(1024) != uint32(abi.StatusNotFound) || word(1028) != uint32(abi.StatusNotFound) {
		t.Errorf("buffer 8 elsewhere: %v, status %d, %d", err, word(1024), word(1028))
	}
	for _, tt := range []struct {
		name    string
		call    func(id uint32, args []byte) error
		context uint32
		args    string
	}{
		{"stream", c.ForeignFunction, c.ID(), "for the stream"},
		{"root", s.root.ForeignFunction, 1, "for the root"},
		{"nothing", c.ForeignFunction, c.ID(), ""},
	} {
		before := len(s.log.lines(true))
		if err := tt.call(7, []byte(tt.args)); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if word(1032) != tt.context || word(1040) != 7 || word(1048) != uint32(len(tt.args)) || word(1072) != uint32(len(tt.args)) {
			t.Errorf("%s: context %d, id %d, %d bytes, status says %d", tt.name, word(1032), word(1040), word(1048), word(1072))
		}
		wantLines(t, s.log.lines(true)[before:], tt.args)
	}
	var trap *host.TrapError
	if err := c.ForeignFunction(666, nil); !errors.As(err, &trap) || trap.Callback != host.CallForeignFunction {
		t.Errorf("a trap: %v", err)
	}
	if err := c.ForeignFunction(7, nil); !errors.As(err, &trap) {
		t.Errorf("after a trap: %v", err)
	}
	_ = c.Finish(nil)
	var closed *host.ClosedError
	if err := c.ForeignFunction(7, nil); !errors.As(err, &closed) {
		t.Errorf("after the end: %v", err)
	}
	s.root.Close()
	if err := s.root.ForeignFunction(7, nil); !errors.As(err, &closed) {
		t.Errorf("after the root's end: %v", err)
	}
	none := start(t, crasher(), options{})
	if err := none.root.ForeignFunction(7, nil); err != nil {
		t.Errorf("without the callback: %v", err)
	}
}
