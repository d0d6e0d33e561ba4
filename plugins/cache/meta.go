package main

import "encoding/binary"

// A kind is what is stored under a key.
type kind uint8

const (
	kindMessage kind = 1 + iota
	kindIndex        // variants are under other keys; vary says which
	kindRefused      // what comes here is not stored: nobody waits for it
)

// A meta is what the plugin notes about a stored message.
type meta struct {
	kind     kind
	status   int
	stored   int64 // when it came or was validated last, in seconds since 1970
	age      int64 // that it had then, in seconds
	lifetime int64 // in seconds
	date     int64 // its Date
	stale    int64 // seconds beyond its lifetime in which it is served while another is fetched
	onError  int64 // and where there is no other
	flags    uint8
	etag     string
	modified string
	upstream string   // Cache-Status of those behind
	withhold []string // fields that need validation (no-cache="...")
	vary     [][]string
}

const (
	flagMustRevalidate = 1 << iota // never stale
	flagNoCache                    // never without validation
	flagHeuristic
)

// metaVersion begins the encoding.
const metaVersion = 1

// encode returns m for the host to keep; see parseMeta.
func (m *meta) encode() []byte {
	dst := append([]byte(nil), metaVersion, byte(m.kind), m.flags)
	for _, n := range [...]int64{int64(m.status), m.stored, m.age, m.lifetime, m.date, m.stale, m.onError} {
		dst = binary.AppendVarint(dst, n)
	}
	for _, s := range [...]string{m.etag, m.modified, m.upstream} {
		dst = appendText(dst, s)
	}
	dst = appendTexts(dst, m.withhold)
	dst = binary.AppendUvarint(dst, uint64(len(m.vary)))
	for _, v := range m.vary {
		dst = appendTexts(dst, v)
	}
	return dst
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendTexts(dst []byte, list []string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for _, s := range list {
		dst = appendText(dst, s)
	}
	return dst
}

// parseMeta reads what append has made. Strings are copies.
func parseMeta(b []byte) (m meta, ok bool) {
	if len(b) < 3 || b[0] != metaVersion {
		return m, false
	}
	m.kind, m.flags = kind(b[1]), b[2]
	r := metaReader{b: b[3:]}
	m.status = int(r.int())
	for _, to := range [...]*int64{&m.stored, &m.age, &m.lifetime, &m.date, &m.stale, &m.onError} {
		*to = r.int()
	}
	for _, to := range [...]*string{&m.etag, &m.modified, &m.upstream} {
		*to = r.text()
	}
	m.withhold = r.texts()
	for n := r.count(); n > 0 && !r.bad; n-- {
		m.vary = append(m.vary, r.texts())
	}
	return m, !r.bad && len(r.b) == 0
}

type metaReader struct {
	b   []byte
	bad bool
}

func (r *metaReader) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads a number of things of at least a byte each.
func (r *metaReader) count() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > uint64(len(r.b)-n) {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *metaReader) text() string {
	n := r.count()
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *metaReader) texts() []string {
	n := r.count()
	if n == 0 {
		return nil
	}
	var out []string
	for ; n > 0 && !r.bad; n-- {
		out = append(out, r.text())
	}
	return out
}

// currentAge returns the age at a time (RFC 9111, 4.2.3).
func (m *meta) currentAge(now int64) int64 { return m.age + max(now-m.stored, 0) }

// fresh reports whether it may be served without asking anybody.
func (m *meta) fresh(now int64) bool {
	return m.flags&flagNoCache == 0 && m.lifetime > m.currentAge(now)
}

// staleFor returns how long it has not been fresh.
func (m *meta) staleFor(now int64) int64 { return m.currentAge(now) - m.lifetime }

// mayBeStale reports whether it may be served although it is not fresh: within seconds of
// that.
func (m *meta) mayBeStale(now, within int64) bool {
	return m.flags&(flagMustRevalidate|flagNoCache) == 0 && within > 0 && m.staleFor(now) < within
}
