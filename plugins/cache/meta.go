package main

import (
	"encoding/binary"
	"slices"
)

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
	lists    []byte   // of an index, encoded: see vary
}

// own copies what it has of others to b, which may be longer then.
func (m *meta) own(b []byte) []byte {
	b, m.etag = hold(b, m.etag)
	b, m.modified = hold(b, m.modified)
	b, m.upstream = hold(b, m.upstream)
	for i := range m.withhold {
		b, m.withhold[i] = hold(b, m.withhold[i])
	}
	m.lists = slices.Clone(m.lists)
	return b
}

// hold appends s to b, and returns it as a string that is a part of that.
func hold(b []byte, s string) (longer []byte, held string) {
	if s == "" {
		return b, ""
	}
	return holdText(b, s)
}

//go:noinline
func holdText(b []byte, s string) (longer []byte, held string) {
	b = append(b, s...)
	return b, text(b[len(b)-len(s):])
}

// vary returns the lists of names of an index.
func (m *meta) vary() (out [][]string) {
	r := metaReader{b: m.lists}
	for {
		names, more := r.list()
		if !more {
			return out
		}
		var list []string
		for name, ok := names.next(); ok; name, ok = names.next() {
			list = addName(list, name)
		}
		out = append(out, list)
	}
}

// appendLists encodes lists of names for an index.
func appendLists(dst []byte, vary [][]string) []byte {
	for _, v := range vary {
		dst = appendTexts(dst, v)
	}
	return dst
}

const (
	flagMustRevalidate = 1 << iota // never stale
	flagNoCache                    // never without validation
	flagHeuristic
)

const (
	// metaVersion begins the encoding. It stands for where variants are as well (appendVariant, isSet): what is stored
	// outlives a plugin that is replaced.
	metaVersion = 3
	// metaNumbers is how long what comes before the texts is: they are as wide as they are in
	// memory, since in a guest a number of variable size takes ten times as long to read.
	metaNumbers = 3 + 7*8
)

// encode returns m for the host to keep; see parseMeta.
func (m *meta) encode() []byte { return m.append(nil) }

// append is encode behind dst.
func (m *meta) append(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, metaNumbers)...)
	n := dst[at+3 : at+metaNumbers]
	dst[at], dst[at+1], dst[at+2] = metaVersion, byte(m.kind), m.flags
	binary.LittleEndian.PutUint64(n, uint64(m.status))
	binary.LittleEndian.PutUint64(n[8:], uint64(m.stored))
	binary.LittleEndian.PutUint64(n[16:], uint64(m.age))
	binary.LittleEndian.PutUint64(n[24:], uint64(m.lifetime))
	binary.LittleEndian.PutUint64(n[32:], uint64(m.date))
	binary.LittleEndian.PutUint64(n[40:], uint64(m.stale))
	binary.LittleEndian.PutUint64(n[48:], uint64(m.onError))
	dst = appendText(appendText(appendText(dst, m.etag), m.modified), m.upstream)
	return append(appendTexts(dst, m.withhold), m.lists...)
}

//go:noinline
func appendText(dst []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint32(dst, uint32(len(s))), s...)
}

func appendTexts(dst []byte, list []string) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(list)))
	for _, s := range list {
		dst = appendText(dst, s)
	}
	return dst
}

// parseMeta reads what encode has made. Strings are parts of b.
func parseMeta(b []byte) (m meta, ok bool) {
	if len(b) < metaNumbers || b[0] != metaVersion {
		return m, false
	}
	m.kind, m.flags = kind(b[1]), b[2]
	n := b[3:metaNumbers:metaNumbers]
	m.status = int(binary.LittleEndian.Uint64(n))
	m.stored = int64(binary.LittleEndian.Uint64(n[8:]))
	m.age = int64(binary.LittleEndian.Uint64(n[16:]))
	m.lifetime = int64(binary.LittleEndian.Uint64(n[24:]))
	m.date = int64(binary.LittleEndian.Uint64(n[32:]))
	m.stale = int64(binary.LittleEndian.Uint64(n[40:]))
	m.onError = int64(binary.LittleEndian.Uint64(n[48:]))
	r := metaReader{b: b[metaNumbers:]}
	m.etag, m.modified, m.upstream = r.text(), r.text(), r.text()
	m.withhold = r.texts()
	m.lists = r.b
	for more := !r.bad; more; _, more = r.list() {
	}
	return m, !r.bad && (len(m.lists) == 0 || m.kind == kindIndex)
}

type metaReader struct {
	b   []byte
	bad bool
}

// count reads a number of things of at least a byte each.
func (r *metaReader) count() int {
	if len(r.b) < 4 {
		r.bad = true
		return 0
	}
	n := int(binary.LittleEndian.Uint32(r.b))
	if r.b = r.b[4:]; n > len(r.b) {
		r.bad = true
		return 0
	}
	return n
}

func (r *metaReader) text() string {
	n := r.count()
	s := text(r.b[:n])
	r.b = r.b[n:]
	return s
}

// A nameList is a list of names, encoded and known to be well-formed.
type nameList struct {
	metaReader
	left int
}

// list reads past a list of names; more is false at the end.
func (r *metaReader) list() (names nameList, more bool) {
	if r.bad || len(r.b) == 0 {
		return nameList{}, false
	}
	n := r.count()
	names = nameList{metaReader{b: r.b}, n}
	for ; n > 0 && !r.bad; n-- {
		r.text()
	}
	return names, !r.bad
}

// listOf returns names as a list.
func listOf(names []string) nameList {
	r := metaReader{b: appendTexts(nil, names)}
	list, _ := r.list()
	return list
}

// next returns the next name; ok is false behind the last.
func (l *nameList) next() (name string, ok bool) {
	if l.left == 0 {
		return "", false
	}
	l.left--
	return l.text(), true
}

func (r *metaReader) texts() []string {
	n := r.count()
	if n == 0 {
		return nil
	}
	var out []string
	for ; n > 0 && !r.bad; n-- {
		out = addName(out, r.text())
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
