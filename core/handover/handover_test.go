package handover_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"wproxy/core/handover"
	"wproxy/core/listen"
)

// helper is the environment variable that makes the test binary a process which takes over.
const helper = "HANDOVER_HELPER"

func TestMain(m *testing.M) {
	if how := os.Getenv(helper); how != "" {
		os.Exit(help(how))
	}
	os.Exit(m.Run())
}

// help takes over in one way or another.
func help(how string) int {
	switch how {
	case "crash":
		return 7
	case "hang":
		time.Sleep(time.Hour)
	case "activated", "lent": // who makes the environment of a process does not know its number
		_ = os.Setenv("LISTEN_PID", fmt.Sprint(os.Getpid()))
	}
	in, parent, err := handover.Receive()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "LISTEN_") || strings.HasPrefix(v, "WPROXY_") || strings.HasPrefix(v, "WATCHDOG_PID=") {
			fmt.Println("left in the environment:", v)
			return 1
		}
	}
	if how == "lent" {
		return lent(in)
	}
	if how == "activated" {
		for _, want := range [][2]string{{"named", "127.0.0.1:1"}, {"by-address", os.Getenv("ADDRESS")}, {"other", "127.0.0.1:0"}} {
			l, manager, ok := in.Take(context.Background(), listen.Same, want[0], want[1])
			if ok {
				fmt.Println(want[0], manager, l.Addr())
				serveOne(l)
			} else {
				fmt.Println(want[0], "none")
			}
		}
		fmt.Println(strings.Join(in.Unused(), "; "))
		return 0
	}
	if how == "refuse" {
		parent.Fail(errors.New("I do not like it"))
		return 1
	}
	l, _, ok := in.Take(context.Background(), listen.Same, "http", "127.0.0.1:0")
	rest, err := parent.Prepared()
	var first, second string
	if !ok || err != nil || handover.Open(parent.State, &wrap{&first}) != nil || handover.Open(rest, &wrap{&second}) != nil {
		return 2
	}
	if how == "late" {
		time.Sleep(time.Hour)
	}
	if parent.Serve(handover.Serving{PID: os.Getpid(), Version: first + second, Notes: in.CloseUnused()}) != nil {
		return 3
	}
	serveOne(l)
	return 0
}

// lent uses one of two sockets of a service manager, gives up its listener, and says what there
// is to hand over before, meanwhile and after.
func lent(in *handover.Inherited) int {
	names := func(given []handover.Given) (all []string) {
		for _, g := range in.Spare(given) {
			all = append(all, g.Name)
		}
		return all
	}
	fmt.Println(names(nil))
	l, _, _ := in.Take(context.Background(), listen.Same, "one", "127.0.0.1:1")
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		return 2
	}
	fmt.Println(names([]handover.Given{{File: f}}))
	_, _ = f.Close(), l.Close()
	fmt.Println(names(nil))
	return 0
}

type wrap struct{ Text *string }

// serveOne answers one connection with this process's number.
func serveOne(l net.Listener) {
	if c, err := l.Accept(); err == nil {
		fmt.Fprintln(c, os.Getpid())
		_ = c.Close()
	}
	_ = l.Close()
}

// listener returns a listening socket and its copy.
func listener(t *testing.T) (*net.TCPListener, *os.File) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return l.(*net.TCPListener), f
}

