package proxy

import (
	"net/netip"
	"time"

	"wproxy/core/access"
	"wproxy/core/exchange"
	"wproxy/core/metrics"
)

// Retryable exposes the pure rule for its table test.
func Retryable(class exchange.Retry, reused, idempotent, held, answered bool, left int) bool {
	kind := OnReset
	if class == exchange.RetryAlways {
		kind = OnConnect
	}
	return tryFacts{
		class: class, kind: kind, on: DefaultOn, reused: reused, idempotent: idempotent, held: held, answered: answered, left: left,
	}.retryable()
}

// Limits that tests reason about.
const (
	MaxHeldBody = DefaultBodyBuffer
	DuplexAfter = duplexAfter
)

// ClientOf exposes the walk through a forwarding chain for its fuzz target.
func ClientOf(list string, trust []netip.Prefix, element bool) netip.Addr {
	if element {
		return clientOf(list, trust, parseForwardedElement)
	}
	return clientOf(list, trust, parseForwardedFor)
}

// CookieValue exposes the search for a cookie for its fuzz target.
func CookieValue(f *exchange.Fields, name string) string { return cookieValue(f, name) }

// BackoffOf exposes how long a back-off is.
func BackoffOf(first, longest time.Duration, tries int) time.Duration {
	r := Retry{Backoff: first, MaxBackoff: longest}
	return r.backoff(tries)
}

// ParseGRPCTimeout and FormatGRPCTimeout are those of grpc-timeout.
var (
	ParseGRPCTimeout  = parseGRPCTimeout
	FormatGRPCTimeout = formatGRPCTimeout
)

// OutcomeOf exposes whose doing an exchange's end was for its table test.
func OutcomeOf(r *access.Record) metrics.Outcome { return outcomeOf(r) }
