package main

import (
	"cmp"
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
	OK       bool          `json:"ok"`
	Findings []finding     `json:"findings"` // by place
	Memory   *memoryReport `json:"memory,omitempty"`
	Tests    []testResult  `json:"tests,omitempty"`

	problems config.Problems // what it is refused for
	warnings config.Problems // what is allowed, and surely not meant
	summary  string          // of a configuration that is fine
}

// A finding is one problem, as programs read it.
type finding struct {
	File   string `json:"file"`
	Line   int    `json:"line"`   // from 1; 0: the file as a whole
	Column int    `json:"column"` // in characters, from 1
	Key    string `json:"key"`    // dotted; "" for a file that is not TOML

	Severity   string `json:"severity"` // "error", for which it is refused, or "warning"
	Code       string `json:"code"`     // stays when the words change; docs/check.md has them all
	Message    string `json:"message"`
	Suggestion string `json:"suggestion"` // what would be right; "" if the message says it
}

// Codes of errors that have none of their own.
const (
	codeInvalid = "invalid"     // a value that cannot be, or does not go together with others
	codeTest    = "test_failed" // one of [[tests]]
)

// A testResult is how one of [[tests]] went.
type testResult struct {
	Pos     config.Pos `json:"pos"`
	Request string     `json:"request"`
	OK      bool       `json:"ok"`
}