func ask(t *testing.T, addr net.Addr) string {
	t.Helper()
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func seal(t *testing.T, text string) []byte {
	t.Helper()
	b, err := handover.Seal(&wrap{&text})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func start(t *testing.T, how string) (*handover.Child, *net.TCPListener) {
	t.Helper()
	t.Setenv(helper, how)
	t.Setenv("WATCHDOG_PID", "1")
	l, f := listener(t)
	_, spare := listener(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c, err := handover.Start(handover.Options{
		Binary: self, Version: "old", State: seal(t, "first "), Rest: func() ([]byte, error) { return seal(t, "second"), nil },
		Sockets: []handover.Given{
			{Socket: handover.Socket{Name: "http", Address: "127.0.0.1:0"}, File: f},
			{Socket: handover.Socket{Name: "gone:1", Address: "127.0.0.1:0"}, File: spare},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, l
}

// TestHandOver: the new process has the socket, the state and serves; ours can still accept.
func TestHandOver(t *testing.T) {
	c, l := start(t, "serve")
	s, err := c.Serving(t.Context())
	if err != nil {
		c.Stop()
		t.Fatal(err)
	}
	if s.PID != c.PID || s.Version != "first second" || len(s.Notes) != 1 || !strings.HasPrefix(s.Notes[0], "gone:1 (127.0.0.1:") {
		t.Errorf("got %+v", s)
	}
	_ = l.Close() // ours: a client that comes now is the other one's, and so is one that waits
	if got := ask(t, l.Addr()); got != fmt.Sprint(c.PID) {
		t.Errorf("process %s answers, want %d", got, c.PID)
	}
	c.Stop()
}

// TestHandOverFails: each way in which the new process does not come to serve has its reason,
// and our socket works as before.
func TestHandOverFails(t *testing.T) {
	for how, want := range map[string]string{
		"crash": "has ended before it served: exit status 7", "refuse": "I do not like it", "hang": "too slow", "late": "too slow",
	} {
		c, l := start(t, how)
		limit := time.Minute // a busy machine takes a while to start a process
		switch how {
		case "hang":
			limit = 50 * time.Millisecond
		case "late":
			limit = 2 * time.Second
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), limit, errors.New("too slow"))
		_, err := c.Serving(ctx)
		cancel()
		c.Stop()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", how, err, want)
		}
		// Nobody has made it a blocking one: it heeds deadlines, and Close ends Accept.
		_ = l.SetDeadline(time.Now().Add(10 * time.Millisecond))
		if _, err := l.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: Accept: %v", how, err)
		}
		_ = l.SetDeadline(time.Time{})
		go serveOne(l)
		if got := ask(t, l.Addr()); got != fmt.Sprint(os.Getpid()) {
			t.Errorf("%s: process %s answers", how, got)
		}
	}
	if _, err := handover.Start(handover.Options{Binary: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no binary: %v", err)
	}
}

// TestActivation: sockets of a service manager are found by name, then by address; what is
// left, or of no use, is told.
func TestActivation(t *testing.T) {
	named, f1 := listener(t)
	address, f2 := listener(t)
	_, f3 := listener(t)
	datagrams, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer datagrams.Close()
	f4, err := datagrams.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f4.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.ExtraFiles = []*os.File{f1, f2, f3, f4}
	cmd.Env = append(os.Environ(), helper+"=activated", "ADDRESS="+address.Addr().String(), "LISTEN_FDS=4", "LISTEN_FDNAMES=named:x:spare:dgram")
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, l := range []net.Listener{named, address} {
		_ = l.Close() // ours
		if got := ask(t, l.Addr()); got != fmt.Sprint(cmd.Process.Pid) {
			t.Errorf("%s answers", got)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, out.String())
	}
	got := strings.Split(out.String(), "\n")
	want := []string{"named true " + named.Addr().String(), "by-address true " + address.Addr().String(), "other none"}
	if len(got) < 4 || !slices.Equal(got[:3], want) || !strings.Contains(got[3], "spare (127.0.0.1:") || !strings.Contains(got[3], "dgram: it is no listening stream socket") {
		t.Errorf("got %q", got)
	}
}

// TestLent: a service manager's socket goes to the next process whether its listener is still
// there or a reload has taken it away: nobody else could bind it.
func TestLent(t *testing.T) {
	_, f1 := listener(t)
	_, f2 := listener(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.ExtraFiles = []*os.File{f1, f2}
	cmd.Env = append(os.Environ(), helper+"=lent", "LISTEN_FDS=2", "LISTEN_FDNAMES=one:two")
	out, err := cmd.Output()
	if got, want := string(out), "[one two]\n[two]\n[one two]\n"; err != nil || got != want {
		t.Errorf("got %q (%v), want %q", got, err, want)
	}
}

// TestReceiveNothing: an environment that is meant for another process is none.
func TestReceiveNothing(t *testing.T) {
	t.Setenv("WPROXY_UPGRADE", fmt.Sprint(os.Getpid())) // our parent has another number
	t.Setenv("LISTEN_PID", fmt.Sprint(os.Getppid()))
	t.Setenv("LISTEN_FDS", "1")
	in, parent, err := handover.Receive()
	if err != nil || parent != nil || len(in.Unused()) != 0 {
		t.Errorf("got %v, %v, %v", in.Unused(), parent, err)
	}
	if _, ok := os.LookupEnv("LISTEN_FDS"); ok {
		t.Error("the environment is not cleared")
	}
	var none *handover.Inherited
	if _, _, ok := none.Take(t.Context(), listen.Same, "a", ":80"); ok || none.Unused() != nil || none.Spare(nil) != nil {
		t.Error("nil has something")
	}
	t.Setenv("LISTEN_PID", fmt.Sprint(os.Getpid()))
	t.Setenv("LISTEN_FDS", "1000000")
	if _, _, err := handover.Receive(); err == nil {
		t.Error("a million descriptors")
	}
}

// A state of one version, and of another that has other fields.
type (
	stateOld struct {
		A int
		B []string
		C struct{ D map[string]int64 }
	}
	stateNew struct {
		B []string
		C struct {
			D map[string]int64
			E string
		}
		F *int
	}
)

func TestSeal(t *testing.T) {
	old := stateOld{A: 1, B: []string{"x"}}
	old.C.D = map[string]int64{"k": -1}
	b, err := handover.Seal(&old)
	if err != nil {
		t.Fatal(err)
	}
	var forward stateNew
	if err := handover.Open(b, &forward); err != nil || forward.B[0] != "x" || forward.C.D["k"] != -1 {
		t.Errorf("to a version with other fields: %+v, %v", forward, err)
	}
	one := 1
	forward.F = &one
	b2, err := handover.Seal(&forward)
	if err != nil {
		t.Fatal(err)
	}
	var back stateOld
	if err := handover.Open(b2, &back); err != nil || back.B[0] != "x" || back.C.D["k"] != -1 {
		t.Errorf("and back: %+v, %v", back, err)
	}
	for n := range b {
		if err := handover.Open(b[:n], new(stateOld)); err == nil {
			t.Fatalf("%d of %d bytes are a state", n, len(b))
		}
		broken := slices.Clone(b)
		broken[n] ^= 0x10
		if err := handover.Open(broken, new(stateOld)); err == nil {
			t.Fatalf("a bit of byte %d does not matter", n)
		}
	}
	if err := handover.Open(append(slices.Clone(b), 0), new(stateOld)); !errors.Is(err, handover.ErrStateCorrupt) {
		t.Errorf("a byte too many: %v", err)
	}
	next := slices.Clone(b)
	next[11]++
	if err := handover.Open(next, new(stateOld)); !errors.Is(err, handover.ErrStateVersion) || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("the next version: %v", err)
	}
	if err := handover.Open([]byte("something else, and long enough"), new(stateOld)); !errors.Is(err, handover.ErrNoState) {
		t.Errorf("something else: %v", err)
	}
	if _, err := handover.Seal(&struct{ B []byte }{make([]byte, handover.MaxState+1)}); !errors.Is(err, handover.ErrStateSize) {
		t.Errorf("too large: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	old := stateOld{A: 1, B: []string{"x", "y"}}
	old.C.D = map[string]int64{"k": -1}
	b, err := handover.Seal(&old)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:20])
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s stateOld
		if handover.Open(b, &s) == nil {
			if _, err := handover.Seal(&s); err != nil {
				t.Error(err)
			}
		}
		// And what a checksum has been made for.
		var v stateNew
		_ = handover.Open(handover.Reseal(b), &v)
	})
}

func FuzzReadFrame(f *testing.F) {
	var b bytes.Buffer
	_ = handover.WriteFrame(&b, 'x', []byte("text"))
	f.Add(b.Bytes())
	f.Add([]byte{'x', 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		kind, payload, err := handover.ReadFrame(r)
		if err != nil {
			return
		}
		var again bytes.Buffer
		_ = handover.WriteFrame(&again, kind, payload)
		if rest, _ := io.ReadAll(r); !bytes.Equal(append(again.Bytes(), rest...), b) {
			t.Errorf("%q is not %q", again.Bytes(), b)
		}
	})
}
