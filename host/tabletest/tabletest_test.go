package tabletest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/host/plugintest"
	"wproxy/plugins/manifest"

	wt "wproxy/host/wasmtest"
)

func drop(in wt.Instr) wt.Instr { return wt.Seq(in, wt.Drop()) }

// guest adds x-seen to requests and x-p, with its configuration as the value, to
// responses; it counts, logs and keeps shared data. It answers requests with trailers
// itself, pauses those with a body until the next tick, and traps on response trailers. It
// does not take an empty configuration.
func guest(t *testing.T) []byte {
	t.Helper()
	m := wt.NewGuest()
	add := m.Env(abi.ImportAddHeaderMapValue, "iiiii>i")
	buffer := m.Env(abi.ImportGetBufferBytes, "iiiii>i")
	log := m.Env(abi.ImportLog, "iii>i")
	define := m.Env(abi.ImportDefineMetric, "iiii>i")
	increment := m.Env(abi.ImportIncrementMetric, "iI>i")
	shared := m.Env(abi.ImportSetSharedData, "iiiii>i")
	reply := m.Env(abi.ImportSendLocalResponse, "iiiiiiii>i")
	tick := m.Env(abi.ImportSetTickPeriod, "i>i")
	effective := m.Env(abi.ImportSetEffectiveContext, "i>i")
	resume := m.Env(abi.ImportContinueStream, "i>i")
	property := m.Env(abi.ImportSetProperty, "iiii>i")
	paused := m.Global(0)
	ptr, size, metric := wt.I32(m.Slot(4)), wt.I32(m.Slot(4)), wt.I32(m.Slot(4))
	m.Func(abi.ExportOnConfigure, "ii>i",
		drop(wt.Call(define, wt.I32(0), m.Str("seen"), metric)),
		drop(wt.Call(log, wt.I32(2), m.Str("configured"))),
		drop(wt.Call(tick, wt.I32(1000))),
		wt.Local(1))
	m.Headers("request",
		drop(wt.Call(add, wt.I32(0), m.Str("x-seen"), m.Str("yes"))),
		drop(wt.Call(increment, wt.Load32(metric), wt.I64(1))),
		drop(wt.Call(shared, m.Str("key"), m.Str("value"), wt.I32(0))),
		drop(wt.Call(property, m.Str("wproxy\x00log\x00field"), m.Str("f"))),
		drop(wt.Call(property, m.Str("wproxy\x00verdict"), m.Str("seen"))),
		wt.I32(0))
	m.Body("request", wt.Set(paused, wt.Local(0)), wt.I32(1))
	m.Func(abi.ExportOnTick, "i",
		wt.If(wt.Get(paused),
			drop(wt.Call(effective, wt.Get(paused))),
			wt.Set(paused, wt.I32(0)),
			drop(wt.Call(resume, wt.I32(0)))))
	m.Trailers("request",
		drop(wt.Call(reply, wt.I32(418), m.Str("teapot"), m.Str("short"), wt.I32(0), wt.I32(0), wt.I32(-1))),
		wt.I32(1))
	m.Headers("response",
		drop(wt.Call(buffer, wt.I32(7), wt.I32(0), wt.I32(100), ptr, size)),
		drop(wt.Call(add, wt.I32(2), m.Str("x-p"), wt.Load32(ptr), wt.Load32(size))),
		wt.I32(0))
	m.Trailers("response", wt.Unreachable())
	s, err := manifest.Compile([]byte(`{"properties":{"a":{"type":"integer"},"b":{"type":"string"}},"additionalProperties":false}`))
	if err != nil {
		t.Fatal(err)
	}
	wasm, err := manifest.Append(m.Bytes(), &manifest.Manifest{Name: "guest", Settings: s})
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

// load writes a table file and loads it.
func load(t *testing.T, text string) (*Suite, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "x.test.toml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(guest(t), []string{name})
}

const passing = `
settings = { a = 1 }

[[test]]
name = "an exchange"
request = { method = "POST", path = "/x?y", headers = { a = "1", b = ["2", "3"] } }
response = { status = 201, headers = { set-cookie = ["a", "b"] }, body = "out" }
expect.status = 201
expect.headers = { x-p = '{"a":1}', Set-Cookie = ["a", "b"], server = false, content-length = true }
expect.body = { contains = "ou", matches = "^o.t$" }
expect.local = false
expect.reason = false
expect.verdict = "seen"
expect.log_fields = { field = "f", other = false }
expect.metrics = { seen = 1, other = false }
expect.shared = { key = "value", other = false }
expect.log = ["config", { matches = "^configured$" }]
expect.no_log = ["panic"]
[test.expect.upstream]
method = "POST"
path = "/x?y"
authority = "example.com"
scheme = "http"
body = ""
headers = { x-seen = "yes", b = ["2", "3"], c = false }

[[test]]
name = "settings are merged"
settings = { b = "x" }
request = {}
expect.headers = { x-p = '{"a":1,"b":"x"}' }

[[test]]
name = "settings as a text"
settings = "{}"
request = {}
expect.headers = { x-p = "{}" }

[[test]]
name = "the plugin answers"
request = { trailers = { t = "1" } }
expect = { status = 418, body = "short", local = true, reason = "teapot" }

[[test]]
name = "a pause"
request = { method = "POST", body = ["a", "b"], trailers = {} }
wait = "1s"
expect = { status = 200, upstream = { body = "ab" } }

[[test]]
name = "steps"
[[test.step]]
request = { body = "x" }
expect = { paused = true, status = 0 }
[[test.step]]
advance = "5s"
[[test.step]]
request = {}
repeat = 10
expect.metrics = { seen = { least = 11, most = 11 } }
[[test.step]]
expect.metrics = { seen = 11 }

[[test]]
name = "a trap is expected"
traps = 1
request = {}
response = { body = "x", trailers = { t = "1" } }
expect = { log = ["unreachable"] }

[[test]]
name = "the schema refuses"
settings = { c = 1 }
refused = "setting \"c\" is not in the plugin's schema"

[[test]]
name = "the guest refuses"
settings = ""
refused = "does not accept its configuration"
`

func TestPassing(t *testing.T) {
	s, err := load(t, passing)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	s.Run(t, nil, func(r Result) {
		n++
		if !r.OK {
			t.Errorf("%s, line %d: %+v\n%s", r.Name, r.Line, r.Failures, strings.Join(r.Log, "\n"))
		}
	})
	if want := strings.Count(passing, "[[test]]"); n != want {
		t.Errorf("%d cases ran, want %d", n, want)
	}
}

// Each expectation fails where it does not hold: one case each, with what must be said.
func TestFailing(t *testing.T) {
	for _, tt := range []struct{ key, want string }{
		{`expect.status = 500`, `status: want 500, got 200`},
		{`expect.headers = { x-p = "no" }`, `response header x-p: want "no", got "{\"a\":1}"`},
		{`expect.headers = { x-p = false }`, `response header x-p: want (not there), got "{\"a\":1}"`},
		{`expect.headers = { x-q = true }`, `response header x-q: want (there, any value), got (not there)`},
		{`expect.headers = { x-p = ["a", "b"] }`, `response header x-p: want "a", "b", got "{\"a\":1}"`},
		{`expect.headers = { x-p = { matches = "^b", contains = "c" } }`, `response header x-p: want contains "c" and matches "^b", got`},
		{`expect.body = "no"`, `response body: want "no", got "out"`},
		{`expect.trailers = { a = "1" }`, `response trailer a: want "1", got (not there)`},
		{`expect.local = true`, `local (the plugin has answered itself): want true, got false`},
		{`expect.reason = "x"`, `reason: want "x", got (not there)`},
		{`expect.paused = true`, `paused: want true, got false`},
		{`expect.upstream.path = "/no"`, `upstream path: want "/no", got "/"`},
		{`expect.upstream.body = "no"`, `upstream body: want "no", got ""`},
		{`expect.upstream.headers = { x-seen = "no" }`, `upstream header x-seen: want "no", got "yes"`},
		{`expect.upstream.trailers = { x = true }`, `upstream trailer x: want (there, any value), got (not there)`},
		{`expect.log = ["nothing like it"]`, `a line of the log: want "nothing like it", got (no such line)`},
		{`expect.no_log = ["configured"]`, `the log: want no line with "configured", got "configured"`},
		{`expect.metrics = { seen = 2 }`, `metric seen: want 2, got "1"`},
		{`expect.metrics = { seen = { least = 2 } }`, `metric seen: want least 2, got "1"`},
		{`expect.metrics = { no = 1 }`, `metric no: want 1, got (not there)`},
		{`expect.shared = { key = "other" }`, `shared data key: want "other", got "value"`},
		{`expect.verdict = "x"`, `verdict: want "x", got "seen"`},
		{`expect.log_fields = { field = "x" }`, `log field field: want "x", got "f"`},
		{`traps = 1`, `traps of the guest: want 1, got 0`},
		{`request.path = "no path"`, `step: want a request that a client can send, got`},
		{`request.client = "nobody"`, `step: want a request that a client can send, got`},
		{`response.trailers = { t = "1" }`, `traps of the guest: want 0, got 1`},
		{`request.body = "x"`, `paused: want the message goes on, got the plugin holds it back`},
		{`settings = { z = 1 }`, `start: want the plugin starts, got setting "z" is not in the plugin's schema`},
		{`settings = ""`, `start: want the plugin starts, got plugin plugin: on_configure returned false`},
	} {
		text := "settings = { a = 1 }\n\n[[test]]\nname = \"x\"\n" + tt.key + "\n"
		if !strings.HasPrefix(tt.key, "request") {
			text += "request = {}\n"
		}
		if strings.HasPrefix(tt.key, "response") {
			text += "response.body = \"out\"\n"
		} else {
			text += "response = { body = \"out\" }\n"
		}
		if !strings.Contains(tt.key, "expect") {
			text += "expect = {}\n"
		}
		s, err := load(t, text)
		if err != nil {
			t.Errorf("%s: %v", tt.key, err)
			continue
		}
		s.Run(t, nil, func(r Result) {
			if r.OK || r.Line != 3 {
				t.Errorf("%s: passes, or is not at line 3: %+v", tt.key, r)
				return
			}
			f := r.Failures[0]
			if got := f.What + ": want " + f.Want + ", got " + f.Got; !strings.HasPrefix(got, tt.want) || f.Line != 3 {
				t.Errorf("%s:\ngot  %s\nwant %s", tt.key, got, tt.want)
			}
		})
	}
	s, err := load(t, "settings = { a = 1 }\n[[test]]\nname = \"x\"\nrefused = \"y\"\n[[test]]\nname = \"z\"\nsettings = { c = 1 }\nrefused = \"y\"\n")
	if err != nil {
		t.Fatal(err)
	}
	s.Run(t, nil, func(r Result) {
		if r.OK || r.Failures[0].What != "settings" {
			t.Errorf("settings that are not refused as expected: %+v", r)
		}
	})
}

func TestNames(t *testing.T) {
	s, err := load(t, passing)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	s.Run(t, regexp.MustCompile("^an? "), func(r Result) { names = append(names, r.Name) })
	if got := strings.Join(names, ", "); got != "an exchange, a pause, a trap is expected" {
		t.Errorf("ran %s", got)
	}
}

// What a file cannot mean is told with its line.
func TestFileErrors(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{``, `x.test.toml: has no [[test]]`},
		{"\n[[test]\n", `x.test.toml:2: `},
		{"[[test]]\nname = \"a\"\nrequets = {}\n", `x.test.toml:3: unknown key "requets"`},
		{"[[test]]\nname = \"a\"\nrequest = { path = 5 }\n", `x.test.toml:3: `},
		{"[[test]]\nrequest = {}\n", `x.test.toml:1: a test without a name`},
		{"\n[[test]]\nname = \"a\"\n", `x.test.toml:2: test "a" has neither a request nor a step`},
		{"[[test]]\nname = \"a\"\nrequest = {}\n[[test.step]]\nrequest = {}\n", `x.test.toml:1: test "a" has steps and a request of its own`},
		{"[[test]]\nname = \"a\"\n[[test.step]]\nrepeat = 2\n", `x.test.toml:3: test "a": a step without request`},
		{"[[test]]\nname = \"a\"\nadvance = \"-1s\"\n", `a negative time`},
		{"[[test]]\nname = \"a\"\nrequest = { headers = { a = 1 } }\n", `request.headers: "a" is 1; write a string`},
		{"[[test]]\nname = \"a\"\nrequest = { body = 1 }\n", `request.body: write a string`},
		{"[[test]]\nname = \"a\"\nrequest = {}\nexpect = { headers = { a = 1.5 } }\n", `expect.headers.a: 1.5 is no expectation`},
		{"[[test]]\nname = \"a\"\nrequest = {}\nexpect = { body = { matches = \"(\" } }\n", `expect.body: matches is a regular expression`},
		{"[[test]]\nname = \"a\"\nrequest = {}\nexpect = { body = { is = \"(\" } }\n", `expect.body: unknown key "is"; known are contains, matches, least, most`},
		{"[[test]]\nname = \"a\"\nadvance = \"1s\"\nexpect = { status = 200 }\n", `expects something of an exchange, and has no request`},
		{"[[test]]\nname = \"a\"\nrefused = \"x\"\nrequest = {}\n", `refused settings start no plugin`},
		{"plugin.on_error = \"x\"\n[[test]]\nname = \"a\"\nrequest = {}\n", `plugin.on_error is "x"`},
	} {
		_, err := load(t, tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want %q", tt.text, err, tt.want)
		}
	}
}

