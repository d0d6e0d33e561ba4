package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wproxy/core/config"
	"wproxy/core/exchange"
)

// randomRoutes writes routes of a small vocabulary, so that they meet often.
// Each answers in a way that tells which it was.
func randomRoutes(r *rand.Rand, origin string) map[string]string {
	one := func(list ...string) string { return list[r.IntN(len(list))] }
	routes := map[string]string{}
	for i := range 4 + r.IntN(12) {
		name := fmt.Sprintf("r%02d", i)
		var b strings.Builder
		fmt.Fprintf(&b, "[routes.%s]\npriority = %d\n", name, r.IntN(3))
		if r.IntN(2) == 0 {
			fmt.Fprintf(&b, "host = %q\n", one("a.example", "b.a.example", "*.a.example", "*.example"))
		}
		switch r.IntN(4) {
		case 0:
			fmt.Fprintf(&b, "path_regex = %q\n", one("^/a", "^/b/", "b$", `^/a/\\d`))
		case 1, 2:
			fmt.Fprintf(&b, "path = %q\n", one("/a", "/a/*", "/a/b/*", "/b", "/b/*", "/"))
		}
		if r.IntN(4) == 0 {
			fmt.Fprintf(&b, "methods = [%q]\n", one("GET", "POST"))
		}
		if r.IntN(4) == 0 {
			fmt.Fprintf(&b, "when.header.x-a = %s\n", one(`"1"`, `["1", "2"]`, "true", "false"))
		}
		if r.IntN(4) == 0 {
			fmt.Fprintf(&b, "when.query.q = %s\n", one(`"1"`, "true", "false"))
		}
		if r.IntN(6) == 0 {
			fmt.Fprintf(&b, "when.header.x-forwarded-for = %s\n", one(`"127.0.0.1"`, `"192.0.2.7, 127.0.0.1"`, "true"))
		}
		if r.IntN(4) == 0 {
			fmt.Fprintf(&b, "deny = [%s]\n", one(`"127.0.0.1"`, `"192.0.2.0/24"`, `"192.0.2.7", "198.51.100.0/24"`))
		}
		if r.IntN(4) == 0 {
			fmt.Fprintf(&b, "allow = [%s]\n", one(`"127.0.0.0/8"`, `"192.0.2.0/24"`, `"0.0.0.0/0"`))
		}
		if r.IntN(4) == 0 {
			b.WriteString("encoded_slash = \"keep\"\n")
		}
		switch r.IntN(4) {
		case 0:
			fmt.Fprintf(&b, "respond = { status = 299, headers = { x-route = %q } }\n", name)
		case 1:
			fmt.Fprintf(&b, "redirect = %q\n", "https://"+name+".example")
		default:
			fmt.Fprintf(&b, "to = %q\nresponse_headers.set.x-route = %q\n", origin, name)
			if r.IntN(2) == 0 {
				fmt.Fprintf(&b, "strip = %q\n", one("/a", "/b"))
			}
			if r.IntN(2) == 0 {
				fmt.Fprintf(&b, "rewrite = %s\n", one(`{ path = "/x" }`, `{ regex = '^/a(.*)', to = '/c/$1' }`, `{ regex = 'b', to = '/d' }`))
			}
		}
		routes[name] = b.String()
	}
	return routes
}

