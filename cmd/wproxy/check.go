package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"wproxy/core/config"
	"wproxy/core/exchange"
	"wproxy/core/route"
	"wproxy/host"

	"go.uber.org/zap"
)

// A report is what `wproxy check` found.
type report struct {
	OK       bool             `json:"ok"`
	Problems config.Problems  `json:"problems,omitempty"`
	Warnings []config.Problem `json:"warnings,omitempty"`
	Tests    []testResult     `json:"tests,omitempty"`

	summary string // of a configuration that is fine
}

// A testResult is how one of [[tests]] went.
type testResult struct {
	Pos     config.Pos `json:"pos"`
	Request string     `json:"request"`
	OK      bool       `json:"ok"`
}

// runCheck is `wproxy check`.
func runCheck(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := newFlags("check", `Usage: wproxy check [-c FILE | --to ADDRESS] [--json]

Says everything that is wrong with a configuration: reads it, builds all of it,
compiles its plugins and starts each once with its settings, runs its [[tests]].
Opens no port and sends nothing; the cache of compiled plugins is all it writes.`, stderr)
	find := sourceFlags(fs)
	asJSON := fs.Bool("json", false, "write JSON")
	if code, done := parseFlags(fs, args, 0, stdout); done {
		return code
	}
	src, err := find()
	if err != nil {
		return fail(stderr, "check", err)
	}
	r, err := check(ctx, src)
	if err != nil {
		return fail(stderr, "check", err)
	}
	if *asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(r)
	} else {
		err = r.write(src.String(), stdout, stderr)
	}
	switch {
	case err != nil:
		return fail(stderr, "check", err)
	case !r.OK:
		return exitRefused
	}
	return exitOK
}

// write tells people: problems and warnings to stderr, one a line.
func (r *report) write(name string, stdout, stderr io.Writer) error {
	for _, p := range r.Problems {
		if _, err := fmt.Fprintln(stderr, p.Error()); err != nil {
			return err
		}
	}
	for _, w := range r.Warnings {
		w.Text = "warning: " + w.Text
		if _, err := fmt.Fprintln(stderr, w.Error()); err != nil {
			return err
		}
	}
	if !r.OK {
		return nil
	}
	_, err := fmt.Fprintf(stdout, "%s is fine: %s\n", name, r.summary)
	return err
}

// check finds out what is wrong with src. The error is that it could not.
func check(ctx context.Context, src source) (*report, error) {
	r := &report{}
	f, err := src.load()
	if err != nil {
		return r, r.note(err)
	}
	denied, err := buildDry(ctx, f)
	if err := r.note(err); err != nil {
		return nil, err
	}
	pl, err := newPlanner(f)
	if err != nil {
		if err := r.note(err); err != nil {
			return nil, err
		}
	} else {
		all := config.Problems(append(warnings(f, pl.table.Shadowed()), denied...))
		all.Sort()
		r.Warnings = all
		r.test(f, pl)
	}
	r.Problems.Sort()
	r.OK = len(r.Problems) == 0
	r.summary = fmt.Sprintf("%s, %s, %s, %s, %s", count(len(f.Listeners), "listener"), count(len(f.Routes), "route"),
		count(len(f.Upstreams), "upstream"), count(len(f.Plugins), "plugin"), count(len(f.Tests), "test"))
	return r, nil
}

// note keeps err if it is about the configuration, and returns what else it is.
func (r *report) note(err error) error {
	if ps, ok := asType[config.Problems](err); ok {
		r.Problems = append(r.Problems, ps...)
		return nil
	}
	if p, ok := asType[config.Problem](err); ok {
		r.Problems = append(r.Problems, p)
		return nil
	}
	return err
}

// count writes "1 route", "2 routes".
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// buildDry builds f as a reload would and throws it away, without the three
// things that would be seen outside: the access log's file, the socket of the
// built-in server, and the calls that plugins make when they start: a plugin is told
// that its call is under way, and hears no more of it. It returns what plugins import and may not use.
func buildDry(ctx context.Context, f *config.File) (denied []config.Problem, err error) {
	a := &app{log: zap.NewNop(), dry: true}
	var undo cleanup
	defer undo.run()
	if err := a.makeParts(&undo); err != nil {
		return nil, err
	}
	a.parts.httpbin = &localServer{server: &http.Server{}} //nolint:gosec // never listens
	dry := *f
	dry.Log.Access.To = "none"
	g, err := a.parts.build(ctx, &dry, false)
	if err != nil {
		return nil, err
	}
	for name, p := range g.plugins {
		if text := deniedWarning(f.Plugins[name], p.manifest.Grants, p.Denied()); text != "" {
			denied = append(denied, f.Problemf("plugins."+name+".grant", "%s", text))
		}
	}
	defer g.Release()
	denied = append(denied, certWarnings(g)...)
	return denied, g.Complete(ctx)
}

