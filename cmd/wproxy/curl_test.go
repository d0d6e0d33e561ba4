package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"wproxy/core/config"
)

// TestCurl is what a shell makes of the command: words, and nothing else.
func TestCurl(t *testing.T) {
	t.Parallel()
	listeners := []ListenerStatus{
		{Name: "http", Address: "0.0.0.0:8080"}, {Name: "six", Address: "[::]:81"}, {Name: "tls", Address: "10.0.0.1:443"}, {Name: "unix", Address: "unix:/run/a b"},
	}
	f := &config.File{Listeners: map[string]*config.Listener{"http": {}, "six": {}, "tls": {TLS: &config.ListenerTLS{}}, "unix": {}}}
	for _, tt := range []struct {
		line recordedLine
		want string // words, with | between them
	}{
		{recordedLine{"http", "GET", "a.test", "/x?y=z"}, "-H|host: a.test|http://127.0.0.1:8080/x?y=z"},
		{recordedLine{"http", "POST", "a.test:81", "/it's"}, "-X|POST|-H|host: a.test:81|http://127.0.0.1:8080/it's"},
		{recordedLine{"http", "HEAD", "[::1]", "/"}, "-I|-H|host: [::1]|http://127.0.0.1:8080/"},
		{recordedLine{"six", "GET", "", "/[1-9]{a,b}"}, "http://[::1]:81/[1-9]{a,b}"},
		{recordedLine{"tls", "GET", "a.test", "/"}, "--connect-to|::10.0.0.1:443|https://a.test/"},
		{recordedLine{"unix", "GET", "a.test", "/"}, "--unix-socket|/run/a b|-H|host: a.test|http://localhost/"},
		{recordedLine{"gone", "GET", "a.test", "/"}, "-H|host: a.test|http://127.0.0.1/"},
		{recordedLine{"http", "GET", "a\r\nx: y", "/$(touch x)`id`;\n&|\"\\"}, "http://127.0.0.1:8080/$(touch%20x)`id`;%0A&%7C\"\\"},
		{recordedLine{"http", "A B", "-o.x", "*"}, "http://127.0.0.1:8080/*"},
		{recordedLine{"http", "--config", "a", "-K/etc/passwd"}, "-X|--config|-H|host: a|http://127.0.0.1:8080/-K/etc/passwd"},
		{recordedLine{"http", "", "a", "\xff\x00ü"}, "-H|host: a|http://127.0.0.1:8080/%FF%00%C3%BC"},
	} {
		got := shellWords(t, tt.line.curl(listeners, f))
		want := append([]string{"-i", "-g", "--path-as-is"}, strings.Split(tt.want, "|")...)
		for i := range want {
			want[i] = strings.ReplaceAll(want[i], "%7C", "|")
		}
		if !slices.Equal(got, want) {
			t.Errorf("%+v:\ngot  %q\nwant %q", tt.line, got, want)
		}
	}
}

// shellWords returns the words that a shell makes of a command, but for the first, curl.
func shellWords(t *testing.T, command string) []string {
	t.Helper()
	rest, ok := strings.CutPrefix(command, "curl ")
	if !ok {
		t.Fatalf("%q is no curl", command)
	}
	out, err := exec.Command("sh", "-c", "printf '%s\\n' "+rest).Output()
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

func FuzzCurl(f *testing.F) {
	f.Add("GET", "a", "/'")
	f.Add("'", "'; x", "$(x)")
	f.Fuzz(func(t *testing.T, method, host, path string) {
		l := recordedLine{"http", method, host, path}
		for _, c := range []byte(l.curl(nil, &config.File{})) {
			if c < ' ' || c >= 0x7f {
				t.Fatalf("%q is not printable", l.curl(nil, &config.File{}))
			}
		}
		// What is outside of quotes has to be harmless.
		quoted := false
		text := l.curl(nil, &config.File{})
		for i := 0; i < len(text); i++ {
			switch c := text[i]; {
			case c == '\'':
				quoted = !quoted
			case quoted:
			case c == '\\' && i+1 < len(text) && text[i+1] == '\'':
				i++
			case strings.IndexByte("$`;&|<>()\"\\*?[]#~!{}", c) >= 0:
				t.Fatalf("%q has a bare %q", text, c)
			}
		}
		if quoted {
			t.Fatalf("%q does not end its quotes", text)
		}
	})
}
