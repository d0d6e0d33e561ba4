package host

import (
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"wproxy/abi"
)

// hostLog is proxy_log(level, ptr, len).
func hostLog(v *vm, a []uint64) abi.Status {
	level := abi.LogLevel(uint32(a[0]))
	msg, ok := v.text(a[1], a[2])
	switch {
	case !ok:
		return abi.StatusInvalidMemoryAccess
	case !level.Known():
		return abi.StatusBadArgument
	}
	v.logGuest(level, msg)
	return abi.StatusOK
}

// SetLogLevel drops lines of all guests below level, from now on, on top of what
// PluginOptions.LogLevel drops of each. Until it is called, level is LogTrace.
func (h *Host) SetLogLevel(level abi.LogLevel) { h.level.Store(int32(level)) } //nolint:gosec // one of six

// logLevel is the level below which lines are dropped.
func (p *Plugin) logLevel() abi.LogLevel {
	return max(p.o.LogLevel, abi.LogLevel(p.h.level.Load())) //nolint:gosec // one of six
}

// hostGetLogLevel is proxy_get_log_level(*out).
func hostGetLogLevel(v *vm, a []uint64) abi.Status { return v.put32(a[0], uint32(v.p.logLevel())) }

// A lineRate bounds what the VMs of a plugin log together: a guest that ends its VM with
// each call would have a fresh burst each time.
type lineRate struct {
	mu sync.Mutex // a leaf lock
	// Guarded by mu.
	tokens  float64 // lines that may be logged now
	refill  time.Time
	dropped uint64 // since the last line that got through
}

// allow takes a token out of the bucket. dropped is how many lines had none since the
// last that had one; those are told once.
func (l *lineRate) allow(now time.Time) (dropped uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refill.IsZero() {
		l.tokens, l.refill = logBurst, now
	} else if past := now.Sub(l.refill); past > 0 { // each VM has the time at which its call began
		l.tokens = min(l.tokens+past.Seconds()*logRate, logBurst)
		l.refill = now
	}
	if l.tokens < 1 {
		l.dropped++
		return 0, false
	}
	l.tokens--
	dropped, l.dropped = l.dropped, 0
	return dropped, true
}

// logState keeps a VM's last lines.
type logState struct {
	ring [keptLogLines][]byte // reused; empty: none
	next int                  // where in ring the next line goes

	// Of a Go guest that panics: what it panics with, which is written to fd 2 in
	// the call in progress, and whether the stacks of its goroutines follow.
	panic string
	stack bool
}

// keep remembers a line, which is borrowed, whether or not it is logged: the next thing
// that the guest does may be to trap.
func (l *logState) keep(line string) {
	if line == "" {
		return
	}
	b := appendCut(l.ring[l.next][:0], line, keptLogLine)
	l.ring[l.next] = b
	l.next = (l.next + 1) % keptLogLines
}

// keepStderr is keep for what is written to fd 2, where Go's runtime says why it ends:
// the message is pinned, and the stacks behind it, which the trap has too, do not push
// out what the guest has logged.
func (l *logState) keepStderr(line string) {
	switch {
	case l.panic == "" && (strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:")):
		l.panic = cutLine(line, keptLogLine)
	case strings.HasPrefix(line, "goroutine "):
		l.stack = l.panic != ""
		return
	case l.stack || strings.HasPrefix(line, "\t"):
		return
	}
	l.keep(line)
}

// calmed forgets a panic message: the guest has survived the call.
func (l *logState) calmed() { l.panic, l.stack = "", false }

// kept returns the last lines, oldest first.
func (l *logState) kept() []string {
	var lines []string
	for i := range l.ring {
		if b := l.ring[(l.next+i)%keptLogLines]; len(b) > 0 {
			lines = append(lines, string(b))
		}
	}
	return lines
}

// logGuest logs a line of the guest; msg is borrowed. mu is held.
func (v *vm) logGuest(level abi.LogLevel, msg string) {
	v.logs.keep(msg)
	v.logLine(level, msg)
}

// logStderr is logGuest for a line written to fd 2.
func (v *vm) logStderr(msg string) {
	v.logs.keepStderr(msg)
	v.logLine(abi.LogError, msg)
}

// logLine logs a line unless it is below the level or one too many.
func (v *vm) logLine(level abi.LogLevel, msg string) {
	if level < v.p.logLevel() {
		return
	}
	dropped, ok := v.p.lines.allow(v.time())
	if !ok {
		v.p.dropped.Add(1)
		return
	}
	if dropped > 0 {
		v.p.warnf("%d log lines of the plugin were dropped: more than %d a second", dropped, logRate)
	}
	msg = cutLine(msg, maxLogLine)
	e := LogEntry{Plugin: v.p.o.Name, Level: level, Guest: true, Message: msg}
	if c := v.current(); c != nil {
		e.Context = c.id
	}
	v.p.h.logEntry(e)
}

// warn logs something about the guest once per VM and message; messages are
// constants of the program or bounded in number. mu is held.
func (v *vm) warn(msg string) { v.warnOnce(msg, msg) }

// warnOnce is warn for a message that has more in it than is bounded: there is one line
// for key.
func (v *vm) warnOnce(key, msg string) {
	if _, done := v.warned[key]; done {
		return
	}
	if v.warned == nil {
		v.warned = map[string]struct{}{}
	}
	v.warned[key] = struct{}{}
	e := LogEntry{Plugin: v.p.o.Name, Level: abi.LogWarn, Message: msg}
	if c := v.current(); c != nil {
		e.Context = c.id
	}
	v.p.h.logEntry(e)
}

// cutLine returns an owned copy of at most about n bytes of s, cut between
// characters, and says so at its end.
func cutLine(s string, n int) string {
	if len(s) <= n {
		return strings.Clone(s)
	}
	return string(appendCut(nil, s, n))
}

// appendCut appends what cutLine returns.
func appendCut(dst []byte, s string, n int) []byte {
	if len(s) <= n {
		return append(dst, s...)
	}
	end := n
	for end > n-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return fmt.Appendf(append(dst, s[:end]...), "... (%d bytes more)", len(s)-end)
}
