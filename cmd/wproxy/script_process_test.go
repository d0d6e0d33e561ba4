package main

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// A process is a wproxy that serves.
type process struct {
	cmd    *exec.Cmd // nil: it is not a child of ours
	pid    int
	args   []string // of run
	stderr string   // the file
	ended  chan struct{}
	once   sync.Once

	mayHandOver bool // to a process that has to be ended, too
	leaves      int  // how many others have handed over in front of it
}

// cmdServe starts wproxy, with its outputs in the files stdout.log and stderr.log.
func cmdServe(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 0)
	startServing(ts, exec.Command(lookPath(ts, "wproxy"), append([]string{"run"}, args...)...), args, nil)
}

// startServing starts what is, or becomes, `wproxy run args`, and waits until it serves. wake, if
// set, is called until then.
func startServing(ts *testscript.TestScript, cmd *exec.Cmd, args []string, wake func()) {
	s := stateOf(ts)
	dir := ts.Getenv("WORK")
	p := &process{cmd: cmd, args: args, stderr: filepath.Join(dir, "stderr.log"), ended: make(chan struct{})}
	stdout, err := os.Create(filepath.Join(dir, "stdout.log"))
	ts.Check(err)
	defer stdout.Close()
	stderr, err := os.Create(p.stderr)
	ts.Check(err)
	defer stderr.Close()

	bin := lookPath(ts, "wproxy")
	p.cmd.Dir = dir
	p.cmd.Env = environ(ts)
	p.cmd.Stdout, p.cmd.Stderr = stdout, stderr
	ts.Check(p.cmd.Start())
	p.pid = p.cmd.Process.Pid
	ts.Setenv("PID", strconv.Itoa(p.pid))
	go func() { // ends with the process, which ts.Defer ends at the latest
		_ = p.cmd.Wait() // ended looks at the code
		close(p.ended)
	}()
	ts.Defer(func() { p.finish(ts) })
	s.wproxy = p

	deadline := time.Now().Add(patience)
	for {
		select {
		case <-p.ended:
			ts.Fatalf("wproxy run ended with code %d:\n%s", p.cmd.ProcessState.ExitCode(), ts.ReadFile("stderr.log"))
		default:
		}
		if wake != nil {
			wake()
		}
		st, err := fetchStatus(ts, bin, args)
		if err == nil && st.PID == p.pid {
			for _, l := range st.Listeners {
				name := strings.ToUpper(strings.ReplaceAll(l.Name, "-", "_"))
				ts.Setenv(name+"_ADDR", strings.Replace(l.Address, "[::]", "127.0.0.1", 1))
			}
			for _, a := range st.Admin {
				if path, ok := strings.CutPrefix(a, "unix:"); ok {
					ts.Setenv("ADMIN_SOCKET", path)
				} else {
					ts.Setenv("ADMIN_ADDR", a)
				}
			}
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("wproxy run does not serve: %v\n%s", err, ts.ReadFile("stderr.log"))
		}
		time.Sleep(20 * time.Millisecond) // polling another process
	}
}

// fetchStatus asks the wproxy that was started with args for its status.
func fetchStatus(ts *testscript.TestScript, bin string, args []string) (*Status, error) {
	cmd := exec.Command(bin, append([]string{"status", "--json"}, args...)...)
	cmd.Dir = ts.Getenv("WORK")
	cmd.Env = environ(ts)
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var st Status
	return &st, json.Unmarshal(out, &st)
}

// environ is the script's environment, as far as wproxy needs it.
func environ(ts *testscript.TestScript) []string {
	env := slices.DeleteFunc(os.Environ(), func(s string) bool {
		return strings.HasPrefix(s, "XDG_") || strings.HasPrefix(s, "HOME=")
	})
	for _, k := range []string{"PATH", "HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "TMPDIR", "GREETING", "TOKEN", "NOTIFY_SOCKET", "WATCHDOG_USEC"} {
		if v := ts.Getenv(k); v != "" {
			env = append(env, k+"="+v)
		}
	}
	return env
}

func lookPath(ts *testscript.TestScript, name string) string {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(dir, name)
		if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() {
			return path
		}
	}
	ts.Fatalf("no %s on the PATH", name)
	return ""
}

// finish ends the process if it still runs, and checks what it said.
func (p *process) finish(ts *testscript.TestScript) {
	p.once.Do(func() {
		if p.mayHandOver {
			endSuccessor(ts, p)
		}
		select {
		case <-p.ended:
		default:
			_ = syscall.Kill(p.pid, syscall.SIGTERM) // it may have ended just now
			_ = syscall.Kill(p.pid, syscall.SIGINT)
		}
		select {
		case <-p.ended:
		case <-time.After(patience):
			_ = syscall.Kill(p.pid, syscall.SIGQUIT) // prints all goroutines
			<-p.ended
			ts.Fatalf("wproxy did not end when told twice:\n%s", ts.ReadFile(p.stderr))
		}
		log := ts.ReadFile(p.stderr)
		if strings.Contains(log, "panic") || strings.Contains(log, "DATA RACE") {
			ts.Fatalf("wproxy's log has a bug:\n%s", log)
		}
	})
}

func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 1)
	signals := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL}
	sig, ok := signals[args[0]]
	if !ok {
		ts.Fatalf("signal %s?", args[0])
	}
	p := stateOf(ts).wproxy
	p.mayHandOver = p.mayHandOver || sig == syscall.SIGUSR2
	ts.Check(syscall.Kill(p.pid, sig))
}

func cmdEnded(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 1)
	p := stateOf(ts).wproxy
	select {
	case <-p.ended:
	case <-time.After(patience):
		ts.Fatalf("wproxy still runs:\n%s", ts.ReadFile(p.stderr))
	}
	if p.cmd == nil {
		return // only its parent knows the code
	}
	if code := strconv.Itoa(p.cmd.ProcessState.ExitCode()); code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 2)
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if ee, ok := errors.AsType[*exec.ExitError](err); ok {
		code = ee.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// cmdSupervise takes the part of systemd (sd_notify(3)) for the wproxy that is started next.
func cmdSupervise(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 1)
	path := filepath.Join(ts.Getenv("XDG_RUNTIME_DIR"), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	ts.Check(err)
	log, err := os.Create(filepath.Join(ts.Getenv("WORK"), "notify.log"))
	ts.Check(err)
	done := make(chan struct{})
	go func() { // ends when c is closed
		defer close(done)
		b := make([]byte, 4096)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			_, _ = log.Write(append(b[:n:n], '\n')) // the script misses what is missing
		}
	}()
	ts.Defer(func() {
		_ = c.Close()
		<-done
		_ = log.Close()
	})
	ts.Setenv("NOTIFY_SOCKET", path)
	ts.Setenv("WATCHDOG_USEC", args[0])
}
