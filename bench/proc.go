package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// clockTick is the unit of the times in /proc/PID/stat. USER_HZ is 100 on
// every Linux that Go supports; reading it takes sysconf, which is C.
const clockTick = 10 * time.Millisecond

// A process is one started program: the leader of its own process group, so
// that what it forks ends with it.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string        // file with its stdout and stderr
	done chan struct{} // closed when it has ended and was waited for
}

// start runs args pinned to cpu (-1: not pinned), with env added to the
// environment and its output in the file log.
func start(name string, cpu int, env []string, log string, args ...string) (*process, error) {
	if cpu >= 0 {
		args = append([]string{"taskset", "-c", strconv.Itoa(cpu)}, args...)
	}
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	// Setpgid keeps a Ctrl-C at the terminal away from it: bench ends it in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p := &process{name: name, cmd: cmd, log: log, done: make(chan struct{})}
	go func() { // ends with the process; stop waits for it
		defer close(p.done)
		_ = cmd.Wait() // how it ended is seen by its answers and its log
	}()
	return p, nil
}

// pid returns the id of the process, which is also that of its group.
func (p *process) pid() int { return p.cmd.Process.Pid }

// ended reports whether the process has ended by itself, with the end of what
// it said.
func (p *process) ended() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended: %s", p.name, tail(p.log))
	default:
		return nil
	}
}

// stop ends the process and all it has forked, and waits for it.
func (p *process) stop() {
	group := -p.pid()
	_ = syscall.Kill(group, syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopGrace):
	}
	// Also after an orderly end: workers may have outlived their master.
	_ = syscall.Kill(group, syscall.SIGKILL)
	<-p.done
}

// usage is what a process and its descendants have used.
type usage struct {
	cpu time.Duration // user and system
	rss int64         // resident bytes, shared pages counted in each process
}

// usageOf reads the usage of the process tree below pid.
func usageOf(pid int) (usage, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return usage{}, err
	}
	stats := make(map[int]procStat, len(files))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended since
		}
		if s, err := parseStat(b); err == nil {
			stats[s.pid] = s
		}
	}
	if _, ok := stats[pid]; !ok {
		return usage{}, fmt.Errorf("process %d is gone", pid)
	}
	var u usage
	for _, s := range stats {
		if descends(stats, s.pid, pid) {
			u.cpu += s.cpu
			u.rss += s.rss
		}
	}
	return u, nil
}

// descends reports whether pid is root or one of its descendants.
func descends(stats map[int]procStat, pid, root int) bool {
	for range len(stats) { // the table is not one snapshot and might hold a cycle
		if pid == root {
			return true
		}
		s, ok := stats[pid]
		if !ok {
			return false
		}
		pid = s.parent
	}
	return false
}

// procStat is what bench needs of /proc/PID/stat, see proc(5).
type procStat struct {
	pid, parent int
	cpu         time.Duration
	rss         int64 // bytes
}

// parseStat parses the content of /proc/PID/stat.
func parseStat(b []byte) (procStat, error) {
	// The second field is the name in brackets, which may hold blanks and
	// brackets itself; all after the last one is plain.
	open, closing := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || closing < open {
		return procStat{}, errors.New("stat: no name")
	}
	f := bytes.Fields(b[closing+1:]) // f[0] is field 3, the state
	const parent, utime, stime, rss = 4 - 3, 14 - 3, 15 - 3, 24 - 3
	if len(f) <= rss {
		return procStat{}, errors.New("stat: too few fields")
	}
	var errs []error
	number := func(b []byte) int64 {
		n, err := strconv.ParseInt(string(b), 10, 64)
		errs = append(errs, err)
		return n
	}
	s := procStat{
		pid:    int(number(bytes.TrimSpace(b[:open]))),
		parent: int(number(f[parent])),
		cpu:    time.Duration(number(f[utime])+number(f[stime])) * clockTick,
		rss:    number(f[rss]) * int64(os.Getpagesize()),
	}
	return s, errors.Join(errs...)
}

// tail returns the last bytes of a file, for messages.
func tail(name string) string {
	const most = 600
	b, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	b = bytes.TrimSpace(b)
	if len(b) > most {
		b = b[len(b)-most:]
	}
	if len(b) == 0 {
		return "it said nothing"
	}
	return string(b)
}

// output runs a program to its end and returns what it printed.
func output(ctx context.Context, args ...string) (string, error) {
	out, err := outputAlways(ctx, args...)
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", args[0], err, out)
	}
	return out, nil
}

// outputAlways is output for programs that print and then fail.
func outputAlways(ctx context.Context, args ...string) (string, error) {
	b, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	return string(bytes.TrimSpace(b)), err
}
