package wasmfilter_test

import (
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"wproxy/core/exchange"
	"wproxy/host/plugintest"
	"wproxy/host/wasmfilter"
)

// TestMissTooLarge: an answer whose length is not known, and that is too large, is passed on whole and not stored.
func TestMissTooLarge(t *testing.T) {
	plugintest.Run(t, missGuest(missOrder(), missStore()), passOptions, func(t *testing.T, p *plugintest.Plugin) {
		p.Do(missRequest("/a"), missAnswer("x-store", "1"))
		s := p.Open(missRequest("/b"))
		resp := missAnswer()
		resp.Body, resp.Trailers, resp.More = nil, nil, true
		s.Respond(resp)
		want := ""
		for i := range 50 {
			chunk := strings.Repeat(strconv.Itoa(i%10), 100)
			want += chunk
			s.RespondData([]byte(chunk), false)
		}
		s.RespondTrailers("t", "u")
		if c := s.Client(); string(c.Body) != want || len(c.Trailers) != 1 || storedOf(p) != 1 {
			t.Errorf("got %d bytes, %+v; %d are stored", len(c.Body), c.Trailers, storedOf(p))
		}
		s.Finish()
	})
}

// TestMissHeadTooLarge: an answer without room for the edits, or with many lines, is the guest's.
func TestMissHeadTooLarge(t *testing.T) {
	plugintest.Run(t, missGuest(missOrder(), missStore()), passOptions, func(t *testing.T, p *plugintest.Plugin) {
		p.Do(missRequest("/a"), missAnswer("x-store", "1"))
		for more, goesBy := range map[int]bool{92: true, 91: false} {
			before := calls(p)
			p.Do(plugintest.Request{Path: "/" + strconv.Itoa(more)}, missAnswer("x", strings.Repeat("x", wasmfilter.MaxHeadBytes-more)))
			if after := calls(p); after.req != before.req || after.resp > before.resp == goesBy || storedOf(p) == 2 != goesBy {
				t.Errorf("with %d bytes of room: calls %+v, before %+v", more, after, before)
			}
			p.Purge("http://example.com/" + strconv.Itoa(more))
		}
		for lines, goesBy := range map[int]bool{wasmfilter.MaxModelHead: true, wasmfilter.MaxModelHead + 1: false} {
			resp := missAnswer()
			for len(resp.Fields) < lines {
				resp.Fields = append(resp.Fields, plugintest.Fields("x", "y")...)
			}
			before := calls(p)
			p.Do(plugintest.Request{Path: "/" + strconv.Itoa(lines)}, resp)
			if after := calls(p); after.req != before.req || after.resp > before.resp == goesBy {
				t.Errorf("%d lines: calls %+v, before %+v", lines, after, before)
			}
		}
	})
}

// TestKeptLeavesNothing: whichever way an answer is kept, the next exchange in the same memory sees nothing of it.
func TestKeptLeavesNothing(t *testing.T) {
	for name, pieces := range map[string][]string{
		"no body":          {},
		"one piece":        {"abc"},
		"pieces":           {"a", "b", "c"},
		"a wait":           {"a", "", "bc"},
		"a wait before it": {"", "abc"},
	} {
		r := newMissRoom(t, missOrder(), missStore(), time.Now)
		var e missExchange
		r.teach(t, &e)
		if e.open(t.Context(), t, r, "/b") {
			t.Fatalf("%s: it does not go by", name)
		}
		if err := e.head(int64(len(strings.Join(pieces, ""))), len(pieces) == 0, exchange.Field{Name: "etag", Value: "1"}); err != nil {
			t.Fatal(err)
		}
		for i, p := range pieces {
			if err := e.engine.out.Data([]byte(p), i == len(pieces)-1); err != nil {
				t.Fatal(err)
			}
		}
		e.close(nil)
		if o := r.space.Get("http://example.com/b\nr"); o == nil {
			t.Errorf("%s: it is not stored", name)
		} else {
			o.Release()
		}
		if left, none := wasmfilter.Left(e.f); !reflect.DeepEqual(left, none) {
			t.Errorf("%s: it has left %+v, want %+v", name, left, none)
		}
	}
}
