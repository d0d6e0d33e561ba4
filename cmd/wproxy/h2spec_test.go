package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
)

const h2specConfig = `
[listeners.http]
address = "@ADDR"
protocols = ["h2c"]

[listeners.https]
address = "@SECURE"
protocols = ["h2"]
tls.certs = [{ cert = "@CERT", key = "@KEY" }]

[admin]
address = "@ADMIN"

[log]
access = { to = "@ACCESS" }

[routes.all]
path = "/*"
upstream = "origin"

[upstreams.origin]
servers = ["builtin:httpbin"]
`

// TestH2Spec: every case of h2spec, the strict ones too, passes through the whole of wproxy,
// with a route and an upstream behind the listener, over TLS and without. What is skipped has to
// be in testdata/skip/h2spec.json with a reason. Package core/h2 runs them on the codec alone.
func TestH2Spec(t *testing.T) {
	certs := newPairCerts(t)
	secure := freeAddress(t)
	in := startInstance(t, strings.NewReplacer("@SECURE", secure, "@CERT", certs.cert, "@KEY", certs.key).Replace(h2specConfig))
	skips := readSkips(t)
	for _, tt := range []struct {
		name, addr string
		tls        bool
	}{{"h2c", in.addr, false}, {"h2", secure, true}} {
		t.Run(tt.name, func(t *testing.T) {
			host, port, err := net.SplitHostPort(tt.addr)
			if err != nil {
				t.Fatal(err)
			}
			c := &config.Config{
				Host: host, Path: "/anything", Timeout: 2 * time.Second, MaxHeaderLen: 4000,
				Strict: true, TLS: tt.tls, Insecure: true,
			}
			if c.Port, err = strconv.Atoi(port); err != nil {
				t.Fatal(err)
			}
			total := 0
			for _, g := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
				g.Test(c)
				total += g.PassedCount + g.FailedCount + g.SkippedCount
				judgeSpec(t, g, skips)
			}
			if total < 140 {
				t.Errorf("only %d cases were run", total)
			}
		})
	}
	if s := in.stderr.String(); strings.Contains(s, "panic") {
		t.Errorf("the log: %s", s)
	}
}

// judgeSpec reports the cases of g, and of the groups in it, that have not passed.
func judgeSpec(t *testing.T, g *spec.TestGroup, skips map[string]string) {
	t.Helper()
	i := 0
	for _, list := range [][]*spec.TestCase{g.Tests, g.StrictTests} {
		for _, c := range list {
			i++
			id := fmt.Sprintf("%s/%d", g.ID(), i)
			switch r := c.Result; {
			case r == nil:
				t.Errorf("%s was not run: %s", id, c.Desc)
			case r.Failed:
				t.Errorf("%s: %s: %v", id, c.Desc, r.Error)
			case r.Skipped && skips[id] == "":
				t.Errorf("%s was skipped: %s", id, c.Desc)
			}
		}
	}
	for _, sub := range g.Groups {
		judgeSpec(t, sub, skips)
	}
}

// readSkips returns the cases that need not pass, and why.
func readSkips(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("../../testdata/skip/h2spec.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []struct{ Case, Reason string }
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for _, s := range list {
		m[s.Case] = s.Reason
	}
	return m
}
