package wasmfilter_test

import (
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/host/plugintest"
)

// variantStore is a missStore whose answers are apart by x.
func variantStore() abi.ObjectStore {
	s := missStore()
	s.Variant = &abi.ObjectVariant{Mark: "\nby", Key: []string{"list:X"}, Meta: "by x"}
	s.Key = passKey + s.Variant.Mark + "\x00list:x:1"
	return s
}

// variantExchanges makes exchanges of a plugin.
type variantExchanges struct {
	t *testing.T
	p *plugintest.Plugin
}

func variantRequest(path, x string, more ...string) plugintest.Request {
	r := missRequest(path)
	r.Fields = append(append(r.Fields, plugintest.Fields("x", x)...), plugintest.Fields(more...)...)
	return r
}

// do makes one, of which it is known whether the upstream is asked, the guest is told of the answer, and how many more objects are stored then.
func (v *variantExchanges) do(what string, req plugintest.Request, resp plugintest.Response, asked, told bool, stored int) {
	v.t.Helper()
	before, had := calls(v.p), storedOf(v.p)
	s := v.p.Do(req, resp)
	after := calls(v.p)
	if got := s.Upstream().Method != ""; got != asked || (after.resp != before.resp) != told || after.req != before.req || s.Client().Status != 200 {
		v.t.Errorf("%s: asked %t, calls %+v, before %+v, got %+v", what, got, after, before, s.Client())
	}
	if n := storedOf(v.p) - had; n != stored {
		v.t.Errorf("%s: %d more are stored, want %d", what, n, stored)
	}
}

// TestVariants: an answer that is like one of variants is stored where that of its request is, beside a record that says
// where, and served from there; where that is not there, or something else is, it is the guest's.
func TestVariants(t *testing.T) {
	plugintest.Run(t, missGuest(missOrder(), variantStore()), passOptions, func(t *testing.T, p *plugintest.Plugin) {
		v := variantExchanges{t, p}
		v.do("the first", variantRequest("/a", "1"), missAnswer("x-store", "1"), true, true, 1)
		p.Purge("")
		v.do("one like it", variantRequest("/b", "1"), missAnswer(), true, false, 2)
		v.do("a hit", variantRequest("/b", "1"), missAnswer(), false, false, 0)
		v.do("what means the same", variantRequest("/b", " 1 ,"), missAnswer(), false, false, 0)
		head := variantRequest("/b", "1")
		head.Method = "HEAD"
		v.do("a HEAD", head, missAnswer(), false, false, 0)
		v.do("too long a key", variantRequest("/c", strings.Repeat("x", 4096)), missAnswer(), true, true, 0)

		v.do("another variant", variantRequest("/b", "2"), missAnswer(), true, false, 1)
		v.do("a hit of that", variantRequest("/b", "2"), missAnswer(), false, false, 0)
		head.Fields = variantRequest("", "3").Fields
		v.do("a HEAD of one that is missing", head, plugintest.Response{Fields: missAnswer().Fields}, true, false, 0)
		s := p.Do(variantRequest("/b", "3"), missAnswer("age", "1"))
		if told, _ := s.Property("mine"); string(told) != toldMiss("/b")+"by x" {
			t.Errorf("the guest is told %q", told)
		}
		v.do("one that is refused", variantRequest("/x", "1"), passAnswer("x-refuse", "1"), true, true, 1)
		v.do("one like that", variantRequest("/y", "1"), passAnswer(), true, false, 1)
		v.do("one like that, among variants", variantRequest("/b", "3"), passAnswer(), true, false, 0)
		v.do("a variant beside that", variantRequest("/b", "2"), missAnswer(), false, false, 0)
		// Those that go by alone do not wait for each other.
		one, two := p.Open(variantRequest("/d", "1", "cookie", "a")), p.Open(variantRequest("/d", "2", "cookie", "a"))
		v.do("the first alone", variantRequest("/e", "1", "cookie", "a"), missAnswer("x-store", "1"), true, true, 1)
		before, had := calls(p), storedOf(p)
		for _, s := range []*plugintest.Stream{one, two} {
			s.Respond(missAnswer())
			s.Finish()
		}
		if n := storedOf(p) - had; n != 3 || calls(p) != before {
			t.Errorf("two variants at once: %d are stored", n)
		}
		v.do("the one", variantRequest("/d", "1"), missAnswer(), false, false, 0)
		v.do("the other", variantRequest("/d", "2"), missAnswer(), false, false, 0)

		// Something else comes to be under the key of the request meanwhile.
		s = p.Open(variantRequest("/a", "1"))
		p.Do(variantRequest("/a", "1", "range", "1", "x-plain", "1"), missAnswer("x-record", "1"))
		before, had = calls(p), storedOf(p)
		s.Respond(missAnswer())
		s.Finish()
		if calls(p).resp != before.resp+1 || storedOf(p) != had {
			t.Errorf("beside a record of the guest's: calls %+v, before %+v, %d more are stored", calls(p), before, storedOf(p)-had)
		}
	})
}

// TestVariantRefused: a part that is none is refused with what it is part of.
func TestVariantRefused(t *testing.T) {
	store := variantStore()
	store.Variant.Key = []string{"list:x", "x"}
	plugintest.Run(t, missGuest(missOrder(), store), passOptions, func(t *testing.T, p *plugintest.Plugin) {
		s := p.Do(missRequest("/a"), missAnswer("x-store", "1"))
		if n := storedOf(p); line(s.Client(), "x-refused") != "1" || n != 0 {
			t.Errorf("%d are stored: %+v", n, s.Client())
		}
	})
}

// TestVariantMemory: what is noted of where variants are counts as memory of the record.
func TestVariantMemory(t *testing.T) {
	sizes := [2]int64{}
	for i, key := range [][]string{{"list:x"}, {"list:x", "set:" + strings.Repeat("y", 1000)}} {
		store := variantStore()
		store.Variant.Key = key
		plugintest.Run(t, missGuest(missOrder(), store), passOptions, func(_ *testing.T, p *plugintest.Plugin) {
			p.Do(variantRequest("/a", "1"), missAnswer("x-store", "1"))
			p.Purge("")
			p.Do(variantRequest("/b", "1"), missAnswer())
			_, sizes[i] = p.Stored()
		})
	}
	if more := sizes[1] - sizes[0]; more < 2000 || more > 2200 { // they are in the key of the message, too
		t.Errorf("1000 bytes more take %d", more)
	}
}
