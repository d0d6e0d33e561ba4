package host_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// liveEnvoy is Envoy.
type liveEnvoy struct{ binary string }

type object = map[string]any

func (e liveEnvoy) command(t *testing.T, dir string, cases []*liveCase) *exec.Cmd {
	t.Helper()
	var clusters, listeners []object
	for _, name := range []string{"u", "v"} {
		clusters = append(clusters, envoyCluster(dir, name))
	}
	for _, c := range cases {
		clusters = append(clusters, envoyCluster(dir, c.id))
		listeners = append(listeners, envoyListener(dir, c))
	}
	writeJSON(t, filepath.Join(dir, "lds.json"), object{"resources": listeners})
	writeJSON(t, filepath.Join(dir, "envoy.json"), object{
		"node":             object{"id": "n", "cluster": "n"},
		"admin":            object{"address": pipe(filepath.Join(dir, "admin"))},
		"static_resources": object{"clusters": clusters},
		// Listeners are read apart: one that is refused leaves the others.
		"dynamic_resources": object{"lds_config": object{
			"resource_api_version": "V3",
			"path_config_source":   object{"path": filepath.Join(dir, "lds.json")},
		}},
	})
	return exec.CommandContext(t.Context(), e.binary, "-c", filepath.Join(dir, "envoy.json"), //nolint:gosec // named by who runs the tests
		"--concurrency", "1", "--disable-hot-restart", "-l", "warning", "--component-log-level", "wasm:trace")
}

func writeJSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func pipe(path string) object { return object{"pipe": object{"path": path}} }

func typed(name string, fields object) object {
	fields["@type"] = "type.googleapis.com/" + name
	return fields
}

func stringValue(s string) object { return typed("google.protobuf.StringValue", object{"value": s}) }

func envoyCluster(dir, name string) object {
	return object{
		"name": name, "connect_timeout": "1s",
		"load_assignment": object{"cluster_name": name, "endpoints": []object{{"lb_endpoints": []object{{
			"endpoint": object{"address": pipe(filepath.Join(dir, name+".up"))},
		}}}}},
		"typed_extension_protocol_options": object{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed("envoy.extensions.upstreams.http.v3.HttpProtocolOptions", object{
				"explicit_http_config": object{"http_protocol_options": object{"enable_trailers": true}},
			}),
		},
	}
}

func envoyListener(dir string, c *liveCase) object {
	wasm := typed("envoy.extensions.filters.http.wasm.v3.Wasm", object{"config": object{
		"name": c.id, "configuration": stringValue(c.config),
		"vm_config": object{
			"vm_id": c.vmID, "runtime": "envoy.wasm.runtime.v8", "configuration": stringValue("the vm"),
			"code": object{"local": object{"filename": filepath.Join(dir, c.id+".wasm")}},
		},
	}})
	manager := typed("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", object{
		"stat_prefix": c.id, "generate_request_id": false, "http_protocol_options": object{"enable_trailers": true},
		"route_config": object{"name": c.id, "virtual_hosts": []object{{
			"name": c.id, "domains": []string{"*"},
			"routes": []object{{"name": c.id, "match": object{"prefix": "/"}, "route": object{"cluster": c.id}}},
		}}},
		"http_filters": []object{
			{"name": "wasm", "typed_config": wasm},
			{"name": "router", "typed_config": typed("envoy.extensions.filters.http.router.v3.Router", object{})},
		},
	})
	address := pipe(filepath.Join(dir, c.id+".sock"))
	if c.tcp {
		address = object{"socket_address": object{"address": "127.0.0.1", "port_value": c.port}}
	}
	return typed("envoy.config.listener.v3.Listener", object{
		"name": c.id, "address": address,
		"filter_chains": []object{{"filters": []object{{"name": "http", "typed_config": manager}}}},
	})
}

func (liveEnvoy) ready(dir string) bool {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, "admin"))
	}}}
	res, err := client.Get("http://admin/ready") //nolint:noctx // has a time limit
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusOK
}

