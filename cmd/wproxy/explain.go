package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"wproxy/core/config"
	"wproxy/core/exchange"
)

// explainLost is how many routes that lost `explain` shows.
const explainLost = 10

// An explanation is a plan as `wproxy explain` shows it.
type explanation struct {
	Request  explainedRequest `json:"request"`
	Listener string           `json:"listener"`
	Client   string           `json:"client,omitempty"` // after trust_proxy; "" if none was named
	Route    *explainedRoute  `json:"route,omitempty"`
	Lost     []explainedRoute `json:"lost,omitempty"`
	Answer   *explainedAnswer `json:"answer,omitempty"` // made by wproxy itself

	Challenge bool `json:"challenge,omitempty"` // answered before any route while an ACME server checks the host

	Allow    []string         `json:"allow,omitempty"`
	Deny     []string         `json:"deny,omitempty"`
	Plugins  []explainedUse   `json:"plugins,omitempty"`
	Upstream []explainedShare `json:"upstream,omitempty"`
	Split    string           `json:"split,omitempty"` // what keeps a request on one side
	Mirror   string           `json:"mirror,omitempty"`
	Fault    string           `json:"fault,omitempty"`
	Path     string           `json:"upstream_path,omitempty"`
	Timeout  string           `json:"timeout,omitempty"`
	Idle     string           `json:"idle,omitempty"`   // of a connection
	Closed   string           `json:"closed,omitempty"` // why a connection is closed at once

	Retry    *explainedRetry   `json:"retry,omitempty"`
	Deadline map[string]string `json:"deadline_told,omitempty"` // by upstream: the field
}

// explainedRequest is the request in the one canonical form.
type explainedRequest struct {
	Method string `json:"method"`
	URL    string `json:"url"`
}

type explainedRoute struct {
	Name    string     `json:"name"`
	Pattern string     `json:"pattern"`
	Pos     config.Pos `json:"pos"`
	Lost    string     `json:"lost,omitempty"` // the condition that did not hold
}

type explainedAnswer struct {
	Status   int    `json:"status"`
	Reason   string `json:"reason"`
	Location string `json:"location,omitempty"`
}

type explainedUse struct {
	Plugin string `json:"plugin"`
	Wasm   string `json:"wasm"`
	Config any    `json:"config,omitempty"` // merged, or text; secrets as they were written
}

// runExplain is `wproxy explain`.
func runExplain(_ context.Context, args []string, stdout, stderr io.Writer) int {
	fs := newFlags("explain", `Usage: wproxy explain [-c FILE | --to ADDRESS] [-H "NAME: VALUE"]... [--from ADDRESS] [--listener NAME] [--json] METHOD URL

Says what would become of a request: its route and why the others lost, the
plugins with their settings, the upstream and the path that it sees. Nothing is
sent, and no plugin runs. With --from, trust_proxy, allow and deny are applied to
that peer; without, no client is trusted and none is turned away.

A connection through a listener with TCP is asked about with TCP tcp://NAME[:PORT], where
NAME is what its client asks for (TLS SNI); tcp:// is one that asks for none.`, stderr)
	find := sourceFlags(fs)
	var headers fieldFlags
	fs.Var(&headers, "H", "a header field of the request, \"`NAME: VALUE`\"; repeatable")
	listener := fs.String("listener", "", "the `NAME` of the listener; else the one with the port of the URL, else the first by name with its scheme")
	var from netip.Addr
	fs.TextVar(&from, "from", netip.Addr{}, "the `ADDRESS` of who connects")
	asJSON := fs.Bool("json", false, "write JSON")
	if code, done := parseFlags(fs, args, 2, stdout); done {
		return code
	}
	if fs.NArg() != 2 {
		fmt.Fprint(stderr, "wproxy explain: needs a method and a URL, e.g. wproxy explain GET https://example.com/path\n")
		return exitFailed
	}
	src, err := find()
	if err != nil {
		return fail(stderr, "explain", err)
	}
	f, err := src.load()
	if err == nil {
		var pl *planner
		if pl, err = newPlanner(f); err == nil {
			q := question{method: fs.Arg(0), url: fs.Arg(1), headers: headers, listener: *listener, peer: from}
			var e *explanation
			if e, err = pl.explain(q); err == nil {
				return writeExplanation(e, *asJSON, stdout, stderr)
			}
		}
	}
	if isRefusal(err) {
		fmt.Fprintf(stderr, "%v\n", err)
		return exitRefused
	}
	return fail(stderr, "explain", err)
}

// explain says what becomes of q.
func (pl *planner) explain(q question) (*explanation, error) {
	if q.method == methodTCP {
		return pl.explainTCP(q, explainLost+1)
	}
	p, err := pl.plan(q, explainLost+1)
	if err != nil {
		return nil, err
	}
	return explain(pl.file, p), nil
}

// writeExplanation writes e; the exit code is that of the command.
func writeExplanation(e *explanation, asJSON bool, stdout, stderr io.Writer) int {
	var err error
	if asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(e)
	} else {
		_, err = io.WriteString(stdout, e.String())
	}
	if err != nil {
		return fail(stderr, "explain", err)
	}
	return exitOK
}

