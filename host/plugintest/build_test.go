package plugintest_test

import (
	"testing"

	"wproxy/host/plugintest"
)

// A shipped plugin, from its source to an exchange.
func TestBuildGo(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the go command")
	}
	wasm := plugintest.BuildGo(t, "../../plugins/securityheaders")
	o := plugintest.Options{Config: map[string]string{"preset": "strict"}}
	plugintest.Run(t, wasm, o, func(t *testing.T, p *plugintest.Plugin) {
		s := p.Do(plugintest.Request{Scheme: "https"}, plugintest.Response{Body: []byte("x")})
		if c := s.Client(); c.Get("x-content-type-options") != "nosniff" || string(c.Body) != "x" {
			t.Errorf("client has got %+v", c)
		}
	})
}