// buildRandom returns a configuration of random routes, without those that New
// refuses for a tie, and its planner.
func buildRandom(t *testing.T, r *rand.Rand, origin, access string) (string, *planner) {
	t.Helper()
	routes := randomRoutes(r, origin)
	trust := []string{"", "trust_proxy = [\"127.0.0.0/8\"]\n", "trust_proxy = [\"127.0.0.1\", \"192.0.2.0/24\"]\n"}[r.IntN(3)]
	for {
		text := "[listeners.http]\naddress = \"@ADDR\"\n" + trust + "[admin]\naddress = \"@ADMIN\"\n[log.access]\nto = \"" + access + "\"\n"
		for name := range routes {
			text += routes[name]
		}
		f, err := config.Parse("random.toml", []byte(strings.NewReplacer("@ADDR", "127.0.0.1:1", "@ADMIN", "127.0.0.1:2").Replace(text)))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		pl, err := newPlanner(f)
		if err == nil {
			return text, pl
		}
		problems, _ := asType[config.Problems](err)
		if len(problems) == 0 {
			t.Fatal(err)
		}
		for _, p := range problems {
			name := strings.TrimPrefix(p.Key, "routes.")
			if routes[name] == "" || !strings.Contains(p.Text, "as specific as") {
				t.Fatalf("unexpected: %v", p)
			}
			delete(routes, name)
		}
	}
}

// TestExplainAgreesWithLive compares plans with what a running wproxy answers.
func TestExplainAgreesWithLive(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("x-target", r.RequestURI)
	}))
	t.Cleanup(origin.Close)
	denied := 0
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 77))
			text, pl := buildRandom(t, r, strings.TrimPrefix(origin.URL, "http://"), "none")
			in := startInstance(t, text)
			answers := map[int]int{}
			for range 150 {
				answers[compareLive(t, r, in, pl, text)]++
				if t.Failed() {
					return
				}
			}
			denied += answers[403]
			if answers[200] == 0 || answers[404] == len(answers) {
				t.Errorf("the requests met too little: statuses %v of\n%s", answers, text)
			}
		})
	}
	if denied == 0 {
		t.Error("no request met a list of clients")
	}
}