// fieldFlags collects -H flags.
type fieldFlags []exchange.Field

// String implements flag.Value.
func (h *fieldFlags) String() string { return "" }

// Set implements flag.Value.
func (h *fieldFlags) Set(s string) error {
	name, value, ok := strings.Cut(s, ":")
	if !ok || name == "" {
		return fmt.Errorf("%q is not \"NAME: VALUE\"", s)
	}
	*h = append(*h, exchange.Field{Name: name, Value: strings.Trim(value, " \t")})
	return nil
}

// explain turns p into what is shown.
func explain(f *config.File, p *plan) *explanation {
	e := &explanation{Listener: p.listener, Request: explainedRequest{Method: p.head.Method}}
	if p.head.Target == "" { // refused before it was parsed: as it was given
		e.Request.URL = p.url
	} else {
		e.Request.URL = p.head.Scheme + "://" + p.head.Authority + p.head.Target
	}
	e.Client = p.sender.IP
	e.Challenge = mayBeChallenge(f, p.head)
	for _, c := range p.candidates {
		r := explainedRoute{c.Name, c.Pattern, f.Routes[c.Name].Pos, c.Lost}
		if c.Lost == "" {
			e.Route = &r
		} else {
			e.Lost = append(e.Lost, r)
		}
	}
	if p.status != 0 {
		e.Answer = &explainedAnswer{p.status, p.reason, p.location}
	}
	if p.conf == nil {
		return e
	}
	for _, a := range p.conf.Allow {
		e.Allow = append(e.Allow, a.String())
	}
	for _, d := range p.conf.Deny {
		e.Deny = append(e.Deny, d.String())
	}
	for _, u := range p.conf.Plugins {
		e.Plugins = append(e.Plugins, explainedUse{u.Plugin, f.Plugins[u.Plugin].Wasm, u.Config})
	}
	if p.status != 0 {
		return e
	}
	e.Path = p.upstreamPath
	e.Timeout = "none"
	if p.conf.Timeout > 0 {
		e.Timeout = config.FormatDuration(p.conf.Timeout)
	}
	e.shape(f, p)
	e.Retry, e.Deadline = explainRetry(p.conf, p.head.Method), explainDeadline(f, p.conf)
	return e
}

// String lays e out for people.
func (e *explanation) String() string {
	var b strings.Builder
	line := func(key, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s %s\n", key, fmt.Sprintf(format, args...))
	}
	line("request", "%s %s", e.Request.Method, e.Request.URL)
	line("listener", "%s", e.Listener)
	if e.Client != "" {
		line("client", "%s", e.Client)
	}
	if e.Challenge {
		line("challenge", "while the ACME server checks this host wproxy answers this itself; else:")
	}
	if e.Route != nil {
		line("route", "%s  (%s, %s)", e.Route.Name, e.Route.Pattern, e.Route.Pos)
	} else {
		line("route", "none")
	}
	for _, l := range e.Lost {
		line("", "not %s  (%s): %s", l.Name, l.Pattern, l.Lost)
	}
	if len(e.Deny) > 0 {
		line("deny", "clients in %s get 403", strings.Join(e.Deny, ", "))
	}
	if len(e.Allow) > 0 {
		line("allow", "clients not in %s get 403", strings.Join(e.Allow, ", "))
	}
	for i, u := range e.Plugins {
		key := ""
		if i == 0 {
			key = "plugins"
		}
		line(key, "%s  (%s)%s", u.Plugin, u.Wasm, settingsText(u.Config))
	}
	if a := e.Answer; a != nil {
		text := fmt.Sprintf("%d by wproxy itself: %s", a.Status, a.Reason)
		if a.Location != "" {
			text += " to " + a.Location
		}
		line("answer", "%s", text)
		return b.String()
	}
	if e.Closed != "" {
		line("answer", "closed at once: %s", e.Closed)
		return b.String()
	}
	e.balancing(line)
	if e.Request.Method == methodTCP {
		line("idle", "%s", e.Idle)
		line("timeout", "%s", e.Timeout)
		return b.String()
	}
	line("path", "%s", e.Path)
	line("timeout", "%s", e.Timeout)
	for i, text := range e.Retry.lines(e.Request.Method) {
		line([]string{"retry", ""}[i], "%s", text)
	}
	if told := deadlineText(e.Deadline); told != "" {
		line("deadline", "%s", told)
	}
	return b.String()
}

// settingsText writes settings one a line, or the text that they are, secrets as
// they were written.
func settingsText(settings any) string {
	text := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
	table, ok := settings.(map[string]any)
	if !ok {
		if settings == nil {
			return ""
		}
		return fmt.Sprintf("\n%13sconfig = %s", "", text(settings))
	}
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(table)) {
		fmt.Fprintf(&b, "\n%13s%s = %s", "", k, text(table[k]))
	}
	return b.String()
}
