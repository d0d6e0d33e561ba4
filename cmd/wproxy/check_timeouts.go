package main

import (
	"maps"
	"slices"
	"strings"
	"time"

	"wproxy/core/config"
	"wproxy/host"
)

// timeoutWarnings returns times that were set and can never be over, because another one
// is before. What has its default is nobody's mistake.
func timeoutWarnings(f *config.File) (list config.Problems) {
	for _, r := range f.Routes {
		list = append(list, routeTimeouts(f, r)...)
	}
	for name, u := range f.Upstreams {
		bound, routes := boundOf(f, func(r *config.Route) bool {
			return slices.ContainsFunc(r.Upstream, func(t config.Target) bool { return t.Upstream == name })
		})
		if bound == 0 || called(f, name) {
			continue
		}
		for _, t := range []struct {
			key  string
			time time.Duration
		}{
			{"connect.timeout", u.Connect.Timeout},
			{"connect.total", u.Connect.Total},
			{"connect.read_timeout", u.Connect.ReadTimeout},
			{"connect.write_timeout", u.Connect.WriteTimeout},
			{"pool.queue_time", u.Pool.QueueTime},
		} {
			if key := "upstreams." + name + "." + t.key; f.Has(key) && t.time >= bound {
				list = append(list, f.Problemf(key, "upstream %q: %s: %s is never waited for: whole requests to it have %s at most (timeout of route %s); make it shorter",
					name, t.key, config.FormatDuration(t.time), config.FormatDuration(bound), routes).WithCode(codeTimeouts))
			}
		}
	}
	for name, p := range f.Plugins {
		bound, routes := boundOf(f, func(r *config.Route) bool { return slices.Contains(r.Use, name) })
		if key := "plugins." + name + ".sandbox.pause"; bound > 0 && f.Has(key) && p.Sandbox.Pause >= bound {
			list = append(list, f.Problemf(key, "plugin %q: sandbox.pause: no pause gets to %s: whole requests have %s at most (timeout of route %s); make it shorter",
				name, config.FormatDuration(p.Sandbox.Pause), config.FormatDuration(bound), routes).WithCode(codeTimeouts))
		}
	}
	return list
}

// boundOf returns the longest time of a whole request on the routes that are meant, and
// their names; 0: there is none, or no bound.
func boundOf(f *config.File, meant func(*config.Route) bool) (bound time.Duration, names string) {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(f.Routes)) {
		r := f.Routes[name]
		if !meant(r) {
			continue
		}
		if r.Timeout == 0 {
			return 0, ""
		}
		bound = max(bound, r.Timeout)
		list = append(list, "\""+name+"\"")
	}
	if n := len(list) - maxNamed; n > 0 {
		list = append(list[:maxNamed], count(n, "other"))
	}
	return bound, strings.Join(list, ", ")
}

// called reports whether an upstream gets requests that no route bounds: the calls of
// plugins, and copies.
func called(f *config.File, upstream string) bool {
	for _, p := range f.Plugins {
		if slices.Contains(p.Grant, host.GrantCall+upstream) || slices.Contains(p.Grant, host.GrantUpstream+upstream) {
			return true
		}
	}
	for _, r := range f.Routes {
		if r.Mirror != nil && r.Mirror.Upstream == upstream {
			return true
		}
	}
	return false
}

// routeTimeouts returns what of the times of one route contradicts its timeout.
func routeTimeouts(f *config.File, r *config.Route) (list config.Problems) {
	if r.Timeout == 0 || len(r.Upstream) == 0 {
		return nil
	}
	warn := func(key, format string, args ...any) {
		list = append(list, f.Problemf("routes."+r.Name+"."+key, "route %q: "+key+": "+format, append([]any{r.Name}, args...)...).WithCode(codeTimeouts))
	}
	timeout := config.FormatDuration(r.Timeout)
	if r.Fault != nil && r.Fault.Delay >= r.Timeout {
		warn("fault.delay", "every request that is delayed ends with 504: the whole of it has %s (timeout); make it shorter", timeout)
	}
	if r.Retry.Attempts > 0 && f.Has("routes."+r.Name+".retry.retry_after") && r.Retry.RetryAfter >= r.Timeout {
		warn("retry.retry_after", "%s is never waited for: the whole request has %s (timeout); make it shorter", config.FormatDuration(r.Retry.RetryAfter), timeout)
	}
	if r.Retry.Attempts > 0 && r.Retry.Backoff.Min >= r.Timeout {
		warn("retry.backoff", "there is no time left after a wait of %s: the whole request has %s (timeout); make it shorter", config.FormatDuration(r.Retry.Backoff.Min), timeout)
	}
	if r.Retry.PerTry == 0 || r.Retry.Attempts == 0 {
		return list
	}
	for _, t := range r.Upstream {
		u := f.Upstreams[t.Upstream]
		if u != nil && f.Has("upstreams."+t.Upstream+".connect.timeout") && u.Connect.Timeout >= r.Retry.PerTry {
			warn("retry.per_try", "a try is over after %s, and an attempt to connect to upstream %q may take %s (connect.timeout); make that shorter",
				config.FormatDuration(r.Retry.PerTry), t.Upstream, config.FormatDuration(u.Connect.Timeout))
		}
	}
	return list
}
