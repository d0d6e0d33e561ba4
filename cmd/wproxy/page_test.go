package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wproxy/core/certs/certstest"
	"wproxy/host/wasmtest"
)

// pageConfig has servers that are checked each second, a route that fails now and then,
// and a plugin that traps.
const pageConfig = `version = 1
[listeners.http]
address = "@ADDR"

[routes.shop]
host = "a.test"
upstream = "shop"
retry = { on = ["connect", "502"], attempts = 1 }

[routes.bad]
host = "a.test"
path = "/bad"
upstream = "shop"
use = ["bad"]

[routes.private]
host = "a.test"
path = "/private/*"
upstream = "shop"
deny = ["0.0.0.0/0", "::/0"]

[routes.log]
host = "a.test"
path = "/log"
upstream = "shop"
use = ["headers"]

[listeners.https]
address = "127.0.0.1:0"
tls.certs = [{ cert = "@DIR/shop.pem", key = "@DIR/shop.key" }]

[upstreams.shop]
servers = ["@ONE", "@TWO"]
health = { path = "/health", every = "1s", timeout = "500ms", up = 1, down = 1 }

[upstreams.other]
servers = ["@TWO"]

[plugins.bad]
wasm = "@WASM"

[plugins.headers]
wasm = "builtin:securityheaders"

[admin]
address = "@ADMIN"

[log]
to = "stderr"
access = { to = "@ACCESS" }
`

// pageLimits has what the section about limits and caches shows: plugins that take a while
// to compile.
const pageLimits = `
[routes.limited]
host = "a.test"
path = "/limited"
upstream = "shop"
use = ["limit"]

[routes.broken]
host = "a.test"
path = "/broken"
upstream = "shop"
use = ["breaker"]
rewrite.path = "/500"

[routes.cached]
host = "a.test"
path = "/cached"
upstream = "shop"
use = ["cache"]

[plugins.limit]
wasm = "builtin:ratelimit"
config = { rate = "1/h", burst = 1 }

[plugins.breaker]
wasm = "builtin:breaker"
config = { consecutive = 1, failures = false, open_for = "1h" }

[plugins.cache]
wasm = "builtin:cache"
`

// hostileText is what a client would like to become a part of the page.
const hostileText = `/x"><img/src=x/onerror=window.pwned=1><script>window.pwned=1</script>'&amp;%00$(touch)`

// pageRig is a wproxy and the servers behind it.
type pageRig struct {
	*instance
	one, two *httptest.Server
	way      string // another address of the page; "": none so far
}

func newPageRig(t *testing.T) *pageRig {
	t.Helper()
	p := &pageRig{}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/slow":
			time.Sleep(1100 * time.Millisecond)
		case r.URL.Path == "/500":
			w.WriteHeader(http.StatusInternalServerError)
		case strings.HasPrefix(r.URL.Path, "/half"):
			w.WriteHeader(http.StatusNotFound)
		case r.URL.Path == "/cached":
			w.Header().Set("Cache-Control", "max-age=60")
		}
		_, _ = io.WriteString(w, "hello")
	})
	p.one, p.two = httptest.NewServer(h), httptest.NewServer(h)
	t.Cleanup(p.one.Close)
	t.Cleanup(p.two.Close)
	m := wasmtest.NewGuest()
	m.Headers("request", wasmtest.Unreachable(), wasmtest.I32(0))
	dir := t.TempDir()
	pair := certstest.New(t, "ca").Sign(certstest.Request{Names: []string{"shop.example.com", "www.example.com", "a.example.com"}})
	pair.Write(t, dir, "shop")
	guest := filepath.Join(dir, "guest.wasm")
	if err := os.WriteFile(guest, m.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	text := pageConfig
	if !raceDetector {
		text += pageLimits
	}
	p.instance = startInstance(t, strings.NewReplacer("@ONE", p.one.Listener.Addr().String(), "@TWO", p.two.Listener.Addr().String(), "@WASM", guest, "@DIR", dir).Replace(text))
	return p
}

