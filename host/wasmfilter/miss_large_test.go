package wasmfilter_test

import (
	"strconv"
	"strings"
	"testing"

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
