package plugincmd

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/plugins/manifest"

	wt "wproxy/host/wasmtest"
)

func TestBench(t *testing.T) {
	file := write(t, "demo.wasm", testGuest(t))
	config := write(t, "config.json", []byte(`{"a":1}`))
	code, out, stderr := command(t, "bench", "--time", "50ms", "--json", "--config", config, file)
	if code != exitOK {
		t.Fatalf("code %d, %s", code, stderr)
	}
	var r benchReport
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	var steps []string
	for _, s := range r.Steps {
		steps = append(steps, s.Step+": "+strings.Join(s.Callbacks, " "))
		if s.Calls == 0 || s.MinNS <= 0 || s.MinNS > s.P50NS || s.P50NS > s.P99NS || s.MeanNS < s.MinNS {
			t.Errorf("%s: %+v", s.Step, s)
		}
	}
	for _, want := range []string{"request headers: on_request_headers", "response body: on_response_body", "end: on_log", "exchange: "} {
		if !slices.Contains(steps, want) {
			t.Errorf("steps %q lack %q", steps, want)
		}
	}
	if r.Exchanges == 0 || r.Answered || r.Memory == 0 || r.Fuel == 0 {
		t.Errorf("got %+v", r)
	}
	code, out, _ = command(t, "bench", "--time", "10ms", "--config", `{"a":1}`, file)
	if code != exitOK || !strings.Contains(out, "request headers") {
		t.Errorf("code %d, %s", code, out)
	}
}

// TestBenchGet: a GET has no body, its answer no trailers, and a path can differ from exchange to exchange.
func TestBenchGet(t *testing.T) {
	file := write(t, "demo.wasm", testGuest(t))
	code, out, stderr := command(t, "bench", "--config", `{"a":1}`, "--time", "20ms", "--json", "--get", "/x?{n}", file)
	if code != exitOK {
		t.Fatalf("code %d, %s", code, stderr)
	}
	var r benchReport
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if r.Request != "GET /x?{n}" || r.Exchanges == 0 {
		t.Errorf("got %+v", r)
	}
	for _, s := range r.Steps {
		if s.Step == "request body" || s.Step == "request trailers" || s.Step == "response trailers" {
			t.Errorf("%s: %+v", s.Step, s)
		}
	}
	for get, want := range map[string][]string{"/x?{n}": {"/x?1", "/x?2"}, "/x": {"/x", "/x"}} {
		b, err := newBencher(t.Context(), get, nil)
		for i := range want {
			if i > 0 && err == nil {
				err = b.next()
			}
			if err != nil || b.req.Target != want[i] || b.req.Method != "GET" {
				t.Errorf("%s: exchange %d: got %s %s, %v", get, i+1, b.req.Method, b.req.Target, err)
			}
		}
	}
}

// TestBenchGrants: a plugin may use what it says that it asks for, and no more.
func TestBenchGrants(t *testing.T) {
	m := wt.NewGuest()
	foreign := m.Env(abi.ImportCallForeignFunction, "iiiiii>i")
	room := wt.I32(m.Slot(abi.AcquireRecordSize))
	m.Func(abi.ExportOnConfigure, "ii>i", wt.Call(foreign, m.Str(abi.ForeignAcquireCounter), room, wt.I32(abi.AcquireRecordSize), wt.I32(m.Slot(4)), wt.I32(m.Slot(4))), wt.Raw(0x45)) // i32.eqz
	m.Headers("request", wt.I32(0))
	for _, grants := range [][]string{{"log", "counters"}, {"log"}} {
		wasm, err := manifest.Append(m.Bytes(), &manifest.Manifest{Name: "demo", Grants: grants})
		if err != nil {
			t.Fatal(err)
		}
		want := exitOK
		if len(grants) == 1 {
			want = exitRefused
		}
		if code, out, stderr := command(t, "bench", "--time", "10ms", write(t, "demo.wasm", wasm)); code != want {
			t.Errorf("granted %q: code %d, want %d: %s%s", grants, code, want, out, stderr)
		}
	}
}

func TestBenchRefuses(t *testing.T) {
	pause := wt.NewGuest()
	pause.Headers("request", wt.I32(1))
	trap := wt.NewGuest()
	trap.Headers("request", wt.Unreachable())
	refuses := wt.NewGuest()
	refuses.Func(abi.ExportOnConfigure, "ii>i", wt.I32(0))
	for _, tt := range []struct {
		name string
		args []string
		wasm []byte
		code int
		want string
	}{
		{"no file", []string{"/none/such.wasm"}, nil, exitFailed, "no such file"},
		{"too long", []string{"--time", "1h"}, testGuest(t), exitFailed, "it may be up to 30s"},
		{"bad field", []string{"-H", "x"}, testGuest(t), exitFailed, `want "name: value"`},
		{"schema", []string{"--config", `{"c":1}`}, testGuest(t), exitRefused, `setting "c" is not in the plugin's schema`},
		{"no such config", []string{"--config", "/none/such"}, testGuest(t), exitFailed, "--config"},
		{"no module", nil, []byte("x"), exitRefused, "not a WebAssembly module"},
		{"refused settings", nil, refuses.Bytes(), exitRefused, "does not accept its configuration"},
		{"a trap", nil, trap.Bytes(), exitRefused, "unreachable"},
		{"a pause", nil, pause.Bytes(), exitRefused, "holds the message back"},
	} {
		args := append([]string{"bench"}, tt.args...)
		if tt.wasm != nil {
			args = append(args, write(t, "x.wasm", tt.wasm))
		}
		code, out, stderr := command(t, args...)
		if code != tt.code || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: code %d, %s%s\nwant %d, %s", tt.name, code, out, stderr, tt.code, tt.want)
		}
	}
}
