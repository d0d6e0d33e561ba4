package access_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"wproxy/core/access"
	"wproxy/core/exchange"
)

// TestRecorderWants is what is notable, and as what.
func TestRecorderWants(t *testing.T) {
	t.Parallel()
	r := access.NewRecorder()
	for _, tt := range []struct {
		name string
		rec  access.Record
		want string
	}{
		{"plain", access.Record{Status: 200, FirstByte: time.Millisecond, Total: time.Minute}, ""},
		{"not found by the upstream", access.Record{Status: 404, Tries: 1, FirstByte: 1}, ""},
		{"no route", access.Record{Status: 404, Reason: "no_route"}, "refused"},
		{"limited by a plugin", access.Record{Status: 429, Reason: "plugin_reply:limit"}, "refused"},
		{"bad request", access.Record{Status: 400, Reason: "bad_field"}, "refused"},
		{"the upstream's 500", access.Record{Status: 500, Tries: 1, FirstByte: 1}, "failed"},
		{"no server", access.Record{Status: 503, Reason: "no_server"}, "failed"},
		{"cut", access.Record{Status: 200, Reason: "upstream_truncated", FirstByte: 1}, "failed"},
		{"cut by a plugin", access.Record{Status: 200, Reason: "plugin_length:p", FirstByte: 1}, "failed"},
		{"trapped", access.Record{Status: 503, Reason: "plugin_failed:p"}, "trapped"},
		{"retried", access.Record{Status: 200, Tries: 2, Retried: []string{"connect"}, FirstByte: 1}, "retried"},
		{"retried in vain", access.Record{Status: 502, Tries: 2, Retried: []string{"connect"}, Reason: "upstream_refused"}, "failed"},
		{"slow upstream", access.Record{Status: 200, FirstByte: time.Second, Total: time.Second}, "slow"},
		{"slow plugin", access.Record{Status: 200, Total: time.Second}, "slow"},
		{"tunnel", access.Record{Status: 101, Total: time.Hour}, ""},
		{"tunnel at rest", access.Record{Status: 101, Total: time.Hour, FirstByte: 1, Reason: "tunnel_idle"}, ""},
		{"left soon", access.Record{Status: 499, Reason: "client_gone", Total: time.Millisecond}, ""},
		{"left after a while", access.Record{Status: 499, Reason: "client_gone", Total: 3 * time.Second}, "slow"},
		{"challenge", access.Record{Status: 200, Reason: "acme_challenge"}, ""},
	} {
		if got := r.Wants(&tt.rec).String(); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestRecorderKeeps: each kind has its own last 40, whatever comes of the others.
func TestRecorderKeeps(t *testing.T) {
	t.Parallel()
	r := access.NewRecorder()
	r.Keep(access.Trapped, &access.Record{Method: "GET", Path: "/trap", Status: 503, Reason: "plugin_failed:p", Plugins: []access.Plugin{{Name: "p", Verdict: "x"}}})
	for i := range 1000 {
		r.Keep(access.Refused, &access.Record{Method: "GET", Path: fmt.Sprintf("/%d", i), Status: 404, Reason: "no_route"})
	}
	all := r.Since(0)
	if len(all) != 41 || all[0].Kind != access.Trapped || all[40].Kind != access.Refused || all[40].Seq != 1001 {
		t.Fatalf("got %d entries, the first %v", len(all), all[0].Kind)
	}
	var line struct {
		Path, Reason string
		Plugins      []struct{ Name string }
	}
	if err := json.Unmarshal(all[0].Line, &line); err != nil || line.Path != "/trap" || line.Reason != "plugin_failed:p" || len(line.Plugins) != 1 {
		t.Errorf("%s: %v", all[0].Line, err)
	}
	if err := json.Unmarshal(all[40].Line, &line); err != nil || line.Path != "/999" {
		t.Errorf("%s: %v", all[40].Line, err)
	}
	if got := r.Since(999); len(got) != 2 || got[0].Seq != 1000 {
		t.Errorf("since the last but two: %v", got)
	}
}

// TestRecorderTrap: a trap that the answer does not show is kept, once.
func TestRecorderTrap(t *testing.T) {
	t.Parallel()
	r := access.NewRecorder()
	r.Trap("")
	r.Trap("a")
	rec := access.Record{Status: 200, RequestID: "b", FirstByte: 1}
	if got := r.Wants(&rec); got != access.Ordinary {
		t.Errorf("another request: %v", got)
	}
	rec.RequestID = "a"
	if got := r.Wants(&rec); got != access.Trapped {
		t.Errorf("the request of the trap: %v", got)
	}
	if got := r.Wants(&rec); got != access.Ordinary {
		t.Errorf("it is told twice: %v", got)
	}
	for i := range 1000 {
		r.Trap(fmt.Sprint(i)) // requests that never end
	}
	rec.RequestID = "999"
	if got := r.Wants(&rec); got != access.Trapped {
		t.Errorf("the last of many: %v", got)
	}
	var none *access.Recorder
	none.Trap("a")
	none.Keep(none.Wants(&rec), &rec)
	if none.Since(0) != nil {
		t.Error("no recorder keeps something")
	}
}

// TestRecorderBounds: whatever a client sends, an entry is JSON of bounded size without
// what is secret.
func TestRecorderBounds(t *testing.T) {
	t.Parallel()
	r := access.NewRecorder()
	evil := strings.Repeat("\x00\xff\"\\<script>\n", 1000)
	rec := access.Record{
		Method: evil, Host: evil, Path: "/" + evil + "?token=x", Client: evil, RequestID: evil, Reason: evil, Status: 400,
		Fields: []exchange.Field{{Name: "secret", Value: "geheim"}},
	}
	for range 40 {
		rec.Plugins = append(rec.Plugins, access.Plugin{Name: "p", Verdict: evil})
	}
	for range 50 {
		r.Keep(access.Refused, &rec)
	}
	for _, e := range r.Since(0) {
		if !json.Valid(e.Line) || len(e.Line) > 8<<10 || strings.Contains(string(e.Line), "geheim") {
			t.Fatalf("%d bytes: %.200q", len(e.Line), e.Line)
		}
	}
	if len(rec.Plugins) != 40 || len(rec.Fields) != 1 {
		t.Error("the record was changed, which is borrowed")
	}
}

func TestRedactQuery(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"/":                         "/",
		"/a?":                       "/a?",
		"/a?b=c&d":                  "/a?b=c&d",
		"/token=1?b=c":              "/token=1?b=c",
		"/a?token=1":                "/a?token=***",
		"/a?x=1&Access_Token=1&y=2": "/a?x=1&Access_Token=***&y=2",
		"/a?api-key=1;sig=2":        "/a?api-key=***",
		"/a?password=a=b":           "/a?password=***",
		"/a?tok%65n=1":              "/a?tok%65n=***",
		"/a?X-Amz-Signature=ab&":    "/a?X-Amz-Signature=***&",
		"/a?token":                  "/a?token",
		"/a?code=1?2&b=3?token=4":   "/a?code=***&b=3?token=4",
	} {
		if got := access.RedactQuery(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func FuzzRecorder(f *testing.F) {
	f.Add("GET", "a.test", "/?token=a&b", "no_route", 404)
	f.Add("\xff", "\"", "?key=&;=", "", 200)
	f.Fuzz(func(t *testing.T, method, host, path, reason string, status int) {
		r := access.NewRecorder()
		rec := access.Record{Method: method, Host: host, Path: path, Reason: reason, Status: status}
		r.Keep(access.Refused, &rec)
		if e := r.Since(0); len(e) != 1 || !json.Valid(e[0].Line) || len(e[0].Line) > 8<<10 {
			t.Errorf("got %v", e)
		}
		r.Wants(&rec)
	})
}

// TestRecorderConcurrent is for the race detector.
func TestRecorderConcurrent(t *testing.T) {
	t.Parallel()
	r := access.NewRecorder()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 200 {
				rec := access.Record{RequestID: fmt.Sprint(i, j), Status: 500}
				r.Trap(rec.RequestID)
				r.Keep(r.Wants(&rec), &rec)
				r.Since(uint64(j))
			}
		})
	}
	wg.Wait()
	if len(r.Since(0)) == 0 {
		t.Error("nothing was kept")
	}
}

// TestRecorderConnections: of connections those are notable that were refused, or that an upstream or a plugin has let down.
func TestRecorderConnections(t *testing.T) {
	t.Parallel()
	r := access.NewRecorder()
	for _, tt := range []struct {
		rec  access.Record
		want access.Kind
	}{
		{access.Record{Total: time.Hour}, access.Ordinary},
		{access.Record{Total: time.Hour, Reason: "idle_timeout"}, access.Ordinary},
		{access.Record{Reason: "client_gone"}, access.Ordinary},
		{access.Record{Reason: "no_route"}, access.Refused},
		{access.Record{Reason: "closed_by_plugin:p"}, access.Refused},
		{access.Record{Reason: "bad_hello"}, access.Refused},
		{access.Record{Reason: "upstream_refused", Retried: []string{"connect"}}, access.Failed},
		{access.Record{Reason: "upstream_reset"}, access.Failed},
		{access.Record{Reason: "queue_full"}, access.Failed},
		{access.Record{Reason: "plugin_failed:p"}, access.Trapped},
		{access.Record{Reason: "plugin_timeout:p"}, access.Failed},
		{access.Record{Retried: []string{"connect"}}, access.Retried},
		{access.Record{Connect: 2 * time.Second}, access.Slow},
	} {
		tt.rec.TCP = true
		if got := r.Wants(&tt.rec); got != tt.want {
			t.Errorf("%+v: %v, want %v", tt.rec, got, tt.want)
		}
	}
}
