package proxy

import (
	"net/http"
	"strings"

	"wproxy/core/exchange"
)

// challengePrefix is what the path of a request begins with by which an ACME server
// checks that a host is ours (RFC 8555 8.3).
const challengePrefix = "/.well-known/acme-challenge/"

// reasonChallenge is in the log for the answer to such a request.
const reasonChallenge = "acme_challenge"

// challenge answers h if it is a challenge that is pending: before any route, which
// may redirect, deny or have a plugin that wants credentials. What is not pending is a request like
// any other, since an upstream may look after certificates of its own. On every
// door, and not at port 80 only: ACME servers follow redirects, and what
// is in front of us may have made one.
func (x *state) challenge(h *exchange.Request) (done bool) {
	if x.p.challengeOf == nil || !strings.HasPrefix(h.Path(), challengePrefix) {
		return false
	}
	if h.Method != http.MethodGet && h.Method != http.MethodHead {
		return false
	}
	body, ok := x.p.challengeOf(h.Authority, h.Path())
	if !ok {
		return false
	}
	x.last = outlet{x}
	if x.claim() {
		x.note(reasonChallenge)
		x.own.Reset()
		x.own.Status = http.StatusOK
		x.own.Fields.Add("content-type", "application/octet-stream")
		x.own.Fields.Add("cache-control", "no-store")
		x.push([]byte(body))
		x.pushed()
	}
	return true
}
