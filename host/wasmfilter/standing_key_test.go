//go:build !race

package wasmfilter_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/objects"
	"wproxy/host/wasmfilter"
)

// TestStandingKey: what is stored is told apart by the parts of the key as well, and of what it varies by, without an
// allocation; a key that is too long is left to the guest, which traps here.
func TestStandingKey(t *testing.T) {
	p, root := orderRoot(t, time.Now, abi.ObjectStanding{Key: []string{"set:Accept-Language", "cookie:c"}})
	const lang, c = "\x00set:accept-language", "\x00cookie:c"
	store := objects.New(objects.Options{})
	space := store.Space(p.VMID())
	for parts, body := range map[string]string{
		lang + ":de,en" + c + ":1": "german", lang + ":en" + c: "english", lang + c: "none",
		lang + ":fr" + c + "\nby\x00set:x:a,b": "un", lang + ":fr" + c + "\nby\x00set:x": "rien",
	} {
		fill := space.Fill("https://api.example:8443/a\napi"+parts, objects.FillOptions{
			Length: int64(len(body)), Record: objects.Record{Status: 200, Promise: objects.Promise{Lifetime: 1 << 31}},
		})
		_ = fill.Write([]byte(body))
		fill.End("")
	}
	space.Put("https://api.example:8443/a\napi"+lang+":fr"+c, objects.Record{Note: wasmfilter.MakeVariant(&abi.ObjectVariant{Mark: "\nby", Key: []string{"set:x"}})}, nil)
	f := wasmfilter.New(root, wasmfilter.Options{Objects: store})
	x := newExchange(t)
	request, route := x.Request, x.Route
	request.Method, request.Target = "GET", "/a"
	var client clientEnd
	run := func() bool {
		client = clientEnd{}
		x.Reset()
		x.Context, x.Request, x.Route, x.Engine = context.Background(), request, route, streamEngine{to: &client}
		g, err := f.New(x)
		if err != nil {
			t.Fatal(err)
		}
		err = g.Request(requestEnd{}).Head(x.Request, true)
		g.Close(nil)
		return errors.Is(err, exchange.ErrAnswered)
	}
	for _, tc := range []struct {
		name, language, cookie, x string
		want                      int
	}{
		{"sorted", "de, en", "c=1", "", len("german")},
		{"not sorted", "EN,de", "b=2; c=1", "", len("german")},
		{"one", "en", "b", "", len("english")},
		{"none", "", "", "", len("none")},
		{"not stored", "en", "c=1", "", -1},
		{"too long a cookie", "en", "c=" + strings.Repeat("1", 4096), "", -1},
		{"too long a set", strings.Repeat("a,", 4096), "c=1", "", -1},
		{"a variant", "fr", "", "B, a", len("un")},
		{"another variant", "fr", "", "", len("rien")},
		{"a variant that is not stored", "fr", "", "c", -1},
		{"too long a variant", "fr", "", strings.Repeat("a,", 4096), -1},
	} {
		request.Fields.Remove("accept-language")
		request.Fields.Remove("cookie")
		if tc.language != "" {
			request.Fields.Add("accept-language", tc.language)
		}
		if tc.cookie != "" {
			request.Fields.Add("cookie", tc.cookie)
		}
		request.Fields.Remove("x")
		if tc.x != "" {
			request.Fields.Add("x", tc.x)
		}
		if tc.want < 0 {
			if run() {
				t.Errorf("%s: got %+v without the guest", tc.name, client)
			}
			continue
		}
		if n := testing.AllocsPerRun(100, func() {
			if !run() || client.bytes != tc.want {
				t.Fatalf("%s: got %+v, want %d bytes", tc.name, client, tc.want)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", tc.name, n)
		}
	}
}
