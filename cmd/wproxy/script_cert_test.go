package main

import (
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"wproxy/core/certs/certstest"
)

// cmdCert makes a certificate.
func cmdCert(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 2)
	by, r := "ca", certstest.Request{}
	for ; len(args) > 0 && strings.HasPrefix(args[0], "-"); args = args[1:] {
		switch args[0] {
		case "-ca":
			by, args = args[1], args[1:]
		case "-client":
			r.Client = true
		case "-rsa":
			r.Kind = "rsa"
		case "-expired":
			r.NotBefore, r.NotAfter = time.Now().AddDate(-1, 0, 0), time.Now().AddDate(0, 0, -1)
		default:
			ts.Fatalf("cert %s?", args[0])
		}
	}
	noNeg(ts, neg, args, 2)
	s := stateOf(ts)
	ca := s.cas[by]
	if ca == nil {
		ca = certstest.New(ts, by)
		s.cas[by] = ca
		certstest.WriteFile(ts, ts.MkAbs(by+".pem"), ca.Cert)
	}
	r.Subject, r.Names = args[0], args[1:]
	p := ca.Sign(r)
	p.Write(ts, ts.Getenv("WORK"), args[0])
}