// ask sends a request whose target is written as it is, and returns the status.
func (p *pageRig) ask(t *testing.T, method, target string) int {
	t.Helper()
	w := p.connect(t)
	defer w.Close()
	if _, err := fmt.Fprintf(w, "%s %s HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n", method, target); err != nil {
		t.Fatal(err)
	}
	resp, err := w.r.ReadResponse(method)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	return resp.Status
}

// traffic makes some of everything that the page shows.
func (p *pageRig) traffic(t *testing.T) {
	t.Helper()
	for range 60 {
		p.ask(t, "GET", "/")
	}
	for _, r := range []struct {
		method, target string
		status         int
	}{
		{"GET", "/bad?q=1&access_token=geheim", 503},
		{"GET", "/private/" + strings.Repeat("long/", 20), 403},
		{"POST", "/private/it's", 403},
		{"GET", "/500", 500},
		{"GET", "/half/found", 404},
		{"GET", "/log", 200},
		{"GET", "/slow", 200},
		{"GET", "/private" + strings.ReplaceAll(url.PathEscape(hostileText), "%2F", "/") + `?a="><b>`, 403},
	} {
		if got := p.ask(t, r.method, r.target); got != r.status {
			t.Errorf("%s %s: got %d, want %d", r.method, r.target, got, r.status)
		}
	}
}

