package main

import (
	"net"
	"strconv"
	"sync"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/testscript"
)

// cmdSwitch makes an upstream of kind switch answer with a status.
func cmdSwitch(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 2)
	status, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	originOf(ts, args[0]).status.Store(status)
}

// A zone is a DNS server of a script, over UDP.
type zone struct {
	mu      sync.Mutex
	records map[string][]dns.RR // guarded by mu; by "name. TYPE"
}

// cmdDNS starts a DNS server.
func cmdDNS(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 1)
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	ts.Check(err)
	z := &zone{records: map[string][]dns.RR{}}
	s := &dns.Server{PacketConn: pc, Handler: z}
	started := make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	go func() { _ = s.ActivateAndServe() }() // ended by Shutdown
	<-started
	ts.Defer(func() { _ = s.Shutdown() })
	ts.Setenv(args[0], pc.LocalAddr().String())
	stateOf(ts).zones[args[0]] = z
}

// cmdRecord sets records. Without one the name has none of the type.
func cmdRecord(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, args, 2)
	z := stateOf(ts).zones[args[0]]
	if z == nil {
		ts.Fatalf("there is no DNS server %s", args[0])
	}
	var all []dns.RR
	for _, text := range args[2:] {
		rr, err := dns.NewRR(text)
		ts.Check(err)
		all = append(all, rr)
	}
	z.mu.Lock()
	z.records[args[1]] = all
	z.mu.Unlock()
}

// ServeDNS implements dns.Handler. A name without any records does not exist.
func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.mu.Lock()
	all, ok := z.records[q.Question[0].Name+" "+dns.TypeToString[q.Question[0].Qtype]]
	z.mu.Unlock()
	m := new(dns.Msg)
	m.SetReply(q)
	m.Answer = all
	if !ok {
		m.Rcode = dns.RcodeNameError
	}
	_ = w.WriteMsg(m) // who has gone needs no answer
}
