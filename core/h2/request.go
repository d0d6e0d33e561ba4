package h2

import (
	"errors"
	"net/http"
	"strings"

	"wproxy/core/exchange"
)

// A requestHead is what a field section says before it is judged.
type requestHead struct {
	method, scheme, authority, path string

	host    string
	hosts   int
	cookies int
	length  int64 // content-length; exchange.LengthUnknown: none
	expect  bool
}

// parseRequest makes r of a field section (RFC 9113 8.3.1). scheme is the
// connection's, end says that there is no body. After a fault, r and h have what was
// found before it.
func parseRequest(r *exchange.Request, h *requestHead, b *block, scheme string, end bool) fault {
	*h = requestHead{length: exchange.LengthUnknown}
	r.Version, r.Scheme = exchange.HTTP2, scheme
	regular, f := h.pseudo(b)
	r.Method, r.Target, r.Authority = h.method, h.path, h.authority
	if f.ok() {
		f = b.fault // it is too large; what is known of it is in h
	}
	if f.ok() {
		f = h.collect(&r.Fields, b.fields[regular:])
	}
	if h.authority == "" {
		r.Authority = h.host
	}
	if !f.ok() {
		return f
	}
	if f := h.judge(scheme); !f.ok() {
		return f
	}
	if h.cookies > 1 {
		joinCookies(&r.Fields, h.cookies)
	}
	if f := h.setTarget(r); !f.ok() {
		return f
	}
	return h.setFraming(r, end)
}

// pseudo takes the pseudo-fields, which come first, and returns how many they are.
func (h *requestHead) pseudo(b *block) (int, fault) {
	var seen [maxPseudo]bool
	for i := range b.fields {
		f := &b.fields[i]
		if f.Name == "" || f.Name[0] != ':' {
			return i, h.complete(&seen)
		}
		var to *string
		var which int
		switch f.Name {
		case ":method":
			to, which = &h.method, 0
		case ":scheme":
			to, which = &h.scheme, 1
		case ":authority":
			to, which = &h.authority, 2
		case ":path":
			to, which = &h.path, 3
		default:
			return i, bad(ReasonPseudo)
		}
		if seen[which] {
			return i, bad(ReasonPseudo)
		}
		*to, seen[which] = f.Value, true
	}
	return len(b.fields), h.complete(&seen)
}

// complete judges which pseudo-fields there are.
func (h *requestHead) complete(seen *[maxPseudo]bool) fault {
	if seen[0] && h.method == http.MethodConnect {
		return fault{} // it is refused later, whatever else it has
	}
	if !seen[0] || !seen[1] || !seen[3] || h.path == "" {
		return bad(ReasonPseudo)
	}
	return fault{}
}

// collect judges the fields and adds to dst those that are not the codec's business.
func (h *requestHead) collect(dst *exchange.Fields, list []exchange.Field) fault {
	for i := range list {
		f := &list[i]
		if f.Name != "" && f.Name[0] == ':' {
			return bad(ReasonPseudo) // behind a field
		}
		if x := checkField(f); !x.ok() {
			return x
		}
		switch f.Name {
		case "host":
			h.hosts++
			h.host = f.Value
			continue
		case "content-length":
			n, ok := parseLength(f.Value)
			switch {
			case !ok:
				return bad(ReasonBadLength)
			case h.length >= 0:
				return bad(ReasonManyLengths)
			}
			h.length = n
		case "expect":
			if !exchange.EqualFold(f.Value, "100-continue") {
				return fault{http.StatusExpectationFailed, ReasonBadExpect}
			}
			h.expect = true
			continue
		case "cookie":
			h.cookies++
		case "te":
			if dst.Has("te") {
				continue
			}
		case "http2-settings", "proxy-authenticate", "proxy-authorization", "proxy-authentication-info":
			continue // hop by hop, as in package h1
		}
		dst.Add(f.Name, f.Value)
	}
	return fault{}
}

// judge judges method and scheme.
func (h *requestHead) judge(scheme string) fault {
	switch {
	case len(h.method) > maxMethod:
		return fault{http.StatusNotImplemented, ReasonBadMethod}
	case !isMethod(h.method):
		return bad(ReasonBadMethod)
	case h.method == http.MethodConnect:
		// Extended CONNECT (RFC 8441) would come in here: it has :protocol.
		return fault{http.StatusNotImplemented, ReasonConnect}
	case h.scheme != scheme && !exchange.EqualFold(h.scheme, scheme):
		return bad(ReasonScheme)
	case len(h.path) > maxTarget:
		return fault{http.StatusRequestURITooLong, ReasonTargetTooLong}
	}
	return fault{}
}

// setTarget parses :path, :authority and host into r.
func (h *requestHead) setTarget(r *exchange.Request) fault {
	switch {
	case h.hosts > 1:
		return bad(ReasonRepeatedHost)
	case h.authority == "" && h.host == "":
		return bad(ReasonNoHost)
	}
	authority := h.authority
	if authority == "" {
		authority = h.host
	} else if h.hosts == 1 && h.host != authority {
		// RFC 9113 8.3.1: host "MUST NOT" differ. Compared is what they mean.
		if err := r.ParseAuthority(h.host); err != nil {
			return faultOf(err)
		}
		was := r.Authority
		if err := r.ParseAuthority(authority); err != nil {
			return faultOf(err)
		}
		if r.Authority != was {
			return bad(ReasonHosts)
		}
	}
	if err := r.ParseAuthority(authority); err != nil {
		return faultOf(err)
	}
	if err := r.ParseTarget(h.path); err != nil {
		return faultOf(err)
	}
	return fault{}
}

func faultOf(err error) fault {
	if e, ok := errors.AsType[*exchange.Error](err); ok {
		return fault{e.Status, e.Reason}
	}
	return bad(ReasonBadTarget)
}

// setFraming sets what r says of the body.
func (h *requestHead) setFraming(r *exchange.Request, end bool) fault {
	switch {
	case end && h.length > 0:
		return bad(ReasonWrongLength)
	case end:
		r.Length = 0
	default:
		r.Length = h.length
	}
	r.ExpectContinue = h.expect && !end && r.Length != 0
	return fault{}
}

// joinCookies makes one field of the n cookie fields of f, in the place of the first
// (RFC 9113 8.2.3: before they are passed on to what is not HTTP/2).
func joinCookies(f *exchange.Fields, n int) {
	all := make([]string, 0, n)
	for name, value := range f.All() {
		if name == "cookie" && value != "" { // or a space would be left at an end
			all = append(all, value)
		}
	}
	f.Set("cookie", strings.Join(all, "; "))
}

// malformed reports whether a request with this fault breaks RFC 9113 rather than
// what requests mean: it gets a RST_STREAM behind its answer (RFC 9113 8.1.1).
func malformed(f fault) bool {
	switch f.reason {
	case ReasonPseudo, ReasonBadField, ReasonBadValue, ReasonConnSpecific, ReasonWrongLength,
		ReasonBadLength, ReasonManyLengths:
		return true
	}
	return false
}
