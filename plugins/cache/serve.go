package main

import "wproxy/abi"

// serve answers with what was found. It reports whether it could.
func (x *exchange) serve(info abi.ObjectInfo, how result, now int64) bool {
	return x.serveWith(info, how, now, nil)
}

// serveWith is serve with edits of the head that come first.
func (x *exchange) serveWith(info abi.ObjectInfo, how result, now int64, edits []abi.FieldEdit) bool {
	m, r := &x.meta, &x.request
	s := abi.ObjectServe{Key: x.found, Length: -1, Edits: edits}
	for _, name := range m.withhold {
		if how != revalidated {
			s.Edits = append(s.Edits, abi.FieldEdit{Op: abi.FieldRemove, Name: name})
		}
	}
	age := decimal(min(m.currentAge(now), maxSeconds))
	s.Edits = append(s.Edits, abi.FieldEdit{Op: abi.FieldSet, Name: "age", Value: age})
	if x.c.status {
		s.Edits = append(s.Edits, abi.FieldEdit{Op: abi.FieldSet, Name: "cache-status", Value: x.statusField(how, now)})
	}
	switch {
	case m.status == 200 && notModified(r, m, now):
		s.Status, s.HeadOnly = 304, true
		for _, name := range [...]string{"content-type", "content-encoding", "content-language", "content-range"} {
			s.Edits = append(s.Edits, abi.FieldEdit{Op: abi.FieldRemove, Name: name})
		}
	default:
		if p := wanted(r, m, info.Length, now); p.status != 0 {
			s.Status, s.Offset, s.Length, s.HeadOnly = p.status, p.offset, p.length, p.status == 416
			value := "bytes */" + decimal(info.Length)
			if p.status == 206 {
				value = "bytes " + decimal(p.offset) + "-" + decimal(p.offset+p.length-1) + "/" + decimal(info.Length)
			}
			s.Edits = append(s.Edits, abi.FieldEdit{Op: abi.FieldSet, Name: "content-range", Value: value})
		}
	}
	if !x.host.serve(&s) {
		return false
	}
	x.told(how)
	return true
}

// statusField is the value of Cache-Status (RFC 9211) of an answer with what is stored.
func (x *exchange) statusField(how result, now int64) string {
	v := x.c.name
	switch how {
	case revalidated:
		v += "; fwd=stale; fwd-status=304"
	case stale:
		v += "; hit"
		if x.why == "upstream-error" {
			v = x.c.name + "; fwd=stale; detail=upstream-error"
		}
	case collapsed:
		v += "; hit; collapsed"
	default:
		v += "; hit"
	}
	v += "; ttl=" + decimal(x.meta.lifetime-x.meta.currentAge(now))
	if x.meta.upstream != "" {
		v = x.meta.upstream + ", " + v
	}
	return v
}

// decimal returns a number as text.
func decimal(n int64) string {
	var digits [20]byte
	i, minus := len(digits), n < 0
	if minus {
		n = -n
	}
	for {
		i--
		digits[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			break
		}
	}
	if minus {
		i--
		digits[i] = '-'
	}
	return string(digits[i:])
}
