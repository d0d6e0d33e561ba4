package proxy

import "wproxy/core/exchange"

// Retryable exposes the pure rule for its table test.
func Retryable(class exchange.Retry, reused, idempotent, held, answered bool, left int) bool {
	return tryFacts{class, reused, idempotent, held, answered, left}.retryable()
}

// Limits that tests reason about.
const (
	MaxHeldBody = maxHeldBody
	DuplexAfter = duplexAfter
)
