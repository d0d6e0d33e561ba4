package proxy

import (
	"net/netip"

	"wproxy/core/exchange"
)

// Retryable exposes the pure rule for its table test.
func Retryable(class exchange.Retry, reused, idempotent, held, answered bool, left int) bool {
	return tryFacts{class, reused, idempotent, held, answered, left}.retryable()
}

// Limits that tests reason about.
const (
	MaxHeldBody = maxHeldBody
	DuplexAfter = duplexAfter
)

// ClientOf exposes the walk through a forwarding chain for its fuzz target.
func ClientOf(list string, trust []netip.Prefix, element bool) netip.Addr {
	if element {
		return clientOf(list, trust, parseForwardedElement)
	}
	return clientOf(list, trust, parseForwardedFor)
}

// ParseGRPCTimeout and FormatGRPCTimeout are those of grpc-timeout.
var (
	ParseGRPCTimeout  = parseGRPCTimeout
	FormatGRPCTimeout = formatGRPCTimeout
)