func (liveEnvoy) door(dir string, c *liveCase) string { return filepath.Join(dir, c.id+".sock") }

// refusal implements liveProxy: what was wrong is in lines before the one that names the
// plugin.
func (liveEnvoy) refusal(log string, c *liveCase) string {
	why := ""
	for line := range strings.SplitSeq(log, "\n") {
		if m := refusals.FindStringSubmatch(line); m != nil && (why == "" || m[1] != "") {
			why = strings.TrimSpace(m[0])
		}
		if strings.Contains(line, "Plugin "+c.id+" failed to load") {
			return why
		}
		if strings.Contains(line, "failed to load") {
			why = ""
		}
	}
	return "refused"
}

// refusals are Envoy's words about guests that it does not take.
var refusals = regexp.MustCompile(`missing import: (env\.\w+)|Missing or unknown Proxy-Wasm ABI version|Failed to load Wasm code|Failed to get function: (\w+)`)

func (liveEnvoy) mine(line string, c *liveCase) (string, bool) {
	_, rest, ok := strings.Cut(line, "wasm log "+c.id)
	if !ok {
		return "", false
	}
	_, said, ok := strings.Cut(rest, ": ")
	return said, ok
}

// liveWproxy is this proxy.
type liveWproxy struct{ binary string }

func (w liveWproxy) command(t *testing.T, dir string, cases []*liveCase) *exec.Cmd {
	t.Helper()
	var f strings.Builder
	fmt.Fprintf(&f, "version = 1\n[listeners.l]\naddress = %q\n[admin]\naddress = \"none\"\n[log]\nlevel = \"debug\"\n[log.access]\nto = \"none\"\n", "unix:"+filepath.Join(dir, "w.sock"))
	for _, name := range []string{"u", "v"} {
		fmt.Fprintf(&f, "[upstreams.%s]\nservers = [%q]\n", name, "unix:"+filepath.Join(dir, name+".up"))
	}
	for _, c := range cases {
		if c.tcp {
			fmt.Fprintf(&f, "[listeners.%s]\naddress = \"127.0.0.1:%d\"\n", c.id, c.port)
		}
		fmt.Fprintf(&f, "[routes.%s]\nhost = %q\nupstream = %q\nuse = [%q]\n", c.id, c.id+".test", c.id, c.id)
		fmt.Fprintf(&f, "[upstreams.%s]\nservers = [%q]\n", c.id, "unix:"+filepath.Join(dir, c.id+".up"))
		fmt.Fprintf(&f, "[plugins.%s]\nwasm = %q\nconfig = %q\nvm_config = \"the vm\"\nvm_id = %q\ngrant = [\"log\", \"metrics\", \"shared-data\", \"queue\", \"env\", \"counters\", \"call:u\"]\nsandbox = { instances = 1 }\n",
			c.id, filepath.Join(dir, c.id+".wasm"), c.config, c.vmID)
	}
	if err := os.WriteFile(filepath.Join(dir, "wproxy.toml"), []byte(f.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(t.Context(), w.binary, "run", "-c", filepath.Join(dir, "wproxy.toml")) //nolint:gosec // built by the test
}

func (liveWproxy) ready(dir string) bool {
	c, err := net.DialTimeout("unix", filepath.Join(dir, "w.sock"), time.Second) //nolint:noctx // has a time limit
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

func (liveWproxy) door(dir string, _ *liveCase) string { return filepath.Join(dir, "w.sock") }

func (liveWproxy) refusal(string, *liveCase) string { return "" }

func (liveWproxy) mine(line string, c *liveCase) (string, bool) {
	var entry struct {
		Plugin  string `json:"plugin"`
		Message string `json:"msg"`
		Guest   bool   `json:"guest"`
	}
	if json.Unmarshal([]byte(line), &entry) != nil || entry.Plugin != c.id {
		return "", false
	}
	return entry.Message, true
}
