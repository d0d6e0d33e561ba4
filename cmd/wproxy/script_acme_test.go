package main

import (
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"wproxy/core/certs/acme/acmetest"
)

// cmdACME runs an ACME server for which every name is 127.0.0.1. NAME_CA is its
// directory, NAME_HTTP and NAME_TLS are the ports at which it looks for challenges, which are free, and
// the file NAME.pem in the script's directory verifies it. "acme NAME down" ends it.
func cmdACME(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 1)
	s, name := stateOf(ts), args[0]
	if len(args) > 1 && args[1] == "down" {
		s.authorities[name].Close()
		return
	}
	web, tls := heldPort(ts), heldPort(ts)
	ca, err := acmetest.Run(acmetest.Options{HTTPPort: web, TLSPort: tls, Validity: 24 * time.Hour})
	ts.Check(err)
	ts.Defer(ca.Close)
	if s.authorities == nil {
		s.authorities = map[string]*acmetest.Server{}
	}
	s.authorities[name] = ca
	ts.Setenv(name+"_CA", ca.URL)
	ts.Setenv(name+"_HTTP", strconv.Itoa(web))
	ts.Setenv(name+"_TLS", strconv.Itoa(tls))
	ts.Check(os.WriteFile(ts.MkAbs(name+".pem"), ca.Roots, 0o600))
}

// heldPort is hold, of which it returns the port.
func heldPort(ts *testscript.TestScript) int {
	a, err := netip.ParseAddrPort(hold(ts))
	ts.Check(err)
	return int(a.Port())
}
