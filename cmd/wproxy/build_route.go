package main

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"wproxy/core/config"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/proxy"
	"wproxy/core/route"
)

// routeSpec says which requests r is for. The table that serves, check and
// explain all go through it.
func routeSpec(r *config.Route) route.Spec {
	return route.Spec{
		Name:      r.Name,
		Hosts:     r.Host,
		Paths:     r.Path,
		PathRegex: r.PathRegex,
		Methods:   r.Methods,
		Listeners: r.Listener,
		Headers:   conditions(r.When.Header),
		Query:     conditions(r.When.Query),
		Priority:  r.Priority,
	}
}

// newListener converts what the engine must know of l, but for what its certificates say.
func newListener(f *config.File, l *config.Listener) *proxy.Listener {
	p := &proxy.Listener{
		Name: l.Name, TrustProxy: l.TrustProxy, StripPort: l.StripPort,
		CertFields: l.TLS != nil && l.TLS.ClientCertHeaders,
	}
	for _, other := range f.Listeners {
		p.DropCertFields = p.DropCertFields || other.TLS != nil && other.TLS.ClientCertHeaders
	}
	if target, _ := f.SecureListener(); l.Redirect != "" && target != nil {
		port := portOf(target.Address)
		p.Upgrade = func() int { return port }
	}
	return p
}

// conditions converts the conditions of one kind, ordered by name.
func conditions(ms map[string]config.Match) []route.Condition {
	cs := make([]route.Condition, 0, len(ms))
	for name, m := range ms {
		cs = append(cs, route.Condition{Name: name, Values: m.Values, Absent: m.Absent})
	}
	slices.SortFunc(cs, func(a, b route.Condition) int { return cmp.Compare(a.Name, b.Name) })
	return cs
}

// newRoute converts all of r that needs nothing running: everything but Split,
// Filters and Metrics.
func newRoute(f *config.File, r *config.Route) (*proxy.Route, error) {
	key := func(k string) string { return "routes." + r.Name + "." + k }
	p := &proxy.Route{
		Name:            r.Name,
		Info:            filter.Route{Name: r.Name, Metadata: r.Metadata},
		Allow:           r.Allow,
		Deny:            r.Deny,
		Timeout:         orNone(r.Timeout),
		TunnelIdle:      orNone(r.WebSocket.Idle),
		MaxTunnels:      r.WebSocket.Connections,
		RequestHeaders:  headerEdits(r.RequestHeaders),
		ResponseHeaders: headerEdits(r.ResponseHeaders),
		Retry:           retry(r.Retry),
		KeepSlash:       r.EncodedSlash == "keep",
		TrustRepick:     r.Repick == "trust",
	}
	spec := route.RewriteSpec{Strip: r.Strip}
	if r.Rewrite != nil {
		spec.Path, spec.Regex, spec.To = r.Rewrite.Path, r.Rewrite.Regex, r.Rewrite.To
	}
	var err error
	if p.Rewrite, err = route.NewRewrite(spec); err != nil {
		where := "strip"
		if r.Rewrite != nil {
			where = "rewrite"
		}
		return nil, f.Problemf(key(where), "route %q: %v", r.Name, err)
	}
	if d := r.Redirect; d != nil {
		if p.Redirect, err = route.NewRedirect(d.To, d.Status, 0); err != nil {
			return nil, f.Problemf(key("redirect"), "route %q: %v", r.Name, err)
		}
	}
	if r.Respond != nil {
		p.Respond = respond(r.Respond)
	}
	return p, nil
}

// orNone converts a setting whose 0 means "none" to one whose 0 means the
// default and whose negative values mean "none".
func orNone[T ~int | ~int64 | ~float64](v T) T {
	if v == 0 {
		return -1
	}
	return v
}

// percent converts a share. A small one is not none.
func percent(p config.Percent) int { return int(math.Ceil(float64(p)*100 - 1e-6)) }

func retry(r config.Retry) proxy.Retry {
	p := proxy.Retry{
		Attempts:   orNone(r.Attempts),
		Idempotent: r.Idempotent,
		PerTry:     r.PerTry,
		Budget:     orNone(percent(r.Budget)),
		BudgetMin:  orNone(float64(r.BudgetMin)),
		BodyBuffer: orNone(int(r.BodyBuffer)),
		Backoff:    r.Backoff.Min, MaxBackoff: r.Backoff.Max,
		RetryAfter: orNone(r.RetryAfter),
	}
	for _, on := range r.On {
		switch on {
		case config.RetryConnect:
			p.On |= proxy.OnConnect
		case config.RetryRefused:
			p.On |= proxy.OnRefused
		case config.RetryReset:
			p.On |= proxy.OnReset
		case config.RetryTimeout:
			p.On |= proxy.OnTimeout
		default:
			p.Statuses.Add(config.RetryStatus(on))
		}
	}
	return p
}

func headerEdits(e config.HeaderEdit) proxy.HeaderEdits {
	return proxy.HeaderEdits{Remove: e.Remove, Set: fieldsOf(e.Set), Add: fieldsOf(e.Add)}
}

// fieldsOf converts a table of fields, ordered by name.
func fieldsOf(m map[string]config.Value) []exchange.Field {
	fields := make([]exchange.Field, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		fields = append(fields, exchange.Field{Name: name, Value: m[name].Reveal()})
	}
	return fields
}

func respond(r *config.Respond) *proxy.Respond {
	p := &proxy.Respond{Status: r.Status, Fields: fieldsOf(r.Headers), Body: []byte(r.Body.Reveal())}
	if _, ok := r.Headers["content-type"]; !ok && len(p.Body) > 0 {
		p.Fields = append(p.Fields, exchange.Field{Name: "content-type", Value: "text/plain; charset=utf-8"})
	}
	return p
}

// routeProblems turns the errors of route.New into problems with places.
func routeProblems(f *config.File, err error) config.Problems {
	var ps config.Problems
	for _, e := range flatten(err) {
		ps = append(ps, routeProblem(f, e))
	}
	ps.Sort()
	return ps
}

func routeProblem(f *config.File, err error) config.Problem {
	if re, ok := asType[*route.Error](err); ok {
		p := f.Problemf("routes."+re.Route, "route %q: %s", re.Route, re.Text)
		if re.Other != "" {
			p = p.WithCode(codeTie)
		}
		return p
	}
	return f.Problemf("routes", "%v", err)
}
