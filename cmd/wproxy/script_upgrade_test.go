package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdUpgrade runs `wproxy upgrade`, which has to work, and has later commands be about the
// new process.
func cmdUpgrade(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 0)
	old := stateOf(ts).wproxy
	old.mayHandOver = true
	ts.Check(ts.Exec("wproxy", append([]string{"upgrade"}, append(args, old.args...)...)...))
	takeOver(ts, old)
}

// cmdTakeover waits for the process that a signal has had started.
func cmdTakeover(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 0)
	takeOver(ts, stateOf(ts).wproxy)
}

// takeOver waits until another process than old serves, and old has let go of the admin server's
// sockets, from which it would answer, too; and makes it the script's.
func takeOver(ts *testscript.TestScript, old *process) {
	old.mayHandOver = true
	bin := lookPath(ts, "wproxy")
	leaves := old.leaves + 1
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) { // polling another process
		st, err := fetchStatus(ts, bin, old.args)
		if err == nil && st.PID != old.pid && strings.Count(ts.ReadFile(old.stderr), "leaving to the new process") >= leaves {
			p := &process{pid: st.PID, args: old.args, stderr: old.stderr, ended: make(chan struct{}), mayHandOver: true, leaves: leaves}
			go func() { // ends with the process, which ts.Defer ends at the latest
				for alive(p.pid) {
					time.Sleep(10 * time.Millisecond) // not a child of ours
				}
				close(p.ended)
			}()
			ts.Defer(func() { p.finish(ts) })
			stateOf(ts).wproxy = p
			ts.Setenv("PID", strconv.Itoa(p.pid))
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("no other process serves: %v\n%s", err, ts.ReadFile("stderr.log"))
		}
	}
}

// alive reports whether there is a process with that number that has not ended.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return true // there is no /proc here
	}
	_, rest, _ := bytes.Cut(b, []byte(") "))
	return len(rest) > 0 && rest[0] != 'Z' // nobody may have waited for it
}

// endSuccessor ends a process that a script which has failed does not know of.
func endSuccessor(ts *testscript.TestScript, p *process) {
	for range 3 {
		st, err := fetchStatus(ts, lookPath(ts, "wproxy"), p.args)
		if err != nil || st.PID == p.pid {
			return
		}
		_ = syscall.Kill(st.PID, syscall.SIGKILL)
		time.Sleep(20 * time.Millisecond)
	}
}

// cmdActivate is serve by way of systemd-socket-activate, which hands over a listening socket
// called by the names of a listener. It connects to have the program started.
func cmdActivate(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 2)
	address, name := args[0], args[1]
	cmd := exec.Command("systemd-socket-activate", append([]string{
		"--listen=" + address, "--fdname=" + name,
		"--setenv=XDG_RUNTIME_DIR", "--setenv=XDG_CACHE_HOME", "--setenv=HOME",
		lookPath(ts, "wproxy"), "run",
	}, args[2:]...)...)
	startServing(ts, cmd, args[2:], func() { knock(address) })
}

// cmdFree finds addresses that nobody listens on.
func cmdFree(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 1)
	for _, name := range args {
		ts.Setenv(name, hold(ts))
	}
}

// hold is holdAddress until the end of the script.
func hold(ts *testscript.TestScript) string {
	addr, err := holdAddress(ts.Defer)
	ts.Check(err)
	return addr
}

// knock connects to an address and hangs up.
func knock(address string) {
	if c, err := net.DialTimeout("tcp", address, time.Second); err == nil {
		_ = c.Close()
	}
}
