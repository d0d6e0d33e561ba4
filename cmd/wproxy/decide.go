package main

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"wproxy/core/config"
	"wproxy/core/exchange"
	"wproxy/core/h1"
	"wproxy/core/proxy"
	"wproxy/core/route"
	"wproxy/core/tcp"
)

// A plan is what a configuration would do with a request, as far as that can be
// said without running plugins. It is made by the functions that serve: the
// codec's parsers, the engine's preparation of a head, the route table, the
// route's lists of clients, its rewrite and redirect.
type plan struct {
	url      string // as it was asked
	listener string
	head     *exchange.Request // as plugins would see it
	sender   proxy.Sender

	route      *proxy.Route // nil: none matches
	conf       *config.Route
	candidates []route.Candidate[*proxy.Route] // the winner first, if there is one

	status   int    // of the answer that wproxy would make itself; 0: it would go to an upstream
	reason   string // why
	location string // of a redirect

	upstreamPath string // with query; "" unless it would go to an upstream
}

// A planner makes plans for one configuration.
type planner struct {
	file  *config.File
	table *route.Table[*proxy.Route]
	tcp   *route.Table[*tcp.Route]
}

// newPlanner builds the route table of f with the functions that build the one
// that serves; routes have all but what runs. The error is a config.Problems list.
func newPlanner(f *config.File) (*planner, error) {
	var problems config.Problems
	var entries []route.Entry[*proxy.Route]
	for _, name := range slices.Sorted(maps.Keys(f.Routes)) {
		if f.TCP(f.Routes[name]) {
			continue
		}
		r, err := newRoute(f, f.Routes[name])
		if err != nil {
			p, ok := asType[config.Problem](err)
			if !ok {
				return nil, err
			}
			problems = append(problems, p)
			continue
		}
		entries = append(entries, route.Entry[*proxy.Route]{Spec: routeSpec(f.Routes[name]), Value: r})
	}
	t, err := route.New(entries)
	if err != nil {
		problems = append(problems, routeProblems(f, err)...)
	}
	connections, err := newTCPTable(f)
	if err != nil {
		problems = append(problems, routeProblems(f, err)...)
	}
	if len(problems) > 0 {
		problems.Sort()
		return nil, problems
	}
	return &planner{f, t, connections}, nil
}

// A question is a request as people write it.
type question struct {
	method, url string
	headers     []exchange.Field // names in any case
	listener    string           // "": see pickListener
	peer        netip.Addr       // who would send it; invalid: nobody in particular, whom no route turns away
}

// plan says what becomes of q. limit bounds the candidates. The error says what
// is wrong with the question itself.
func (pl *planner) plan(q question, limit int) (*plan, error) {
	p := &plan{url: q.url}
	var err error
	if p.listener, err = pl.pickListener(q); err != nil {
		return nil, err
	}
	if p.head, err = q.head(); err != nil {
		bad, ok := asType[*exchange.Error](err)
		if !ok {
			return nil, err
		}
		p.status, p.reason = bad.Status, bad.Reason
		return p, nil
	}
	p.head.Conn = &exchange.Conn{Listener: p.listener}
	if q.peer.IsValid() {
		p.head.Conn.Remote, p.head.Conn.RemoteIP = netip.AddrPortFrom(q.peer, 0), q.peer.Unmap().String()
	}
	l := newListener(pl.file, pl.file.Listeners[p.listener])
	if conf := pl.file.Listeners[p.listener]; conf.TLS == nil && conf.Redirect != "" {
		p.head.Scheme = "http" // whatever was asked: that is how it would come in
	}
	p.sender = l.Prepare(p.head)
	switch to, ok := l.UpgradeLocation(p.head); {
	case !ok:
		p.status, p.reason = 400, "missing_host"
		return p, nil
	case to != "":
		p.status, p.reason, p.location = 308, "https_redirect", to
		return p, nil
	}
	view := route.View(p.head)
	p.candidates = pl.table.Explain(&view, limit)
	r, ok := pl.table.Match(&view)
	switch {
	case !ok:
		p.status, p.reason = 404, "no_route"
		return p, nil
	case p.head.EncodedSlash && !r.KeepSlash:
		p.status, p.reason = 400, "encoded_slash"
	case p.sender.Addr.IsValid() && !r.Allows(p.sender.Addr):
		p.status, p.reason = 403, "denied"
	}
	p.route, p.conf = r, pl.file.Routes[r.Name]
	if p.status == 0 {
		p.act()
	}
	return p, nil
}

// act fills in what the route does.
func (p *plan) act() {
	switch r := p.route; {
	case r.Redirect != nil:
		p.status, p.reason, p.location = r.Redirect.Status(), "redirect", r.Redirect.Location(p.head)
	case r.Respond != nil:
		p.status, p.reason = r.Respond.Status, "respond"
	default:
		out := *p.head // the connector edits a copy, too
		if bad, ok := asType[*exchange.Error](r.Rewrite.Apply(&out)); ok {
			p.status, p.reason = bad.Status, bad.Reason
			return
		}
		p.upstreamPath = out.Target
	}
}

// head parses q with the parsers of the codec. A request that the codec would
// refuse is an *exchange.Error, and the head is returned all the same.
func (q question) head() (*exchange.Request, error) {
	scheme, rest, ok := strings.Cut(q.url, "://")
	if !ok || scheme != "http" && scheme != "https" {
		return nil, fmt.Errorf("%q is not an absolute URL such as https://example.com/path", q.url)
	}
	rest, _, _ = strings.Cut(rest, "#") // never sent
	authority, target := rest, "/"
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, target = rest[:i], rest[i:]
		if target[0] == '?' {
			target = "/" + target
		}
	}
	h := &exchange.Request{Method: q.method, Scheme: scheme, Length: 0}
	for _, f := range q.headers {
		if name := strings.ToLower(f.Name); name == "host" {
			authority = f.Value
		} else {
			h.Fields.Add(name, f.Value)
		}
	}
	if err := h1.CheckMethod(q.method); err != nil {
		return h, err
	}
	if err := h.ParseAuthority(authority); err != nil {
		return h, err
	}
	return h, h.ParseTarget(target)
}

// pickListener returns the listener that q names, else the one with the port
// of its URL, else the first by name of those that speak its scheme (with TLS for https,
// without for http), else the first of all.
func (pl *planner) pickListener(q question) (string, error) {
	names := slices.Sorted(maps.Keys(pl.file.Listeners))
	names = slices.DeleteFunc(names, func(name string) bool { return pl.file.Listeners[name].TCP() })
	if len(names) == 0 {
		return "", errors.New("all listeners pass on TCP; ask about a connection: TCP tcp://NAME")
	}
	if q.listener != "" {
		if !slices.Contains(names, q.listener) {
			return "", fmt.Errorf("there is no listener %q for requests; there is %s", q.listener, strings.Join(names, ", "))
		}
		return q.listener, nil
	}
	scheme, rest, _ := strings.Cut(q.url, "://")
	authority, _, _ := strings.Cut(rest, "/")
	_, port, err := net.SplitHostPort(authority)
	if err != nil {
		port = strconv.Itoa(map[string]int{"http": 80, "https": 443}[scheme])
	}
	for _, name := range names {
		if _, p, err := net.SplitHostPort(pl.file.Listeners[name].Address); err == nil && p == port {
			return name, nil
		}
	}
	speaks := func(name string) bool { return (pl.file.Listeners[name].TLS != nil) == (scheme == "https") }
	return names[max(slices.IndexFunc(names, speaks), 0)], nil
}
