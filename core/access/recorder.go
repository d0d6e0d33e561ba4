package access

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Kind is why a [Recorder] keeps an exchange.
type Kind uint8

// The kinds. An exchange is of the first that fits.
const (
	Ordinary Kind = iota // it is not kept
	Trapped              // a plugin failed
	Failed               // the answer was a 5xx, or broke off
	Retried              // it took more than one try
	Refused              // wproxy, or a plugin, did not want it
	Slow                 // the answer did not begin, or the connection was not joined with an upstream, within SlowTime
	kinds                // how many there are
)

var kindNames = [kinds]string{"", "trapped", "failed", "retried", "refused", "slow"}

// String returns the name, one word.
func (k Kind) String() string { return kindNames[min(k, kinds-1)] }

// A Recorder remembers the last notable exchanges, each as the line that the access log
// has of it in JSON, without the fields that plugins added and without the values of
// query parameters whose names say that they are secret. Kinds do not displace each
// other: a scan for routes that are not there leaves the last trap where it is.
//
// Its memory is bounded, and an ordinary exchange costs a few comparisons. It is safe for
// concurrent use. A nil Recorder keeps nothing. Use [NewRecorder].
type Recorder struct {
	traps atomic.Int32 // request ids in pending

	mu sync.Mutex
	// Guarded by mu.
	entries [kinds][perKind]recorded // rings
	counts  [kinds]uint64            // exchanges kept so far
	seq     uint64
	enc     encoder
	scratch []byte
	short   Record               // scratch, too: what is kept of a record
	pending [pendingTraps]string // ids of requests for which a plugin has trapped; a ring
	next    int
}

type recorded struct {
	seq  uint64
	line []byte // is used again
}

// An Entry is an exchange that was kept.
type Entry struct {
	Seq  uint64 // the first is 1; later ones have higher numbers
	Kind Kind
	Line []byte // JSON, without the end of the line
}

// NewRecorder makes a Recorder.
func NewRecorder() *Recorder { return &Recorder{} }

// Trap says that a plugin has trapped for a request that is still under way: it is kept
// even if its answer does not show it. It may be called with locks held.
func (r *Recorder) Trap(requestID string) {
	if r == nil || requestID == "" {
		return
	}
	requestID = strings.Clone(requestID)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending[r.next] == "" {
		r.traps.Add(1)
	}
	r.pending[r.next] = requestID
	r.next = (r.next + 1) % len(r.pending)
}

// Wants returns as what rec is to be kept; [Ordinary]: it is not.
func (r *Recorder) Wants(rec *Record) Kind {
	if r == nil {
		return Ordinary
	}
	if r.traps.Load() > 0 && r.hasTrapped(rec.RequestID) {
		return Trapped
	}
	return kindOf(rec)
}

// hasTrapped reports whether Trap was called for a request, and forgets it.
func (r *Recorder) hasTrapped(requestID string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.Index(r.pending[:], requestID)
	if i < 0 || requestID == "" {
		return false
	}
	r.pending[i] = ""
	r.traps.Add(-1)
	return true
}

func kindOf(rec *Record) Kind {
	switch {
	case strings.HasPrefix(rec.Reason, "plugin_failed:"):
		return Trapped
	case rec.TCP:
		return kindOfConnection(rec)
	case rec.Status >= 500:
		return Failed
	case rec.Reason == "" || rec.Reason == "client_gone":
	case rec.Status >= 400:
		return Refused
	case brokeOff(rec.Reason):
		return Failed
	}
	switch {
	case len(rec.Retried) > 0:
		return Retried
	case rec.FirstByte >= SlowTime,
		rec.FirstByte == 0 && rec.Total >= SlowTime && rec.Status != 101: // nothing came from an upstream
		return Slow
	}
	return Ordinary
}

// kindOfConnection is kindOf for a TCP connection, which may last for any time, and which
// either side may end as it likes.
func kindOfConnection(rec *Record) Kind {
	switch reason := rec.Reason; {
	case reason == "", slices.Contains([]string{"client_gone", "idle_timeout", "timeout", "drain", "route_gone", "no_hello"}, reason):
	case brokeOff(reason), reason == "no_server", reason == "queue_full", reason == "queue_timeout", reason == "too_many_reloads":
		return Failed
	default:
		return Refused
	}
	switch {
	case len(rec.Retried) > 0:
		return Retried
	case rec.Connect >= SlowTime:
		return Slow
	}
	return Ordinary
}

// brokeOff tells the reasons why an answer that had begun did not end well.
func brokeOff(reason string) bool {
	return strings.HasPrefix(reason, "upstream_") || strings.HasPrefix(reason, "plugin_") && !strings.HasPrefix(reason, "plugin_reply") ||
		slices.Contains([]string{"truncated", "reset", "read_timeout", "timeout", "internal", "too_many_reloads"}, reason)
}

// Keep keeps rec, which is borrowed, as k. It does not wait: if another exchange is being
// kept at this very moment, this one is not.
func (r *Recorder) Keep(k Kind, rec *Record) {
	if r == nil || k == Ordinary || k >= kinds || !r.mu.TryLock() {
		return
	}
	defer r.mu.Unlock()
	short := &r.short
	*short = *rec
	defer func() { *short = Record{} }() // its strings are borrowed
	short.Fields = nil
	short.Plugins = short.Plugins[:min(len(short.Plugins), keptPlugins)]
	short.Host, short.Path = cutTo(short.Host, keptHost), RedactQuery(cutTo(short.Path, keptPath))
	line := r.enc.appendJSON(r.scratch[:0], short)
	if len(line) > keptLine { // much of it has to be escaped
		short.Plugins = nil
		short.Host, short.Path, short.Reason = cutTo(short.Host, 64), cutTo(short.Path, 256), cutTo(short.Reason, 64)
		short.Method, short.RequestID, short.Client = cutTo(short.Method, 32), cutTo(short.RequestID, 64), cutTo(short.Client, 64)
		line = r.enc.appendJSON(line[:0], short)
	}
	r.scratch = line
	e := &r.entries[k][r.counts[k]%perKind]
	r.counts[k]++
	r.seq++
	e.seq = r.seq
	e.line = append(e.line[:0], line[:len(line)-1]...)
	if cap(r.scratch) > 8*keptLine {
		r.scratch = nil
	}
}

// Since returns what was kept after the entry numbered after, as far as it is remembered,
// oldest first.
func (r *Recorder) Since(after uint64) []Entry {
	if r == nil {
		return nil
	}
	var out []Entry
	r.mu.Lock()
	for k := range r.entries {
		for i := range r.entries[k] {
			if e := &r.entries[k][i]; e.seq > after {
				out = append(out, Entry{e.seq, Kind(k), slices.Clone(e.line)}) //nolint:gosec // a few kinds
			}
		}
	}
	r.mu.Unlock()
	slices.SortFunc(out, func(a, b Entry) int { return int(a.Seq) - int(b.Seq) }) //nolint:gosec // counts of requests
	return out
}

// cutTo bounds s to n bytes.
func cutTo(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// SlowTime is how long the head of an answer may take before the exchange is notable.
const SlowTime = time.Second
