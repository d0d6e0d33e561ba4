// Package h2spectest runs h2spec, the conformance suite of HTTP/2 servers, in tests: of the
// codec alone, and of the whole proxy.
package h2spectest

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
)

// A Target is a server under test.
type Target struct {
	Addr  string // host:port
	Path  string // of a resource that takes GET, HEAD and POST
	TLS   bool
	Skips string // a file of cases that h2spec cannot run, each with a reason, as JSON
}

// leastCases is how many there are, about: a suite that ends early has not passed.
const leastCases = 140

// Run runs all cases, the strict ones too. None may fail, and only those in target.Skips may
// be skipped.
func Run(t *testing.T, target Target) {
	t.Helper()
	host, port, err := net.SplitHostPort(target.Addr)
	if err != nil {
		t.Fatal(err)
	}
	c := &config.Config{
		Host: host, Path: target.Path, Timeout: 2 * time.Second, MaxHeaderLen: 4000,
		Strict: true, TLS: target.TLS, Insecure: true,
	}
	if c.Port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	skips := readSkips(t, target.Skips)
	total := 0
	for _, g := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
		g.Test(c)
		total += g.PassedCount + g.FailedCount + g.SkippedCount
		judge(t, g, skips)
	}
	if total < leastCases {
		t.Errorf("only %d cases were run", total)
	}
}

// A skip is a case that h2spec cannot run, and why.
type skip struct{ Case, Reason string }

func readSkips(t *testing.T, file string) map[string]bool {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var list []skip
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	m := map[string]bool{}
	for _, s := range list {
		if s.Reason == "" {
			t.Errorf("%s is skipped without a reason", s.Case)
		}
		m[s.Case] = true
	}
	return m
}

// judge reports the cases of g, and of the groups in it, that have not passed.
func judge(t *testing.T, g *spec.TestGroup, skips map[string]bool) {
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
			case r.Skipped && !skips[id]:
				t.Errorf("%s was skipped: %s", id, c.Desc)
			}
		}
	}
	for _, sub := range g.Groups {
		judge(t, sub, skips)
	}
}
