package admin_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"wproxy/core/admin"
)

// TestDiff: the content of a configuration comes through whole, however large others may
// be, and what is refused is told.
func TestDiff(t *testing.T) {
	var name string
	var content []byte
	s := admin.New(admin.Options{
		Metrics: http.NotFoundHandler(),
		Live:    func(bool) any { return nil },
		Diff: func(n string, c []byte) (any, error) {
			if name, content = n, c; n == "bad.toml" {
				return nil, errors.New("bad.toml:1:1  is wrong")
			}
			return map[string]bool{"ok": true}, nil
		},
	})
	t.Cleanup(func() { s.Close(t.Context()) })
	r := &rig{Server: s}
	private := r.open(t, admin.Door{Private: true})
	public := r.open(t, admin.Door{})
	tokened := r.open(t, admin.Door{Write: true, Token: "t"})
	post := func(addr, target string, body io.Reader) (int, string) {
		t.Helper()
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+target, body)
		req.RequestURI = ""
		req.Header.Set("Authorization", "Bearer t")
		resp, err := client(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	large := strings.Repeat("# a comment\n", 100_000)
	if code, body := post(private, "/diff?name=new.toml", strings.NewReader(large)); code != 200 || !strings.Contains(body, `"ok": true`) {
		t.Errorf("%d %s", code, body)
	}
	if name != "new.toml" || string(content) != large {
		t.Errorf("got %q and %d bytes", name, len(content))
	}
	if code, _ := post(private, "/diff", http.NoBody); code != 200 || content != nil {
		t.Errorf("without a body: %d, content %q", code, content)
	}
	if code, body := post(private, "/diff?name=bad.toml", strings.NewReader("x")); code != 422 || !strings.Contains(body, "bad.toml:1:1  is wrong") {
		t.Errorf("refused: %d %s", code, body)
	}
	if code, _ := post(private, "/diff", strings.NewReader(strings.Repeat("x", 17<<20))); code != 400 {
		t.Errorf("too large: %d", code)
	}
	if code, _ := post(public, "/diff", strings.NewReader("x")); code != 403 {
		t.Errorf("over TCP without a token: %d", code)
	}
	// What somebody else's configuration refers to, files and the environment of this process,
	// is told in what is wrong with it. Who has the token may ask what the file would change.
	content = nil
	if code, body := post(tokened, "/diff", strings.NewReader("include = ['/etc/shadow']")); code != 403 || !strings.Contains(body, "unix socket") || content != nil {
		t.Errorf("over TCP with a token: %d %s, content %q", code, body, content)
	}
	if code, body := post(tokened, "/diff", http.NoBody); code != 200 {
		t.Errorf("over TCP with a token, without a body: %d %s", code, body)
	}
}
