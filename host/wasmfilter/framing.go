package wasmfilter

import (
	"errors"
	"strconv"

	"wproxy/core/exchange"
)

var errLength = errors.New("the plugin changed the body after its length had been announced")

// setLength sets the length of a message, and what guests see of it.
func setLength(length *int64, fields *exchange.Fields, n int64) {
	*length = n
	if n < 0 {
		fields.Remove(contentLength)
		return
	}
	fields.Set(contentLength, strconv.FormatInt(n, 10))
}

// bodylessLocked reports whether the message that has just come cannot have a
// body: those that ended with their head do not need to be asked about.
func (d *direction[H]) bodylessLocked() bool {
	if r, ok := any(d.head).(*exchange.Response); ok {
		return d.f.x.Request.Method == "HEAD" || noBody(r.Status)
	}
	return false
}

// noBody reports whether a response with this status never has a body (RFC 9112
// 6.3 rule 1).
func noBody(status int) bool { return status == 204 || status == 304 }

// frameStatusLocked makes the framing fit a status that the guest has changed to,
// or from, one without a body; true if nothing more is to be done.
func (d *direction[H]) frameStatusLocked(h *exchange.Response) bool {
	switch {
	case noBody(h.Status) && !d.wasNoBody:
		setLength(&h.Length, &h.Fields, exchange.LengthUnknown)
		h.Length = 0
		d.drop = !d.endHead
		return true
	case d.wasNoBody && !noBody(h.Status) && d.f.x.Request.Method != "HEAD" && d.endHead:
		// The length was that of a representation that does not come.
		setLength(&h.Length, &h.Fields, 0)
		return true
	}
	return false
}
