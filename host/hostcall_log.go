package host

import (
	"fmt"
	"slices"
	"strings"
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

// hostGetLogLevel is proxy_get_log_level(*out).
func hostGetLogLevel(v *vm, a []uint64) abi.Status { return v.put32(a[0], uint32(v.p.o.LogLevel)) }

// logState bounds what a VM logs and keeps its last lines.
type logState struct {
	tokens  float64 // lines that may be logged now
	refill  time.Time
	dropped uint64 // since the last line that got through
	ring    [keptLogLines]string
	next    int // where in ring the next line goes
}

// allow takes a token out of the bucket.
func (l *logState) allow(now time.Time) bool {
	if l.refill.IsZero() {
		l.tokens = logBurst
	} else {
		l.tokens = min(l.tokens+now.Sub(l.refill).Seconds()*logRate, logBurst)
	}
	l.refill = now
	if l.tokens < 1 {
		l.dropped++
		return false
	}
	l.tokens--
	return true
}

func (l *logState) keep(line string) {
	l.ring[l.next] = line
	l.next = (l.next + 1) % keptLogLines
}

// kept returns the last lines, oldest first.
func (l *logState) kept() []string {
	lines := append(slices.Clone(l.ring[l.next:]), l.ring[:l.next]...)
	return slices.DeleteFunc(lines, func(s string) bool { return s == "" })
}

// logGuest logs a line of the guest; msg is borrowed. mu is held.
func (v *vm) logGuest(level abi.LogLevel, msg string) {
	if level < v.p.o.LogLevel {
		return
	}
	if !v.logs.allow(v.time()) {
		v.p.dropped.Add(1)
		return
	}
	if n := v.logs.dropped; n > 0 {
		v.logs.dropped = 0
		v.p.warnf("%d log lines of the plugin were dropped: more than %d a second", n, logRate)
	}
	msg = cutLine(msg, maxLogLine)
	v.logs.keep(cutLine(msg, keptLogLine))
	e := LogEntry{Plugin: v.p.o.Name, Level: level, Guest: true, Message: msg}
	if c := v.current(); c != nil {
		e.Context = c.id
	}
	v.p.h.logEntry(e)
}

// warn logs something about the guest once per VM and message; messages are
// constants of the program or bounded in number. mu is held.
func (v *vm) warn(msg string) {
	if _, done := v.warned[msg]; done {
		return
	}
	if v.warned == nil {
		v.warned = map[string]struct{}{}
	}
	v.warned[msg] = struct{}{}
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
	end := n
	for end > n-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return fmt.Sprintf("%s... (%d bytes more)", s[:end], len(s)-end)
}