// compareLive makes up a request, sends it, and compares. It returns the status.
func compareLive(t *testing.T, r *rand.Rand, in *instance, pl *planner, text string) int {
	t.Helper()
	one := func(list ...string) string { return list[r.IntN(len(list))] }
	q := question{
		method: one("GET", "POST", "PUT"),
		url: "http://" + one("a.example", "A.example.:80", "b.a.example", "c.b.a.example:8080", "x.example", "other") +
			one("/", "/a", "/a/", "/a/b", "/a/b/c", "/a/1", "/ab", "/b", "/b/a", "/x/../a", "/%61/b", "/a%2Fb", "/a..b/c", "/a/./b", `/a\b`, "/a/%zz", "/a../b") +
			one("", "?q=1", "?q=2", "?q=1&q=1", "?%71=%31", "?q"),
	}
	if r.IntN(12) == 0 {
		q.method = one("", "G T", " GET", "G(T", "CONNECT", "get", strings.Repeat("M", 32), strings.Repeat("M", 33))
	}
	q.peer = netip.MustParseAddr("127.0.0.1")
	if r.IntN(2) == 0 {
		q.headers = append(q.headers, exchange.Field{
			Name:  one("X-Forwarded-For", "x_forwarded_for", "Forwarded"),
			Value: one("192.0.2.7", "198.51.100.1, 192.0.2.7", "192.0.2.7, 198.51.100.1", "nonsense", "for=192.0.2.7", "for=198.51.100.1;proto=https, for=192.0.2.7"),
		})
	}
	if r.IntN(4) == 0 {
		q.headers = append(q.headers, exchange.Field{Name: "x-forwarded-proto", Value: one("https", "x")})
	}
	for range r.IntN(3) {
		q.headers = append(q.headers, exchange.Field{Name: one("X-A", "x-a", "x-b"), Value: one("1", "2", "3")})
	}
	p, err := pl.plan(q, 100)
	if err != nil {
		t.Fatal(err)
	}
	host, target, _ := strings.Cut(strings.TrimPrefix(q.url, "http://"), "/")
	var raw bytes.Buffer
	fmt.Fprintf(&raw, "%s /%s HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\n", q.method, target, host)
	for _, h := range q.headers {
		fmt.Fprintf(&raw, "%s: %s\r\n", h.Name, h.Value)
	}
	raw.WriteString("\r\n")
	w := in.dial(t)
	defer w.Close()
	if _, err := w.Write(raw.Bytes()); err != nil {
		t.Fatal(err)
	}
	resp, err := w.r.ReadResponse(q.method)
	if err != nil {
		t.Errorf("%s: %v", raw.String(), err)
		return 0
	}
	want := [4]string{fmt.Sprint(p.status), "", p.location, p.upstreamPath}
	if p.status == 0 {
		want[0] = "200"
	}
	if p.route != nil && p.location == "" && (p.status == 0 || p.status == 299 || p.status == 403 && p.conf.Upstream != nil) {
		want[1] = p.route.Name
	}
	got := [4]string{fmt.Sprint(resp.Status), resp.Fields.Get("x-route"), resp.Fields.Get("location"), resp.Fields.Get("x-target")}
	if got != want {
		t.Errorf("live (status, route, location, upstream path) %q, explain says %q for\n%s\n%v\n%s", got, want, raw.String(), explain(pl.file, p), text)
	}
	return resp.Status
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "w.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const explained = `
[listeners.http]
address = ":80"
[listeners.internal]
address = "127.0.0.1:8081"
[routes.api]
host     = "api.example.com"
path     = "/v1/*"
upstream = { a = 3, b = 1 }
strip    = "/v1"
deny     = ["192.0.2.0/24"]
timeout  = "10m"
use      = ["p"]
with.p   = { rate = "20/s" }
[routes.canary]
host     = "api.example.com"
path     = "/v1/*"
when     = { header = { x-canary = "1" } }
upstream = "b"
[routes.status]
path     = "/status"
listener = "internal"
respond  = { body = "ok" }
[upstreams.a]
servers = ["10.0.0.1:80", "10.0.0.2:80"]
[upstreams.b]
servers = "10.0.0.3:80"
[plugins.p]
wasm   = "p.wasm"
config = { rate = "10/s", token = "${env:WPROXY_TEST_TOKEN}" }
`

func TestExplain(t *testing.T) {
	t.Setenv("WPROXY_TEST_TOKEN", "s3cret")
	file := writeConfig(t, explained)
	at := func(line int) string { return fmt.Sprintf("%s:%d:1", file, line) }
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"GET", "https://API.example.com/v1/x/../users?y=1", "-H", "X-Canary: 2"}, `
request    GET https://api.example.com/v1/users?y=1
listener   http
route      api  (api.example.com/v1/*, ` + at(6) + `)
           not canary  (api.example.com/v1/*): header x-canary: "2" is not "1"
           not status  (/status): path: "/v1/users" does not match
deny       clients in 192.0.2.0/24 get 403
plugins    p  (p.wasm)
             rate = "20/s"
             token = "${env:WPROXY_TEST_TOKEN}"
upstream   a  75% of requests  (10.0.0.1:80, 10.0.0.2:80)
             balance round-robin
           b  25% of requests  (10.0.0.3:80)
split      by chance
path       /users?y=1
timeout    10m
retry      1 more try after connect, refused-stream
           budget 20% of the requests, at least 3/s; back-off 25ms..250ms
`},
		{[]string{"GET", "http://api.example.com/v1/a", "--from", "192.0.2.9"}, `
request    GET http://api.example.com/v1/a
listener   http
client     192.0.2.9
route      api  (api.example.com/v1/*, ` + at(6) + `)
           not canary  (api.example.com/v1/*): header x-canary: is not there
           not status  (/status): path: "/v1/a" does not match
deny       clients in 192.0.2.0/24 get 403
plugins    p  (p.wasm)
             rate = "20/s"
             token = "${env:WPROXY_TEST_TOKEN}"
answer     403 by wproxy itself: denied
`},
		{[]string{"GET", "http://x:8081/status"}, `
request    GET http://x:8081/status
listener   internal
route      status  (/status, ` + at(20) + `)
           not api  (api.example.com/v1/*): host: "x" does not match
           not canary  (api.example.com/v1/*): host: "x" does not match
answer     200 by wproxy itself: respond
`},
		{[]string{"--listener=http", "GET", "http://x:8081/status"}, `
request    GET http://x:8081/status
listener   http
route      none
           not status  (/status): listener: "http" is not "internal"
           not api  (api.example.com/v1/*): host: "x" does not match
           not canary  (api.example.com/v1/*): host: "x" does not match
answer     404 by wproxy itself: no_route
`},
		{[]string{"G T", "http://x:8081/status"}, `
request    G T http://x:8081/status
listener   internal
route      none
answer     400 by wproxy itself: bad_request_line
`},
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), append([]string{"explain", "-c", file}, c.args...), &stdout, &stderr)
		if got := "\n" + stdout.String(); code != exitOK || got != c.want {
			t.Errorf("%q: code %d, %s\ngot %s\nwant %s", c.args, code, stderr.String(), got, c.want)
		}
	}
	var stdout, stderr bytes.Buffer
	run(t.Context(), []string{"explain", "-c", file, "--json", "GET", "http://api.example.com/v1/a"}, &stdout, &stderr)
	var e explanation
	if err := json.Unmarshal(stdout.Bytes(), &e); err != nil || e.Route == nil || e.Route.Name != "api" || e.Path != "/a" || settingsText(e.Plugins[0].Config) == "" {
		t.Errorf("%v: %s", err, stdout.String())
	}
	if strings.Contains(stdout.String(), "s3cret") {
		t.Error("the secret shows")
	}
	stdout.Reset()
	text := writeConfig(t, "[routes.a]\nto = \"127.0.0.1:1\"\nuse = [\"p\"]\n[plugins.p]\nwasm = \"p.wasm\"\nconfig = \"key: ${env:WPROXY_TEST_TOKEN}\"\n")
	run(t.Context(), []string{"explain", "-c", text, "GET", "http://x/"}, &stdout, &stderr)
	if want := "\nplugins    p  (p.wasm)\n             config = \"key: ${env:WPROXY_TEST_TOKEN}\"\n"; !strings.Contains(stdout.String(), want) {
		t.Errorf("text for a plugin: got\n%s\nwant%s", stdout.String(), want)
	}
	for _, args := range [][]string{{"GET"}, {"GET", "/x"}, {"GET", "http://x/", "more"}, {"GET", "http://x/", "-H", "nonsense"}, {"GET", "http://x/", "--listener", "none"}, {"GET", "http://x/", "--from", "nobody"}} {
		if code := run(t.Context(), append([]string{"explain", "-c", file}, args...), &stdout, &stderr); code != exitFailed {
			t.Errorf("%q: code %d", args, code)
		}
	}
}

// TestExplainListener: the listener is the one that is named, has the port, or speaks the
// scheme, in this order.
func TestExplainListener(t *testing.T) {
	t.Parallel()
	listener := func(secure bool, port int) *config.Listener {
		l := &config.Listener{Address: fmt.Sprintf("127.0.0.1:%d", port)}
		if secure {
			l.TLS = &config.ListenerTLS{}
		}
		return l
	}
	pl := &planner{file: &config.File{Listeners: map[string]*config.Listener{
		"a": listener(false, 8080), "b": listener(true, 8443), "c": listener(false, 8443+1), "d": listener(true, 8445),
	}}}
	for url, want := range map[string]string{
		"http://h/": "a", "https://h/": "b", "https://h:1/": "b", "http://h:8443/": "b",
		"https://h:8080/": "a", "http://h:8444/": "c", "https://h:8445/x": "d",
	} {
		if got, err := pl.pickListener(question{url: url}); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", url, got, err, want)
		}
	}
	if got, _ := pl.pickListener(question{url: "https://h/", listener: "c"}); got != "c" {
		t.Errorf("one that is named: %s", got)
	}
	delete(pl.file.Listeners, "b")
	delete(pl.file.Listeners, "d")
	if got, _ := pl.pickListener(question{url: "https://h/"}); got != "a" {
		t.Errorf("without TLS: %s", got)
	}
}
