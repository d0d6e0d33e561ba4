package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// A browser is a headless Chromium with one page, driven by the DevTools protocol over a
// pipe (https://chromedevtools.github.io/devtools-protocol/): NUL ends a message.
type browser struct {
	t       *testing.T
	out     io.WriteCloser
	session string

	mu sync.Mutex
	// Guarded by mu.
	next   int
	wait   map[int]chan browserReply
	faults []string // exceptions, and what the console and the security policy complained of
	urls   []string // that were asked for
	gone   bool
}

type browserReply struct {
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// browserTime bounds one command, and a condition that is waited for. Only a failure uses it up.
const browserTime = time.Minute

// startBrowser starts Chromium, which ends with the test. Without one the test is skipped,
// but not in CI.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("there is no chromium, and CI has to have it")
		}
		t.Skip("needs chromium (Debian: apt-get install chromium)")
	}
	theirs, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{
		"--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server", "--mute-audio",
		"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--user-data-dir=" + filepath.Join(t.TempDir(), "profile"), "about:blank",
	}
	if os.Geteuid() == 0 {
		args = append([]string{"--no-sandbox"}, args...) // its own sandbox needs another user
	}
	cmd := exec.Command(path, args...)
	cmd.ExtraFiles = []*os.File{theirs, theirOut} // 3: it reads, 4: it writes
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = theirs.Close(), theirOut.Close()
	b := &browser{t: t, out: in, wait: map[int]chan browserReply{}}
	read := make(chan struct{})
	go func() { // ends when Chromium does
		defer close(read)
		b.read(out)
	}()
	t.Cleanup(func() {
		_, _ = b.send("", "Browser.close", nil)
		kill := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // killed or not
		kill.Stop()
		_ = in.Close()
		_ = out.Close()
		<-read
	})
	var targets struct {
		TargetInfos []struct{ TargetID, Type string }
	}
	b.must(&targets, "Target.getTargets", nil)
	for _, target := range targets.TargetInfos {
		if target.Type == "page" {
			var a struct{ SessionID string }
			b.must(&a, "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true})
			b.session = a.SessionID
		}
	}
	if b.session == "" {
		t.Fatal("chromium has no page")
	}
	for _, domain := range []string{"Page", "Runtime", "Network", "Log"} {
		b.must(nil, domain+".enable", nil)
	}
	return b
}

// read takes in messages until the end.
func (b *browser) read(r io.Reader) {
	br := bufio.NewReader(r)
	for {
		line, err := br.ReadBytes(0)
		if err != nil {
			b.mu.Lock()
			b.gone = true
			for id, c := range b.wait {
				delete(b.wait, id)
				close(c)
			}
			b.mu.Unlock()
			return
		}
		var m struct {
			ID     int             `json:"id"`
			Method string          `json:"method"`
			Params json.RawMessage `json:"params"`
			browserReply
		}
		if json.Unmarshal(line[:len(line)-1], &m) != nil {
			continue
		}
		b.mu.Lock()
		switch m.Method {
		case "":
			if c := b.wait[m.ID]; c != nil {
				delete(b.wait, m.ID)
				c <- m.browserReply // has room
			}
		case "Runtime.exceptionThrown", "Log.entryAdded":
			b.faults = append(b.faults, m.Method+" "+string(m.Params))
		case "Network.requestWillBeSent":
			var p struct {
				Request struct{ URL string }
			}
			_ = json.Unmarshal(m.Params, &p)
			b.urls = append(b.urls, p.Request.URL)
		}
		b.mu.Unlock()
	}
}

var errBrowser = errors.New("chromium")

// send makes a call and waits for its result.
func (b *browser) send(session, method string, params any) (json.RawMessage, error) {
	c := make(chan browserReply, 1)
	b.mu.Lock()
	b.next++
	id := b.next
	gone := b.gone
	b.wait[id] = c
	b.mu.Unlock()
	if gone {
		return nil, fmt.Errorf("%w has ended", errBrowser)
	}
	m := map[string]any{"id": id, "method": method}
	if params != nil {
		m["params"] = params
	}
	if session != "" {
		m["sessionId"] = session
	}
	line, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	if _, err := b.out.Write(append(line, 0)); err != nil {
		return nil, err
	}
	t := time.NewTimer(browserTime)
	defer t.Stop()
	select {
	case r, ok := <-c:
		switch {
		case !ok:
			return nil, fmt.Errorf("%w has ended", errBrowser)
		case r.Error != nil:
			return nil, fmt.Errorf("%w: %s: %s", errBrowser, method, r.Error.Message)
		}
		return r.Result, nil
	case <-t.C:
		return nil, fmt.Errorf("%w: %s: no answer", errBrowser, method)
	}
}

// must is send to the page, which has to work. result may be nil.
func (b *browser) must(result any, method string, params any) {
	b.t.Helper()
	raw, err := b.send(b.session, method, params)
	if err == nil && result != nil {
		err = json.Unmarshal(raw, result)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// eval evaluates an expression in the page and decodes its value, as JSON has it.
func (b *browser) eval(result any, expression string) {
	b.t.Helper()
	var r struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		ExceptionDetails json.RawMessage `json:"exceptionDetails"`
	}
	b.must(&r, "Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true})
	if r.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, r.ExceptionDetails)
	}
	if result == nil {
		return
	}
	if err := json.Unmarshal(r.Result.Value, result); err != nil {
		b.t.Fatalf("%s: %s: %v", expression, r.Result.Value, err)
	}
}

// text evaluates an expression that is a string.
func (b *browser) text(expression string) (s string) {
	b.t.Helper()
	b.eval(&s, "String("+expression+")")
	return s
}

// until waits for an expression to become true and returns how long that took.
func (b *browser) until(what, expression string, limit time.Duration) time.Duration {
	b.t.Helper()
	begin := time.Now()
	for {
		var ok bool
		b.eval(&ok, "!!("+expression+")")
		if took := time.Since(begin); ok || took > limit {
			if !ok {
				b.t.Errorf("not within %v: %s; the page says: %.2000s", limit, what, b.text("document.body.innerText"))
			}
			return took
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// open goes to url with a window of some width, in a color scheme.
func (b *browser) open(url string, width int, scheme string) {
	b.t.Helper()
	b.look(width, scheme)
	b.must(nil, "Page.navigate", map[string]any{"url": url})
	b.until("the page is there", `document.readyState === "complete" && location.href === `+fmt.Sprintf("%q", url), browserTime)
}

// look changes the window.
func (b *browser) look(width int, scheme string) {
	b.t.Helper()
	b.must(nil, "Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500})
	b.must(nil, "Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}})
}

// key presses a key.
func (b *browser) key(key string, code int) {
	b.t.Helper()
	for _, kind := range []string{"rawKeyDown", "keyUp"} {
		b.must(nil, "Input.dispatchKeyEvent", map[string]any{"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code})
	}
}

// shot writes a picture of the whole page to the directory of WPROXY_SCREENSHOTS, if that
// is set: for people to look at.
func (b *browser) shot(name string) {
	b.t.Helper()
	dir := os.Getenv("WPROXY_SCREENSHOTS")
	if dir == "" {
		return
	}
	var r struct{ Data string }
	b.must(&r, "Page.captureScreenshot", map[string]any{"captureBeyondViewport": true, "format": "png"})
	png, err := base64.StdEncoding.DecodeString(r.Data)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600)
	}
	if err != nil {
		b.t.Error(err)
	}
}

// complaints returns what went wrong in the page so far.
func (b *browser) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string{}, b.faults...)
}

// asked returns the URLs that the page has asked for.
func (b *browser) asked() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string{}, b.urls...)
}
