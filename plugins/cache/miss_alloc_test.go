//go:build !race

package main

import (
	"slices"
	"strings"
	"testing"

	"wproxy/abi"
)

// A hollow is a backend that takes everything and has nothing.
type hollow struct {
	backend
	told   result
	stores int
	models int
	meta   []byte // of what was stored last
	set    []byte // the value of the field that was set last
}

func (*hollow) lookup(string) (abi.ObjectInfo, bool) { return abi.ObjectInfo{}, false }
func (*hollow) join(string) (leads, ok bool)         { return true, true }
func (*hollow) now() int64                           { return noon }
func (h *hollow) tell(r result)                      { h.told = r }

func (h *hollow) store(s *abi.ObjectStore) bool {
	h.stores++
	if s.Model != nil {
		h.models++
	}
	h.meta = append(h.meta[:0], s.Meta...)
	return true
}

func (h *hollow) editAs(args []byte) {
	h.set = append(h.set[:0], args...)
}

func (h *hollow) edit(_ abi.MapType, edits ...abi.FieldEdit) {
	h.set = append(h.set[:0], edits[0].Value...)
}

// A missed makes exchanges one after the other in the same memory, as a guest does.
type missed struct {
	c         *config
	h         hollow
	x         exchange
	room      room
	req, resp string // as a host has them
	pairs     [2][]abi.Pair
	by        bool // the requests have gone by
}

func newMissed(tb testing.TB, settings string, req, resp []string) *missed {
	tb.Helper()
	c, err := parseConfig([]byte(settings))
	if err != nil {
		tb.Fatal(err)
	}
	return &missed{
		c: c, req: string(abi.AppendPairs(nil, headOf(req...).pairs)), resp: string(abi.AppendPairs(nil, headOf(resp...).pairs)),
		pairs: [2][]abi.Pair{make([]abi.Pair, 0, 64), make([]abi.Pair, 0, 64)},
		room:  room{pairs: make([]abi.Pair, 0, 64)},
	}
}

func (m *missed) read(i int, encoded string) head {
	list, err := abi.ParsePairs(m.pairs[i][:0], encoded)
	if err != nil {
		panic(err)
	}
	h := head{pairs: list, encoded: encoded}
	h.noteNames()
	return h
}

func (m *missed) exchange() {
	x := &m.x
	x.c, x.host, x.told, x.room = m.c, &m.h, &m.h, &m.room
	x.reset()
	x.request = m.read(0, m.req)
	if m.by {
		x.goneBy("http://example.com/page\nsite", nil, noon)
	} else {
		x.url, x.route = "http://example.com/page", "site"
		x.onRequest(true)
	}
	x.request.pairs = nil
	resp := m.read(1, m.resp)
	onResponse(x, &resp)
}

// with returns a list of fields with more behind.
func with(fields []string, more ...string) []string { return append(slices.Clone(fields), more...) }

var (
	missRequest = []string{
		":method", "GET", ":path", "/page", ":scheme", "http", ":authority", "example.com",
		"accept", "*/*", "accept-encoding", "gzip", "user-agent", "test",
	}
	missResponse = []string{
		":status", "200", "server", "nginx", "date", at(0), "content-type", "text/html", "content-length", "1024",
		"last-modified", at(-1000), "etag", `"1"`,
	}
)

// missCases are answers to what is not stored yet.
var missCases = []struct {
	name   string
	req    []string
	resp   []string
	stores int // in an exchange
	models bool
	allocs float64
}{
	{"stored", missRequest, with(missResponse, "cache-control", "public, max-age=60"), 1, true, 0},
	{"stored for a guessed time", missRequest, missResponse, 1, true, 0},
	{"stored until it expires", missRequest, with(missResponse, "expires", at(60)), 1, false, 0},
	{"stored although somebody has asked", with(missRequest, "authorization", "a"), with(missResponse, "cache-control", "public"), 1, true, 0},
	{"refused", missRequest, with(missResponse, "cache-control", "private"), 1, true, 0},
	{"refused to who has asked", with(missRequest, "authorization", "a"), missResponse, 0, true, 0},
	{"refused as too large", missRequest, with(missResponse[:8], "content-length", "1000000000"), 1, true, 0},
	{"an error", missRequest, []string{":status", "500", "date", at(0)}, 0, false, 0},
}

// TestMissAllocs: what a request comes to for which nothing is stored takes no memory but that of the
// exchange before: a guest's allocator and collector are the slowest that it has.
func TestMissAllocs(t *testing.T) {
	for _, tc := range missCases {
		m := newMissed(t, ``, tc.req, tc.resp)
		m.exchange()
		if m.h.stores != tc.stores {
			t.Errorf("%s: stored %d times, want %d", tc.name, m.h.stores, tc.stores)
		}
		for _, m.by = range []bool{false, true} {
			if got := testing.AllocsPerRun(100, m.exchange); got > tc.allocs {
				t.Errorf("%s, gone by %t: %v allocations, want %v", tc.name, m.by, got, tc.allocs)
			}
		}
		if (m.h.models > 0) != tc.models {
			t.Errorf("%s: stored with %d models", tc.name, m.h.models)
		}
	}
}

// TestMissMemory: what an exchange leaves to the next is bounded, and no exchange sees anything of
// the one before.
func TestMissMemory(t *testing.T) {
	small := newMissed(t, ``, missRequest, with(missResponse, "cache-control", "max-age=60"))
	small.exchange()
	want := string(small.h.meta)
	m := newMissed(t, ``, with(missRequest, "cookie", strings.Repeat("x", 2*maxHeld)), with(missResponse, "cache-control", "max-age=60", "cache-status", "other; hit", "vary", "accept-encoding"))
	m.exchange()
	if string(m.h.meta) == want {
		t.Fatal("the answers are no different")
	}
	m.req, m.resp = small.req, small.resp
	m.exchange()
	if got := string(m.h.meta); got != want {
		t.Errorf("after another exchange %q is stored, want %q", got, want)
	}
	if n := cap(m.x.held); n > maxHeld {
		t.Errorf("%d bytes are kept, want at most %d", n, maxHeld)
	}
}

func BenchmarkMiss(b *testing.B) {
	for _, bb := range missCases {
		b.Run(bb.name, func(b *testing.B) {
			m := newMissed(b, ``, bb.req, bb.resp)
			b.ReportAllocs()
			for b.Loop() {
				m.exchange()
			}
		})
	}
}
