package grpc

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// programs are built once, before the tests.
var programs struct{ wproxy, client string }

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "wproxy-grpc")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	programs.wproxy, programs.client = filepath.Join(dir, "wproxy"), filepath.Join(dir, "client")
	build := []string{"build"}
	if raceDetector {
		build = append(build, "-race")
	}
	for _, c := range []struct {
		dir  string
		args []string
	}{
		{"../..", append(build, "-tags", "invariants", "-o", programs.wproxy, "./cmd/wproxy")},
		{".", []string{"build", "-o", programs.client, "google.golang.org/grpc/interop/client"}},
	} {
		cmd := exec.Command("go", c.args...)
		cmd.Dir = c.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go %s: %v\n%s", strings.Join(c.args, " "), err, out)
			return 1
		}
	}
	return m.Run()
}

// A way is how client and upstream speak with wproxy.
type way struct {
	name     string
	listener string
	upstream string
	tls      bool
}

var ways = []way{
	{"h2c", `protocols = ["h2c"]`, `connect.protocol = "h2"`, false},
	{"TLS", `protocols = ["h2"]
tls.certs = [{ cert = "@CERT", key = "@KEY" }]`, `connect.protocol = "h2"
tls = { ca = "@CERT", server_name = "a.test" }`, true},
}

// A process is a wproxy that runs.
type process struct {
	addr   string
	access string // file
	stderr *syncBuffer
}

// start runs wproxy in front of an upstream. routes are added to the configuration.
func start(t *testing.T, w way, c *certificate, upstream, routes string) *process {
	t.Helper()
	dir := t.TempDir()
	p := &process{addr: freeAddress(t), access: filepath.Join(dir, "access.log"), stderr: &syncBuffer{}}
	config := strings.NewReplacer("@ADDR", p.addr, "@LISTENER", w.listener, "@ACCESS", p.access, "@ADMIN", "unix:"+filepath.Join(dir, "a"), "@UP", upstream, "@KEYS", w.upstream).Replace(`
[listeners.door]
address = "@ADDR"
@LISTENER
[admin]
address = "@ADMIN"
[log]
access = { to = "@ACCESS" }
[routes.all]
path = "/*"
timeout = "0"
upstream = "u"
[upstreams.u]
servers = ["@UP"]
@KEYS
`) + routes
	config = strings.NewReplacer("@CERT", c.cert, "@KEY", c.key, "@KEYS", w.upstream).Replace(config)
	file := filepath.Join(dir, "wproxy.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(programs.wproxy, "run", "-c", file)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir)
	cmd.Stderr, cmd.Stdout = p.stderr, p.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the process
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil || strings.Contains(p.stderr.String(), "panic") || strings.Contains(p.stderr.String(), "DATA RACE") {
				t.Errorf("wproxy: %v\n%s", err, p.stderr)
			}
		case <-time.After(40 * time.Second):
			_ = cmd.Process.Kill()
			t.Errorf("wproxy does not end\n%s", p.stderr)
		}
	})
	for range 1000 {
		if conn, err := net.Dial("tcp", p.addr); err == nil {
			_ = conn.Close()
			return p
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("wproxy has ended: %v\n%s", err, p.stderr)
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Fatalf("wproxy does not serve\n%s", p.stderr)
	return nil
}

// logged waits for a line of the access log that has all of the texts.
func (p *process) logged(t *testing.T, texts ...string) {
	t.Helper()
	var b []byte
	for range 500 {
		b, _ = os.ReadFile(p.access)
		for line := range strings.Lines(string(b)) {
			all := true
			for _, s := range texts {
				all = all && strings.Contains(line, s)
			}
			if all {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("no line of the access log has %q:\n%s", texts, b)
}

// dial makes a connection to addr.
func (w way) dial(t *testing.T, c *certificate, addr string) *grpc.ClientConn {
	t.Helper()
	creds := insecure.NewCredentials()
	if w.tls {
		creds = credentials.NewTLS(&tls.Config{RootCAs: c.pool, ServerName: "a.test"})
	}
	const large = 64 << 20
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(large), grpc.MaxCallSendMsgSize(large)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// serve runs a server on a free address until the test ends.
func (w way) serve(t *testing.T, c *certificate, register func(*grpc.Server), opts ...grpc.ServerOption) (*grpc.Server, string) {
	t.Helper()
	if w.tls {
		creds, err := credentials.NewServerTLSFromFile(c.cert, c.key)
		if err != nil {
			t.Fatal(err)
		}
		opts = append(opts, grpc.Creds(creds))
	}
	s := grpc.NewServer(append(opts, grpc.MaxRecvMsgSize(64<<20))...)
	register(s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends with Stop
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() { s.Stop(); <-done })
	return s, l.Addr().String()
}

// bounded returns a context for one call that must not hang.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// syncBuffer is a buffer that one goroutine writes and another reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// A certificate is one for a.test that vouches for itself.
type certificate struct {
	cert, key string // files
	pool      *x509.CertPool
}

func newCertificate(t *testing.T) *certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "wproxy test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true, DNSNames: []string{"a.test"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := &certificate{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), x509.NewCertPool()}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	for name, text := range map[string][]byte{c.cert: certPEM, c.key: keyPEM} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.pool.AppendCertsFromPEM(certPEM)
	return c
}
