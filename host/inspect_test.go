package host_test

import (
	"slices"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/wasmtest"
)

func TestInspect(t *testing.T) {
	m := wasmtest.NewGuest()
	m.Env(abi.ImportLog, "iii>i")
	m.Env("proxy_nothing", "i>i")
	m.Headers("request", i32(0))
	m.Func(abi.ExportOnLog, "i")
	got, err := host.Inspect(m.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if got.Version == 0 || !strings.HasPrefix(got.Marker, abi.MarkerPrefix) || !got.Memory || got.MinPages == 0 {
		t.Errorf("got %+v", got)
	}
	if want := []string{abi.ExportOnRequestHeaders, abi.ExportOnLog}; !slices.Equal(got.Callbacks, want) {
		t.Errorf("callbacks: got %v, want %v", got.Callbacks, want)
	}
	want := []host.Import{{Module: "env", Name: abi.ImportLog, Known: true, Grant: host.GrantLog}, {Module: "env", Name: "proxy_nothing"}}
	if !slices.Equal(got.Imports, want) {
		t.Errorf("imports: got %v, want %v", got.Imports, want)
	}
	if _, err := host.Inspect([]byte("text")); err == nil {
		t.Error("a text is no module")
	}
}