// Outside: the same works with a *testing.T that belongs to no test.
func TestOutside(t *testing.T) {
	s, err := load(t, passing)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	plugintest.Outside(func(t *testing.T) {
		s.Run(t, regexp.MustCompile("^an exchange$"), func(r Result) {
			if r.OK {
				n++
			}
		})
	})
	if n != 1 {
		t.Errorf("%d cases passed, want 1", n)
	}
}

func FuzzFile(f *testing.F) {
	f.Add([]byte(passing))
	f.Fuzz(func(_ *testing.T, text []byte) { _, _ = parseFile("x", text) })
}

// caller asks the upstream "auth" about each request with a body, which it holds, and lets it go or
// answers by the number of headers that come back.
func caller() []byte {
	m := wt.NewGuest()
	ask := m.Env(abi.ImportHTTPCall, "iiiiiiiiii>i")
	effective := m.Env(abi.ImportSetEffectiveContext, "i>i")
	resume := m.Env(abi.ImportContinueStream, "i>i")
	log := m.Env(abi.ImportLog, "iii>i")
	reply := m.Env(abi.ImportSendLocalResponse, "iiiiiiii>i")
	id := wt.I32(m.Slot(4))
	stream := m.Global(0)
	pairs := string(abi.AppendPairs(nil, []abi.Pair{
		{Name: ":method", Value: "GET"}, {Name: ":path", Value: "/check"}, {Name: ":authority", Value: "auth"}, {Name: "x-k", Value: "v"},
	}))
	m.Headers("request",
		wt.Set(stream, wt.Local(0)),
		drop(wt.Call(ask, m.Str("auth"), m.Str(pairs), m.Str(""), m.Str(string(abi.AppendPairs(nil, nil))), wt.I32(1000), id)),
		wt.I32(1))
	m.Func(abi.ExportOnHTTPCallResponse, "iiiii",
		drop(wt.Call(log, wt.I32(2), m.Str("answered"))),
		drop(wt.Call(effective, wt.Get(stream))),
		wt.IfElse(wt.GtU(wt.Local(2), wt.I32(2)),
			drop(wt.Call(resume, wt.I32(0))),
			drop(wt.Call(reply, wt.I32(401), m.Str("denied"), m.Str("no"), wt.I32(0), wt.I32(0), wt.I32(-1)))))
	return m.Bytes()
}

