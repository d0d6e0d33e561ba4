package main

import (
	"math"
	"strconv"
)

// The response fields.
const (
	policyName     = "ratelimit-policy"
	limitName      = "ratelimit"
	retryAfterName = "retry-after"

	refusalType = "text/plain; charset=utf-8" // content-type of a refusal
)

// policyField is the value of ratelimit-policy (draft-ietf-httpapi-ratelimit-headers-10): the quota, and the window in
// seconds that it is for; a bucket of another size is added as a parameter, which
// the draft leaves to servers.
func policyField(c *config) string {
	v := `"default";q=` + strconv.FormatInt(c.quota, 10) + ";w=" + strconv.FormatInt(c.window, 10)
	if c.algorithm == tokenBucket && c.burst != c.quota {
		v += ";burst=" + strconv.FormatInt(c.burst, 10)
	}
	return v
}

// appendLimitField appends the value of ratelimit: the tokens left, and the seconds until
// the quota is whole again. (Never before retry-after, as the draft asks: the first
// token comes before the last.)
func appendLimitField(dst []byte, d *decision) []byte {
	dst = append(dst, `"default";r=`...)
	dst = appendDecimal(dst, d.remaining)
	dst = append(dst, ";t="...)
	return appendDecimal(dst, seconds(max(d.full, d.retry)))
}

// appendRetryAfter appends the value of retry-after (RFC 9110, section 10.2.3), at least 1.
func appendRetryAfter(dst []byte, d *decision) []byte {
	return appendDecimal(dst, max(1, seconds(d.retry)))
}

// seconds rounds nanoseconds up.
func seconds(ns int64) int64 { return (ns + 1e9 - 1) / 1e9 }

// appendDecimal appends a number that is not negative: strconv.AppendInt, at a fraction of
// its price in a guest, where each division is one.
func appendDecimal(dst []byte, n int64) []byte {
	var digits [20]byte
	i := len(digits)
	for n > math.MaxUint32 {
		i--
		q := n / 10
		digits[i] = byte('0' + n - 10*q)
		n = q
	}
	for u := uint64(n); ; {
		i--
		q := u * 0xcccccccd >> 35 // u / 10, of 32 bits
		digits[i] = byte('0' + u - 10*q)
		if u = q; u == 0 {
			return append(dst, digits[i:]...)
		}
	}
}
