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
		warn := func(code, key, format string, args ...any) {
			list = append(list, f.Problemf("routes."+r.Name+".retry."+key, "route %q: retry."+key+": "+format, append([]any{r.Name}, args...)...).WithCode(code))
		}
		perTry, timeout := config.FormatDuration(r.Retry.PerTry), config.FormatDuration(r.Timeout)
		switch {
		case r.Timeout == 0 || r.Retry.PerTry == 0:
		case r.Retry.PerTry >= r.Timeout:
			warn(codeTimeouts, "per_try", "%s has no effect: the whole request has %s (timeout)", perTry, timeout)
		case float64(r.Retry.Attempts+1)*r.Retry.PerTry.Seconds() > r.Timeout.Seconds():
			warn(codeTimeouts, "per_try", "%d tries of %s take longer than the whole request may (timeout, %s): the last are cut short", r.Retry.Attempts+1, perTry, timeout)
		}
		if r.Retry.Budget >= 1 {
			warn(codeAmplified, "budget", "%s bounds nothing: when every server fails they get %d times the requests", r.Retry.Budget, min(r.Retry.Attempts, int(r.Retry.Budget))+1)
		}
		if slices.Contains(r.Retry.On, config.RetryTimeout) && r.Retry.PerTry == 0 && r.Timeout != 0 && !timesOut(f, r) {
			warn(codeRetryIdle, "on", "\"timeout\" has no effect: nothing times out before the whole request does (timeout, %s); set per_try", timeout)
		}
		if on := repeatsOnly(r); on != "" {
			warn(codeRetryIdle, "on", "%q has no effect: no method of the route is idempotent, so that none is sent again after it; leave it out, or set idempotent", on)
		}
		if n := amplification(r); n > maxAmplification {
			warn(codeAmplified, "budget_min", "%s allows %d tries of each of the first requests in a second, budget or not, and a server that fails gets as many times its requests; make it lower", r.Retry.BudgetMin, n)
		}
	}
	return list
}

// maxAmplification is how many times its requests an upstream may get from a route, in all
// seconds in which there are few, before check warns: it is what the defaults and two more
// attempts make of it.
const maxAmplification = 4

// amplification returns how often a request may be sent while budget_min pays for it: for
// so many requests in a second that there is something to be overloaded.
func amplification(r *config.Route) int {
	const few = 10 // requests in a second
	return 1 + min(r.Retry.Attempts, int(float64(r.Retry.BudgetMin)/few))
}

// repeatsOnly returns a failure that r tries again after and that is about requests that
// have had effects, if r has no method that could be repeated then; else "".
func repeatsOnly(r *config.Route) string {
	safe := []string{"GET", "HEAD", "OPTIONS", "TRACE", "QUERY", "PUT", "DELETE"} // as config.Retry.Idempotent says
	if r.Retry.Idempotent || len(r.Methods) == 0 || slices.ContainsFunc(r.Methods, func(m string) bool { return slices.Contains(safe, m) }) {
		return ""
	}
	for _, on := range r.Retry.On {
		if on != config.RetryConnect && on != config.RetryRefused {
			return on
		}
	}
	return ""
}

// timesOut reports whether an upstream of r waits less for an answer than the route.
func timesOut(f *config.File, r *config.Route) bool {
	return slices.ContainsFunc(r.Upstream, func(t config.Target) bool {
		u := f.Upstreams[t.Upstream]
		return u != nil && u.Connect.ReadTimeout > 0 && u.Connect.ReadTimeout < r.Timeout
	})
}