func TestCalls(t *testing.T) {
	const text = `
plugin.grant = ["log", "call:auth"]

[[test]]
name = "an answer lets the request go"
request = {}
calls = [{ upstream = "auth", expect = { method = "GET", path = "/check", headers = { x-k = "v" } }, response = { headers = { a = "1", b = "2" }, body = ["o", "k"] } }]
expect.status = 200
expect.log = ["answered"]

[[test]]
name = "a failure does not"
request = {}
calls = [{ upstream = "auth", fail = "reset" }]
expect.status = 401
expect.local = true

[[test]]
name = "FAIL upstream"
request = {}
calls = [{ upstream = "other", expect = { path = "/x", headers = { x-k = false } } }]

[[test]]
name = "FAIL none"
request = {}
calls = [{ upstream = "auth" }, { upstream = "auth" }]

[[test]]
name = "FAIL held"
request = {}
`
	name := filepath.Join(t.TempDir(), "x.test.toml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Load(caller(), []string{name})
	if err != nil {
		t.Fatal(err)
	}
	s.Run(t, nil, func(r Result) {
		if r.OK == strings.HasPrefix(r.Name, "FAIL") {
			t.Errorf("%s: OK is %t: %+v\n%s", r.Name, r.OK, r.Failures, strings.Join(r.Log, "\n"))
		}
		if r.Name == "FAIL upstream" && len(r.Failures) != 3 {
			t.Errorf("%s: %+v", r.Name, r.Failures)
		}
	})
	for _, tt := range []struct{ calls, want string }{
		{`{}`, "a call without its upstream"},
		{`{ upstream = "a", fail = "x" }`, `fail is "x"`},
		{`{ upstream = "a", expect = { path = 1.5 } }`, "1.5 is no expectation"},
		{`{ upstream = "a", response = { headers = { a = 1 } } }`, `response.headers: "a" is 1`},
	} {
		_, err := load(t, "[[test]]\nname = \"a\"\nrequest = {}\ncalls = ["+tt.calls+"]\n")
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.calls, err, tt.want)
		}
	}
}

