package metrics_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"wproxy/core/metrics"
)

func TestServers(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	text := func() string {
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		return w.Body.String()
	}
	s := m.Servers("u")
	if strings.Contains(text(), `upstream="u"`) {
		t.Error("there are series of an upstream that nothing has happened to")
	}
	s.SetUp("a:1", true)
	s.SetUp("b:1", false)
	s.SetUp("c:1", true)
	s.Gone("c:1")
	s.Checked(true)
	s.Checked(true)
	s.Checked(false)
	s.Ejected(true)
	s.Ejected(false)
	s.SetPanic(true)
	m.Discovered("u", "empty", 3)
	got := text()
	for _, want := range []string{
		`wproxy_upstream_server_up{server="a:1",upstream="u"} 1`,
		`wproxy_upstream_server_up{server="b:1",upstream="u"} 0`,
		`wproxy_health_checks_total{result="ok",upstream="u"} 2`,
		`wproxy_health_checks_total{result="failed",upstream="u"} 1`,
		`wproxy_upstream_ejections_total{outcome="ejected",upstream="u"} 1`,
		`wproxy_upstream_ejections_total{outcome="refused",upstream="u"} 1`,
		`wproxy_upstream_panic{upstream="u"} 1`,
		`wproxy_discover_total{result="empty",upstream="u"} 1`,
		`wproxy_discover_servers{upstream="u"} 3`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(got, "c:1") {
		t.Error("a server that has gone is still there")
	}
	m.Retain(func(label, name string) bool { return label != "upstream" || name != "u" })
	if strings.Contains(text(), `upstream="u"`) {
		t.Error("an upstream that has gone is still there")
	}
}
