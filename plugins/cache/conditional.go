package main

import "strings"

// notModified evaluates the conditions of a GET or HEAD (RFC 9110, 13.2.2) on what is
// stored. Conditions that are about changes by others, If-Match and If-Unmodified-Since, are the upstream's.
func notModified(r *head, m *meta, now int64) bool {
	if r.has("if-none-match") {
		for _, p := range r.list() {
			if p.Name == "if-none-match" && matchesAny(p.Value, m.etag) {
				return true
			}
		}
		return false
	}
	since, ok := parseDate(r.get("if-modified-since"), now)
	if !ok {
		return false
	}
	if m.modified != "" {
		t, ok := parseDate(m.modified, now)
		return ok && t <= since
	}
	return m.date <= since // what is not known to have changed before it was made has not
}

// matchesAny compares entity tags weakly (RFC 9110, 8.8.3.2).
func matchesAny(list, etag string) bool {
	if strings.Trim(list, " \t") == "*" {
		return true
	}
	etag = strings.TrimPrefix(etag, "W/")
	for list != "" && etag != "" {
		list = strings.TrimLeft(list, " \t,")
		list = strings.TrimPrefix(list, "W/")
		if list == "" || list[0] != '"' {
			return false
		}
		end := strings.IndexByte(list[1:], '"')
		if end < 0 {
			return false
		}
		if list[:end+2] == etag {
			return true
		}
		list = list[end+2:]
	}
	return false
}

// A part is what a request wants of a message.
type part struct {
	offset, length int64 // -1: all
	status         int   // 206, or 416; 0: the whole
}

// wanted returns the part that a request asks for, of a message of size bytes; size -1: not known yet.
// Several ranges at once get the whole, as a server may answer (RFC 9110, 14.2).
func wanted(r *head, m *meta, size, now int64) part {
	whole := part{0, -1, 0}
	value, ok := r.find("range")
	if !ok || r.get(":method") != "GET" || size < 0 || m.status != 200 || r.count("range") > 1 {
		return whole
	}
	if cond, ok := r.find("if-range"); ok && !ifRange(cond, m, now) {
		return whole
	}
	if len(value) < 6 || !equalFold(value[:6], "bytes=") {
		return whole
	}
	first, last, ok := strings.Cut(strings.Trim(value[6:], " \t"), "-")
	from, ok1 := number(first)
	to, ok2 := number(last)
	switch {
	case !ok || first == "" && !ok2 || first != "" && !ok1 || last != "" && !ok2 || first != "" && last != "" && to < from:
		return whole // not one range
	case first == "":
		from = max(size-to, 0)
		to = size - 1
	case last == "" || to >= size:
		to = size - 1
	}
	if from >= size || size == 0 || from > to {
		return part{0, 0, 416}
	}
	return part{from, to - from + 1, 206}
}

// ifRange evaluates If-Range (RFC 9110, 13.1.5): a strong tag, or exactly the date.
func ifRange(cond string, m *meta, now int64) bool {
	if strings.HasPrefix(cond, `"`) {
		return cond == m.etag
	}
	t, ok := parseDate(cond, now)
	if !ok || m.modified == "" {
		return false
	}
	have, ok := parseDate(m.modified, now)
	return ok && have == t && m.date >= t+1
}
