package proxy

import (
	"math"
	"strconv"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/filter"
)

// grpcTimeout is the field by which a client says how long it waits for the whole call
// (gRPC over HTTP2, "Requests").
const grpcTimeout = "grpc-timeout"

// reasonBadTimeout is the reason of a request whose grpc-timeout is none.
const reasonBadTimeout = "bad_grpc_timeout"

// parseGRPCTimeout parses TimeoutValue TimeoutUnit: one to eight digits and a unit. Zero is
// a time that is over; one that is longer than a Duration is the longest there is.
func parseGRPCTimeout(s string) (d time.Duration, ok bool) {
	if len(s) < 2 || len(s) > maxGRPCDigits+1 {
		return 0, false
	}
	unit := grpcUnit(s[len(s)-1])
	if unit == 0 {
		return 0, false
	}
	n := int64(0)
	for i := range len(s) - 1 {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	if n > math.MaxInt64/int64(unit) {
		return math.MaxInt64, true
	}
	return time.Duration(n) * unit, true
}

// grpcUnit returns what a unit stands for, 0 if it is none.
func grpcUnit(c byte) time.Duration {
	switch c {
	case 'H':
		return time.Hour
	case 'M':
		return time.Minute
	case 'S':
		return time.Second
	case 'm':
		return time.Millisecond
	case 'u':
		return time.Microsecond
	case 'n':
		return time.Nanosecond
	}
	return 0
}

// formatGRPCTimeout writes d, at least a nanosecond, in the finest unit that has room for
// it. What is lost is less than a part in a million, and the upstream gives up rather
// early than late.
func formatGRPCTimeout(d time.Duration) string {
	d = max(d, 1)
	for _, unit := range "numSM" {
		if n := int64(d / grpcUnit(byte(unit))); n < maxGRPCValue {
			return strconv.FormatInt(n, 10) + string(unit)
		}
	}
	return strconv.FormatInt(min(int64(d/time.Hour), maxGRPCValue-1), 10) + "H"
}

// readGRPCTimeout notes how long a client that speaks gRPC waits; the route's own time may
// be shorter. True for a value that is none: the request is to be refused then, as servers
// do, since it might mean one thing here and another there.
func (x *state) readGRPCTimeout(h *exchange.Request) (bad bool) {
	value, ok := h.Fields.Get(grpcTimeout)
	if !ok {
		return false
	}
	d, ok := parseGRPCTimeout(value)
	if !ok || h.Fields.Joined(grpcTimeout) != value {
		return true
	}
	x.grpcUntil = x.start.Add(min(d, maxGRPCTimeout))
	return false
}

// passGRPCTimeout tells the upstream how much is left of the time of a call: of what the
// client gave and a filter has left of that, and of the route's, also where the client gave
// none: the call is over then, and the upstream would work for nobody.
func (x *state) passGRPCTimeout(h *exchange.Request) {
	if x.deadline.IsZero() || !x.grpc && x.grpcUntil.IsZero() {
		return
	}
	value, ok := h.Fields.Get(grpcTimeout)
	if !ok && !x.grpcUntil.IsZero() {
		return // a filter has taken it away
	}
	left := x.deadline.Sub(x.p.now()) // x.grpcUntil or before
	if d, ok := parseGRPCTimeout(value); ok && d < left {
		left = d
	}
	h.Fields.Set(grpcTimeout, formatGRPCTimeout(left))
}

// noteGRPC keeps the status that an answer in gRPC ends with, for the log.
func (x *state) noteGRPC(f *exchange.Fields) {
	if !x.grpc {
		return
	}
	if code, ok := filter.GRPCStatusOf(f); ok {
		x.rec.GRPC, x.rec.GRPCStatus = true, code
	}
}

// endCut ends an answer in gRPC whose head has gone out and whose rest does not come, for
// the reason e, with a trailer that says so: the status of a call is in its trailer alone,
// and a client that gets a reset instead can only guess at it. False if that cannot be
// done. HTTP/1.1 has readers that do not look at trailers, to whom a cut answer must not
// look whole.
func (x *state) endCut(e *exchange.Error) bool {
	if e == nil || e.Side == exchange.ClientSide || !x.grpc || x.req.Version != exchange.HTTP2 && x.req.Version != exchange.HTTP3 {
		return false
	}
	x.mu.Lock()
	reason := x.reason
	x.mu.Unlock()
	var f exchange.Fields
	filter.AddGRPCStatus(&f, filter.GRPCCode(statusOf(e), reason), string(x.fx.AppendGRPCMessage(nil, statusOf(e), reason)))
	return outlet{x}.Trailer(&f) == nil
}