// warnings returns what of f is allowed and surely not meant, by place. shadowed
// are the routes of f that others cover.
func warnings(f *config.File, shadowed []route.Shadow) []config.Problem {
	var list config.Problems
	for _, s := range shadowed {
		list = append(list, f.Problemf("routes."+s.Route, "%s", s))
	}
	list = append(list, retryWarnings(f)...)
	list = append(list, telemetryWarnings(f)...)
	upstreams, plugins := map[string]bool{}, map[string]bool{}
	for _, r := range f.Routes {
		for _, t := range r.Upstream {
			upstreams[t.Upstream] = true
		}
		for _, u := range r.Use {
			plugins[u] = true
		}
	}
	for name, p := range f.Plugins {
		if p.Kind == kindService {
			plugins[name] = true
		}
		for _, g := range p.Grant {
			upstreams[strings.TrimPrefix(strings.TrimPrefix(g, host.GrantCall), host.GrantUpstream)] = true
		}
	}
	for name, u := range f.Upstreams {
		if u.TLS != nil && u.TLS.InsecureSkipVerify {
			list = append(list, f.Problemf("upstreams."+name+".tls.insecure_skip_verify",
				"upstream %q: tls.insecure_skip_verify: whoever is on the way to its servers can read and change everything", name))
		}
		if !upstreams[name] {
			list = append(list, f.Problemf("upstreams."+name, "upstream %q is used by no route", name))
		}
	}
	for name := range f.Plugins {
		if !plugins[name] {
			list = append(list, f.Problemf("plugins."+name, "plugin %q is used by no route", name))
		}
	}
	list = append(list, acmeWarnings(f)...)
	list.Sort()
	return list
}

// logWarnings says in the log what `wproxy check` would have warned of.
func (a *app) logWarnings(g *generation) {
	for _, w := range append(warnings(g.file, g.Snapshot.Table.Shadowed()), certWarnings(g)...) {
		a.log.Warn(w.Text, zap.Stringer("at", w.Pos))
	}
}

// test runs [[tests]]; one that fails is a problem.
func (r *report) test(f *config.File, pl *planner) {
	for i := range f.Tests {
		t := &f.Tests[i]
		failures := runTest(pl, t)
		for _, text := range failures {
			r.Problems = append(r.Problems, config.Problem{
				Pos: t.Pos, Key: fmt.Sprintf("tests[%d]", i), Text: fmt.Sprintf("test %d: %s: %s", i+1, t.Request, text),
			})
		}
		r.Tests = append(r.Tests, testResult{t.Pos, t.Request, len(failures) == 0})
	}
}

// runTest returns what of a test does not hold.
func runTest(pl *planner, t *config.Test) (failures []string) {
	method, url, _ := strings.Cut(t.Request, " ")
	q := question{method: method, url: url, listener: t.Listener}
	for name, value := range t.Headers {
		q.headers = append(q.headers, exchange.Field{Name: name, Value: value})
	}
	p, err := pl.plan(q, explainLost)
	if err != nil {
		return []string{err.Error()}
	}
	return compareTest(&t.Expect, p)
}

// compareTest compares what is expected with what would be.
func compareTest(e *config.Expect, p *plan) (failures []string) {
	differ := func(what string, got, want any) {
		failures = append(failures, fmt.Sprintf("%s is %v, expected %v", what, got, want))
	}
	name, conf := "none", &config.Route{}
	if p.conf != nil {
		name, conf = p.conf.Name, p.conf
	}
	if e.Route != nil && *e.Route != name {
		got := name
		for _, c := range p.candidates {
			if c.Name == *e.Route {
				got = fmt.Sprintf("%s (%s lost: %s)", name, c.Name, c.Lost)
			}
		}
		differ("route", got, *e.Route)
	}
	if e.Plugins != nil && !slices.Equal(*e.Plugins, conf.Use) {
		differ("plugins", fmt.Sprintf("%q", conf.Use), fmt.Sprintf("%q", *e.Plugins))
	}
	if e.Upstream != nil && !slices.ContainsFunc(conf.Upstream, func(t config.Target) bool { return t.Upstream == *e.Upstream && t.Weight > 0 }) {
		differ("upstream", upstreamNames(conf), *e.Upstream)
	}
	if path, _, _ := strings.Cut(p.upstreamPath, "?"); e.UpstreamPath != nil && path != *e.UpstreamPath {
		differ("upstream_path", orNoneText(path), *e.UpstreamPath)
	}
	if e.Status != nil && p.status != *e.Status {
		got := "the upstream's"
		if p.status != 0 {
			got = fmt.Sprintf("%d (%s)", p.status, p.reason)
		}
		differ("status", got, *e.Status)
	}
	if e.Location != nil && p.location != *e.Location {
		differ("location", orNoneText(p.location), *e.Location)
	}
	return failures
}

// upstreamNames lists the upstreams of a route.
func upstreamNames(r *config.Route) string {
	var names []string
	for _, t := range r.Upstream {
		names = append(names, t.Upstream)
	}
	return orNoneText(strings.Join(names, ", "))
}

// orNoneText writes "none" for nothing.
func orNoneText(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
