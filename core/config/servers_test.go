package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wproxy/core/config"
)

func TestParseServers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		path, content string
		want          string // addresses and weights, or the error
	}{
		{"s.json", `["10.0.0.1:80", {"address": "10.0.0.2:80", "weight": 3}]`, "10.0.0.1:80=1 10.0.0.2:80=3"},
		{"s.json", `{"servers": ["10.0.0.1:80"]}`, "10.0.0.1:80=1"},
		{"s.json", `[]`, ""},
		{"s.json", `{"servers": []}`, ""},
		{"s.json", `{"servers": "10.0.0.1:80"}`, "10.0.0.1:80=1"},
		{"s.json", `{}`, "s.json  has no servers; an empty list says that there are none"},
		{"s.json", ``, "s.json  is empty, want a list of servers"},
		{"s.json", `null`, "s.json  is null, want a list of servers, or servers = [...]"},
		{"s.json", `"x"`, "s.json  is a string, want a list of servers, or servers = [...]"},
		{"s.json", "[\n\"10.0.0.1:80\"\n  \"10.0.0.2:80\"]", "s.json:3:3  invalid character '\"' after array element"},
		{"s.json", `["10.0.0.1:80"`, "s.json  ends too early: a bracket, brace or quote is not closed"},
		{"s.json", `[] []`, "s.json  there is something behind the JSON value"},
		{"s.json", `[{"address": "10.0.0.1:80", "weight": 1.5}]`, "s.json  servers[0].weight: is a float, want an integer"},
		{"s.json", `[{"address": "10.0.0.1:80", "weight": 9999}]`, "s.json  servers[0].weight: 9999 is out of range, allowed is 1 to 1000"},
		{"s.json", `[{"addr": "10.0.0.1:80"}]`, "s.json  servers[0]: needs an address, e.g. address = \"10.0.0.1:8080\"\ns.json  servers[0]: unknown key \"addr\"; known are address, weight, priority, backup, max_connections, max_requests"},
		{"s.json", `["10.0.0.1"]`, `s.json  servers[0]: "10.0.0.1": has no port; write host:port, http://host, https://host, unix:/path or builtin:httpbin`},
		{"s.json", `["10.0.0.1:80", "10.0.0.1:80"]`, `s.json  servers[1]: "10.0.0.1:80" is listed twice; give it a weight instead`},
		{"s.json", `[[1]]`, "s.json  servers[0]: is a list, want a string"},
		{"s.json", `{"server": []}`, "s.json  unknown key \"server\" (did you mean \"servers\"?)"},
		{"s.toml", "servers = [\"10.0.0.1:80\",\n { address = \"10.0.0.2:80\", weight = 3 }]", "10.0.0.1:80=1 10.0.0.2:80=3"},
		{"s.toml", "servers = []\n[x]\n", "s.toml:2:1  unknown key \"x\""},
		{"s.toml", "servers = [\n  \"10.0.0.1:80\",\n  7,\n]", "s.toml:3:3  servers[1]: is an integer, want a string"},
	}
	for _, tt := range tests {
		list, err := config.ParseServers(tt.path, []byte(tt.content))
		var got []string
		for _, s := range list {
			got = append(got, fmt.Sprintf("%s=%d", s.Address, s.Weight))
		}
		text := strings.Join(got, " ")
		if err != nil {
			text = err.Error()
		}
		if text != tt.want {
			t.Errorf("%s %s\n got %s\nwant %s", tt.path, tt.content, text, tt.want)
		}
	}
	if _, err := config.LoadServers(filepath.Join(t.TempDir(), "x.json")); err == nil || !strings.Contains(err.Error(), "file not found") {
		t.Errorf("got %v", err)
	}
	path := filepath.Join(t.TempDir(), "x.json")
	if err := os.WriteFile(path, []byte(`["10.0.0.1:80"]`), 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := config.LoadServers(path); err != nil || len(list) != 1 {
		t.Errorf("got %v, %v", list, err)
	}
}

// FuzzParseServers: what comes out is what a configuration could have.
func FuzzParseServers(f *testing.F) {
	for _, s := range []string{`["10.0.0.1:80"]`, `{"servers": [{"address": "a:1", "weight": 2}]}`, `[{"address": 1e999}]`, `[[[]]]`, `{"servers": null}`} {
		f.Add(true, []byte(s))
	}
	f.Add(false, []byte("servers = [\"a:1\"]"))
	f.Fuzz(func(t *testing.T, isJSON bool, b []byte) {
		name := "s.toml"
		if isJSON {
			name = "s.json"
		}
		list, err := config.ParseServers(name, b)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, s := range list {
			if s.Address == "" || s.Network == "" || s.Weight < 1 || s.Weight > 1000 || seen[s.Address] {
				t.Errorf("%q: %+v", b, s)
			}
			seen[s.Address] = true
		}
	})
}