// runCheck is `wproxy check`.
func runCheck(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := newFlags("check", `Usage: wproxy check [-c FILE | --to ADDRESS] [--strict] [--memory] [--json]

Says everything that is wrong with a configuration: reads it, builds all of it,
compiles its plugins and starts each once with its settings, runs its [[tests]]. Warns
of what is allowed and surely not meant; the word in brackets is in docs/check.md.
Opens no port and sends nothing; the cache of compiled plugins is all it writes.`, stderr)
	find := sourceFlags(fs)
	asJSON := fs.Bool("json", false, "write JSON")
	strict := fs.Bool("strict", false, "refuse what there is a warning of, too")
	memory := fs.Bool("memory", false, "say how much memory requests and plugins can take at most, and why")
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
	if *strict && len(r.warnings) > 0 {
		r.OK = false
	}
	if *asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(r)
	} else {
		err = r.write(src.String(), *memory, stdout, stderr)
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
func (r *report) write(name string, memory bool, stdout, stderr io.Writer) error {
	for _, p := range r.problems {
		if _, err := fmt.Fprintln(stderr, p.Error()); err != nil {
			return err
		}
	}
	for _, w := range r.warnings {
		w.Text = "warning: " + w.Text + " [" + w.Code + "]"
		if _, err := fmt.Fprintln(stderr, w.Error()); err != nil {
			return err
		}
	}
	if !r.OK {
		return nil
	}
	text := fmt.Sprintf("%s is fine: %s\n", name, r.summary)
	if memory && r.Memory != nil {
		text += strings.Join(r.Memory.Lines, "\n") + "\n"
	}
	_, err := io.WriteString(stdout, text)
	return err
}

// check finds out what is wrong with src. The error is that it could not.
func check(ctx context.Context, src source) (*report, error) {
	r := &report{Findings: []finding{}}
	defer r.find()
	f, err := src.load()
	if err != nil {
		return r, r.note(err)
	}
	built, err := buildDry(ctx, f)
	if err := r.note(err); err != nil {
		return nil, err
	}
	pl, err := newPlanner(f)
	if err != nil {
		if err := r.note(err); err != nil {
			return nil, err
		}
	} else {
		r.warnings = append(warnings(f, pl.table.Shadowed()), built.warnings...)
		r.warnings.Sort()
		r.Memory = built.memory
		r.test(f, pl)
	}
	r.problems.Sort()
	r.OK = len(r.problems) == 0
	r.summary = fmt.Sprintf("%s, %s, %s, %s, %s", count(len(f.Listeners), "listener"), count(len(f.Routes), "route"),
		count(len(f.Upstreams), "upstream"), count(len(f.Plugins), "plugin"), count(len(f.Tests), "test"))
	return r, nil
}

// find fills in the findings.
func (r *report) find() {
	add := func(list config.Problems, severity string) {
		for _, p := range list {
			f := finding{
				File: p.Pos.File, Line: p.Pos.Line, Column: p.Pos.Col, Key: p.Key,
				Severity: severity, Code: p.WithCode(codeInvalid).Code,
			}
			f.Message, f.Suggestion = p.Parts()
			f.Suggestion = cmp.Or(f.Suggestion, advice[f.Code])
			r.Findings = append(r.Findings, f)
		}
	}
	add(r.problems, "error")
	add(r.warnings, "warning")
	slices.SortStableFunc(r.Findings, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// note keeps err if it is about the configuration, and returns what else it is.
func (r *report) note(err error) error {
	if ps, ok := asType[config.Problems](err); ok {
		r.problems = append(r.problems, ps...)
		return nil
	}
	if p, ok := asType[config.Problem](err); ok {
		r.problems = append(r.problems, p)
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

// A dryBuild is what building a configuration tells of it.
type dryBuild struct {
	warnings config.Problems
	memory   *memoryReport
}

// buildDry builds f as a reload would and throws it away, without the three
// things that would be seen outside: the access log's file, the socket of the
// built-in server, and the calls that plugins make when they start: a plugin is told
// that its call is under way, and hears no more of it.
func buildDry(ctx context.Context, f *config.File) (built dryBuild, err error) {
	a := &app{log: zap.NewNop(), dry: true}
	var undo cleanup
	defer undo.run()
	if err := a.makeParts(&undo); err != nil {
		return built, err
	}
	a.parts.httpbin = &localServer{server: &http.Server{}} //nolint:gosec // never listens
	dry := *f
	dry.Log.Access.To = "none"
	g, err := a.parts.build(ctx, &dry, false)
	if err != nil {
		return built, err
	}
	defer g.Release()
	built.warnings = append(grantWarnings(g), certWarnings(g)...)
	if err := g.Complete(ctx); err != nil {
		return built, err
	}
	called := a.parts.callbacksOf(g)
	built.warnings = append(built.warnings, callbackWarnings(f, called)...)
	built.memory = mostMemory(f, called)
	return built, nil
}

// warnings returns what of f is allowed and surely not meant, by place. shadowed
// are the routes of f that others cover.
func warnings(f *config.File, shadowed []route.Shadow) config.Problems {
	var list config.Problems
	for _, s := range shadowed {
		list = append(list, f.Problemf("routes."+s.Route, "%s", s).WithCode(codeShadowed))
	}
	for _, more := range []config.Problems{routeWarnings(f), retryWarnings(f), timeoutWarnings(f), unusedWarnings(f), acmeWarnings(f), telemetryWarnings(f)} {
		list = append(list, more...)
	}
	for name, u := range f.Upstreams {
		if u.TLS != nil && u.TLS.InsecureSkipVerify {
			list = append(list, f.Problemf("upstreams."+name+".tls.insecure_skip_verify",
				"upstream %q: tls.insecure_skip_verify: whoever is on the way to its servers can read and change everything", name).WithCode(codeUnverified))
		}
	}
	list.Sort()
	return list
}

// unusedWarnings returns what no request can come to.
func unusedWarnings(f *config.File) (list config.Problems) {
	upstreams, plugins := map[string]bool{}, map[string]bool{}
	for _, r := range f.Routes {
		for _, t := range r.Upstream {
			upstreams[t.Upstream] = true
		}
		if r.Mirror != nil {
			upstreams[r.Mirror.Upstream] = true
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
	for name := range f.Upstreams {
		if !upstreams[name] {
			list = append(list, f.Problemf("upstreams."+name, "upstream %q is used by no route", name).WithCode(codeUpstreamUnused))
		}
	}
	for name := range f.Plugins {
		if !plugins[name] {
			list = append(list, f.Problemf("plugins."+name, "plugin %q is used by no route", name).WithCode(codePluginUnused))
		}
	}
	return list
}

// logWarnings says in the log what `wproxy check` would have warned of.
func (a *app) logWarnings(g *generation) {
	all := append(warnings(g.file, g.Snapshot.Table.Shadowed()), certWarnings(g)...)
	for _, w := range append(all, callbackWarnings(g.file, a.parts.callbacksOf(g))...) {
		a.log.Warn(w.Text, zap.Stringer("at", w.Pos), zap.String("code", w.Code))
	}
}

// test runs [[tests]]; one that fails is a problem.
func (r *report) test(f *config.File, pl *planner) {
	for i := range f.Tests {
		t := &f.Tests[i]
		failures := runTest(pl, t)
		for _, text := range failures {
			r.problems = append(r.problems, config.Problem{
				Pos: t.Pos, Code: codeTest, Key: fmt.Sprintf("tests[%d]", i), Text: fmt.Sprintf("test %d: %s: %s", i+1, t.Request, text),
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
