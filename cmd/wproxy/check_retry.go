package main

import (
	"slices"

	"wproxy/core/config"
)

// retryWarnings returns what of the retries of f cannot work as it is written, or makes
// an outage worse.
func retryWarnings(f *config.File) (list config.Problems) {
	for _, r := range f.Routes {
		if len(r.Upstream) == 0 || r.Retry.Attempts == 0 || r.Retry.Budget == 0 {
			continue
		}
		warn := func(key, format string, args ...any) {
			list = append(list, f.Problemf("routes."+r.Name+".retry."+key, "route %q: retry."+key+": "+format, append([]any{r.Name}, args...)...))
		}
		perTry, timeout := config.FormatDuration(r.Retry.PerTry), config.FormatDuration(r.Timeout)
		switch {
		case r.Timeout == 0 || r.Retry.PerTry == 0:
		case r.Retry.PerTry >= r.Timeout:
			warn("per_try", "%s has no effect: the whole request has %s (timeout)", perTry, timeout)
		case float64(r.Retry.Attempts+1)*r.Retry.PerTry.Seconds() > r.Timeout.Seconds():
			warn("per_try", "%d tries of %s take longer than the whole request may (timeout, %s): the last are cut short", r.Retry.Attempts+1, perTry, timeout)
		}
		if r.Retry.Budget >= 1 {
			warn("budget", "%s bounds nothing: when every server fails they get %d times the requests", r.Retry.Budget, min(r.Retry.Attempts, int(r.Retry.Budget))+1)
		}
		if slices.Contains(r.Retry.On, config.RetryTimeout) && r.Retry.PerTry == 0 && r.Timeout != 0 && !timesOut(f, r) {
			warn("on", "\"timeout\" has no effect: nothing times out before the whole request does (timeout, %s); set per_try", timeout)
		}
	}
	return list
}

// timesOut reports whether an upstream of r waits less for an answer than the route.
func timesOut(f *config.File, r *config.Route) bool {
	return slices.ContainsFunc(r.Upstream, func(t config.Target) bool {
		u := f.Upstreams[t.Upstream]
		return u != nil && u.Connect.ReadTimeout > 0 && u.Connect.ReadTimeout < r.Timeout
	})
}