// statusOf reads /status.
func (p *pageRig) statusOf(t *testing.T) *Status {
	t.Helper()
	resp, err := http.Get("http://" + p.admin + "/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var st Status
	if err := json.NewDecoder(resp.Body).Decode(&st); err != nil {
		t.Fatal(err)
	}
	return &st
}

// serverCell is the text of a column of a server's row.
func serverCell(address string, column int) string {
	return fmt.Sprintf(`([...document.querySelectorAll("#servers tbody tr")].find(r => r.cells[1].textContent === %q && r.cells[0].textContent.startsWith("shop"))?.cells[%d]?.innerText ?? "")`, address, column)
}

// TestPage is the page as a person sees it.
func TestPage(t *testing.T) {
	b := startBrowser(t) // before the goroutines are counted
	p := newPageRig(t)
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	p.traffic(t)
	one := p.one.Listener.Addr().String()
	b.open("http://"+p.admin+"/", 1440, "light")
	b.until("all servers of shop are up", serverCell(one, 2)+`.includes("● up")`, browserTime)

	t.Run("values", func(t *testing.T) {
		st := p.statusOf(t)
		facts := b.text(`document.getElementById("facts").innerText`)
		for _, want := range []string{st.Version, st.ConfigHash, fmt.Sprintf("generation %d", st.Generation), st.Listeners[0].Address, "shop.example.com, www.example.com and 1 more, in "} {
			if !strings.Contains(facts, want) {
				t.Errorf("the header %q has no %q", facts, want)
			}
		}
		var rows []string
		b.eval(&rows, `[...document.querySelectorAll("#servers tbody tr")].map(r => r.cells[0].firstChild.textContent + " " + r.cells[1].textContent + " " + r.cells[4].textContent + " " + r.cells[5].textContent)`)
		var want []string
		for _, u := range st.Upstreams {
			for _, s := range u.Servers {
				want = append(want, fmt.Sprintf("%s %s %d %d", u.Name, s.Address, s.Failures, s.Weight))
			}
		}
		if len(rows) != len(want) {
			t.Errorf("servers: got %q, want %q", rows, want)
		}
		for _, w := range want {
			if !strings.Contains(strings.Join(rows, "\n"), w) {
				t.Errorf("servers: %q has no %q", rows, w)
			}
		}
		if got := b.text(`[...document.querySelectorAll("#route-rows tbody tr")].map(r => r.cells[0].textContent).join()`); !strings.HasPrefix(got, "bad,") || !strings.HasSuffix(got, "log,private,shop") {
			t.Errorf("routes: got %s", got)
		}
		values, err := p.scrape()
		if err != nil {
			t.Fatal(err)
		}
		shop := 0.0
		for k, v := range values {
			if strings.HasPrefix(k, "wproxy_requests_total{") && strings.Contains(k, `route="shop"`) {
				shop += v
			}
		}
		if got := b.text(`[...document.querySelectorAll("#route-rows tbody tr")].find(r => r.cells[0].textContent === "shop").cells[6].textContent`); got != fmt.Sprint(shop) {
			t.Errorf("requests of route shop: the page says %s, /metrics %v", got, shop)
		}
	})

	t.Run("trap", func(t *testing.T) {
		got := b.text(`document.querySelector('[data-plugin="bad"]').innerText`)
		for _, want := range []string{"on_request_headers", "unreachable", "route bad", "in ", "close: 503"} {
			if !strings.Contains(got, want) {
				t.Errorf("the plugin %q has no %q", got, want)
			}
		}
		if stack := b.text(`document.querySelector('[data-plugin="bad"] .stack').textContent`); !strings.Contains(stack, "proxy_on_request_headers") {
			t.Errorf("stack: got %q", stack)
		}
	})

	t.Run("hostile", func(t *testing.T) {
		got := b.text(`document.getElementById("request-rows").innerText`)
		if !strings.Contains(got, "onerror=window.pwned=1") && !strings.Contains(got, "onerror%3Dwindow") {
			t.Errorf("the hostile path is not there as text: %q", got)
		}
		if b.text(`window.pwned`) != "undefined" || b.text(`document.querySelectorAll("main img, main script").length`) != "0" {
			t.Error("what a client sent became a part of the page")
		}
		if strings.Contains(got, "geheim") || !strings.Contains(got, "access_token=***") {
			t.Error("a token of a query is shown")
		}
	})

	t.Run("live", func(t *testing.T) {
		const total = `[...document.querySelectorAll("#route-rows tbody tr")].find(r => r.cells[0].textContent === "shop").cells[6].textContent`
		before := b.text(total)
		p.ask(t, "GET", "/")
		b.until("one more request", total+` !== `+fmt.Sprintf("%q", before), browserTime)
	})

	t.Run("limits", func(t *testing.T) { p.limits(t, b) })
	t.Run("looks", func(t *testing.T) { looks(t, b, "well") })
	t.Run("keyboard", func(t *testing.T) { keyboard(t, b) })

	t.Run("circuit", func(t *testing.T) {
		if raceDetector {
			t.Skip("its plugin takes half a minute to compile with the race detector")
		}
		for range 2 {
			p.ask(t, "GET", "/broken") // 500, and the breaker's own 503
		}
		b.until("the circuit is open", `document.getElementById("circuits").innerText.includes("▲ open for")`, browserTime)
		b.until("the time line has it", `document.getElementById("marks").innerText.includes("breaker breaker: route broken, upstream shop: closed -> open")`, browserTime)
		if got := b.text(`document.getElementById("state").innerText`); !strings.Contains(got, "1 circuit breaker is open") {
			t.Errorf("the header says %q", got)
		}
	})
	t.Run("silence", func(t *testing.T) { p.silence(t, b) })
	t.Run("restart", func(t *testing.T) { restart(t, b) })
	t.Run("hours", func(t *testing.T) { hours(t, b) })

	t.Run("killed", func(t *testing.T) {
		p.one.CloseClientConnections()
		p.one.Listener.Close()
		killed := time.Now()
		b.until("the server that was killed is red", serverCell(one, 2)+`.includes("▲ down")`, browserTime)
		if took := time.Since(killed); took > prompt {
			t.Errorf("it took %v until the page said so", took)
		} else {
			t.Logf("it took %v", took)
		}
		if got := b.text(serverCell(one, 2)); !strings.Contains(got, "refused") {
			t.Errorf("the state %q has no reason", got)
		}
		var red []int
		b.eval(&red, `getComputedStyle(document.querySelector("#servers tbody tr .bad")).color.match(/\d+/g).map(Number)`)
		if len(red) < 3 || red[0] < 150 || red[0] < red[1]+50 || red[0] < red[2]+50 {
			t.Errorf("the color is %v, which is not red", red)
		}
		if got := b.text(`document.getElementById("state").className`); got != "pill bad" {
			t.Errorf("the header is %q while a server is down", got)
		}
		if got := b.text(`document.querySelectorAll(".pill.good").length`); got != "0" {
			t.Error("something says that all is well while a server is down")
		}
		b.until("the time line has it", `document.getElementById("marks").innerText.includes("down")`, browserTime)
		p.traffic(t)
		looks(t, b, "down")
	})

	t.Run("refused reload", func(t *testing.T) {
		if err := os.WriteFile(p.file, []byte("version = 1\n[routes.x]\nupstreem = 1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, _ := p.tryReload(); code != exitRefused {
			t.Fatalf("reload: got %d", code)
		}
		b.until("it says why", `document.getElementById("problems").innerText.includes("upstreem")`, browserTime)
	})

	t.Run("failed upgrade", func(t *testing.T) {
		var out strings.Builder
		if code := run(t.Context(), []string{"upgrade", "-c", p.file, "--binary", "/no/such/binary"}, &out, &out); code != exitRefused {
			t.Fatalf("upgrade: got %d: %s", code, out.String())
		}
		b.until("it says why", `document.getElementById("facts").innerText.includes("/no/such/binary")`, browserTime)
		b.until("it is on the time line", `document.getElementById("marks").innerText.includes("upgrade failed")`, browserTime)
	})

	t.Run("lost", func(t *testing.T) {
		p.stop(t)
		b.until("the connection is lost", `document.body.className === "stale" && document.getElementById("state").innerText.includes("no connection")`, browserTime)
		if got := b.text(`[...document.querySelectorAll("main .good")].filter(e => getComputedStyle(e).color !== getComputedStyle(document.querySelector("th")).color).length`); got != "0" {
			t.Error("something is green without a connection")
		}
	})

	for _, u := range b.asked() {
		if !strings.HasPrefix(u, "http://"+p.admin+"/") && !strings.HasPrefix(u, "http://"+p.way+"/") && !strings.HasPrefix(u, "data:") && u != "about:blank" {
			t.Errorf("the page asked for %s", u)
		}
	}
	for _, c := range b.complaints() {
		if !strings.Contains(c, "/events") { // that it is gone
			t.Errorf("the browser complains: %s", c)
		}
	}
}

// looks looks at the page in both widths and schemes: nothing hangs out, and all text can
// be read (WCAG 2.2, 1.4.3).
func looks(t *testing.T, b *browser, name string) {
	t.Helper()
	for _, width := range []int{1440, 390} {
		for _, scheme := range []string{"light", "dark"} {
			b.look(width, scheme)
			b.until("it is drawn anew", fmt.Sprintf(`document.querySelector("#chart-rate svg")?.viewBox.baseVal.width <= %d`, width), browserTime)
			b.shot(fmt.Sprintf("%s-%d-%s", name, width, scheme))
			if got := b.text(`document.documentElement.scrollWidth - innerWidth`); got > "0" {
				t.Errorf("%d %s: the page is %s px too wide", width, scheme, got)
			}
			var low []string
			b.eval(&low, contrastScript)
			for _, l := range low {
				t.Errorf("%d %s: %s", width, scheme, l)
			}
		}
	}
	b.look(1440, "light")
}

// contrastScript lists texts whose contrast is below 4.5:1.
const contrastScript = `(() => {
	const parse = c => { const m = c.match(/[\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
	const lum = c => { const [r, g, b] = c.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
	const back = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] > 0) return c; } return [255, 255, 255, 1]; };
	const low = new Set();
	let n = 0;
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walk.nextNode()) {
		const e = walk.currentNode.parentElement;
		if (!walk.currentNode.textContent.trim() || !e.checkVisibility()) continue;
		n++;
		const s = getComputedStyle(e), fore = parse(e.namespaceURI.endsWith("svg") ? s.fill : s.color), a = lum(fore), b = lum(back(e));
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		if (ratio < 4.5) low.add(e.tagName + "." + (e.className.baseVal ?? e.className) + " has a contrast of " + ratio.toFixed(2) + ": " + walk.currentNode.textContent.slice(0, 40));
	}
	if (n < 100) low.add("only " + n + " texts were looked at");
	return [...low];
})()`

// keyboard does everything without a pointer.
func keyboard(t *testing.T, b *browser) {
	t.Helper()
	b.eval(nil, `document.activeElement.blur(), window.scrollTo(0, 0)`)
	seen := map[string]bool{}
	for range 60 {
		b.key("Tab", 9)
		seen[b.text(`(e => e.id || e.dataset.sort || e.className || e.tagName + " " + e.getAttribute("href"))(document.activeElement)`)] = true
		if got := b.text(`(e => e === document.body || getComputedStyle(e).outlineStyle)(document.activeElement)`); got == "none" {
			t.Errorf("what has the focus does not show it: %s", b.text(`document.activeElement.outerHTML.slice(0, 100)`))
		}
	}
	for _, want := range []string{"skip", "charts", "rate", "p99", "kind", "copy", "SUMMARY null"} {
		if !seen[want] {
			t.Errorf("Tab does not come to %q; it comes to %v", want, seen)
		}
	}
	b.until("there are two points", `state.points.length > 1`, browserTime)
	b.eval(nil, `document.getElementById("charts").focus()`)
	b.key("ArrowLeft", 37)
	latest := b.text(`document.getElementById("readout").textContent`)
	b.key("ArrowLeft", 37)
	if got := b.text(`document.getElementById("readout").textContent`); got == latest || strings.HasPrefix(got, "Now") || !strings.Contains(got, "requests/s") {
		t.Errorf("the left arrow reads %q after %q", got, latest)
	}
	if b.text(`document.querySelectorAll("#charts .cursor").length`) != "3" {
		t.Error("the charts do not show where the keyboard is")
	}
	b.key("Escape", 27)
	b.eval(nil, `document.querySelector('[data-sort="rate"]').focus()`)
	b.must(nil, "Input.dispatchKeyEvent", map[string]any{"type": "keyDown", "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"})
	if got := b.text(`document.querySelector('[data-sort="rate"]').parentElement.getAttribute("aria-sort")`); got != "descending" {
		t.Errorf("Enter on a column: sorted %q", got)
	}
	b.eval(nil, `document.getElementById("tabled").open = true`)
	b.until("the time line is a table", `document.querySelectorAll("#points tbody tr").length > 1`, browserTime)
	b.eval(nil, `document.getElementById("tabled").open = false`)
}

// TestPageOff: without the page its address answers as before.
func TestPageOff(t *testing.T) {
	in := startInstance(t, strings.Replace(hostileConfigWith(t), "[admin]", "[admin]\npage = false", 1))
	for path, want := range map[string]int{"/": 200, "/page/page.js": 404, "/events": 404, "/live": 404, "/status": 200} {
		req, err := http.NewRequest(http.MethodGet, "http://"+in.admin+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/html")
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want || strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: got %d %s, want %d and no page", path, resp.StatusCode, resp.Header.Get("Content-Type"), want)
		}
	}
}

func hostileConfigWith(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return strings.ReplaceAll(hostileConfig, "@ORIGIN", l.Addr().String())
}