// closer is a plugin for connections: it closes those that begin with c, holds what begins
// with h, and says "seen" in the log about each.
func closer() []byte {
	m := wt.NewGuest()
	get := m.Env(abi.ImportGetBufferBytes, "iiiii>i")
	shut := m.Env(abi.ImportCloseStream, "i>i")
	log := m.Env(abi.ImportLog, "iii>i")
	at, n := m.Slot(4), m.Slot(4)
	begins := func(c byte) wt.Instr { return wt.Eq(wt.Load8(wt.Load32(wt.I32(at))), wt.I32(int32(c))) }
	m.Func("proxy_on_downstream_data", "iii>i",
		wt.If(wt.Eq(wt.Local(1), wt.I32(0)), wt.I32(0), wt.Return()),
		drop(wt.Call(log, wt.I32(2), m.Str("seen"))),
		drop(wt.Call(get, wt.I32(2), wt.I32(0), wt.I32(1), wt.I32(at), wt.I32(n))),
		wt.If(begins('c'), drop(wt.Call(shut, wt.I32(2)))),
		begins('h'))
	return m.Bytes()
}

func TestConnections(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.test.toml")
	text := `
[[test]]
name = "through"
connection = { client = "192.0.2.7:1", server_name = "a.example", send = ["a", "b"], respond = ["x", "y"] }
expect = { connection = { joined = true, upstream = "ab", client = "xy", closed = false }, log = ["seen"] }
[[test]]
name = "closed"
connection = { send = "c" }
expect = { connection = { upstream = "", closed = "closed_by_plugin:plugin" } }
[[test]]
name = "held for too long"
connection = { send = "h" }
wait = "10m"
expect = { connection = { upstream = "", closed = { contains = "timeout" } } }
[[test]]
name = "wrong"
connection = { send = "a" }
expect = { connection = { joined = false, upstream = "b", client = "c", closed = true }, log_fields = { f = "x" }, verdict = "v" }
`
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Load(closer(), []string{name})
	if err != nil {
		t.Fatal(err)
	}
	s.Run(t, nil, func(r Result) {
		if bad := r.Name == "wrong"; r.OK == bad || bad && len(r.Failures) != 6 {
			t.Errorf("%s: %+v", r.Name, r.Failures)
		}
	})
	for text, want := range map[string]string{
		`connection = {}` + "\nrequest = {}":                   "a request, or a connection",
		`connection = { client = "x" }`:                        "not an address with a port",
		`connection = { send = 1 }`:                            "connection.send: ",
		`connection = {}` + "\nexpect.status = 200":            "has no request",
		`request = {}` + "\nexpect.connection.client = \"x\"":  "of a connection, and has none",
		`advance = "1s"` + "\nexpect.verdict = \"x\"":          "has neither",
		`connection = {}` + "\nexpect.connection.closed = 1.5": "expect.connection.closed: ",
	} {
		_, err := parseFile("x", []byte("[[test]]\nname = \"a\"\n"+text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}
