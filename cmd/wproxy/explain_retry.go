package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"wproxy/core/config"
	"wproxy/core/proxy"
)

// An explainedRetry is when a request would be tried again.
type explainedRetry struct {
	Attempts   int      `json:"attempts"`              // after the first
	On         []string `json:"on"`                    // what counts for this request
	NotOn      []string `json:"not_on,omitempty"`      // what does not, as its method may not be repeated
	PerTry     string   `json:"per_try,omitempty"`     // "": no limit of its own
	Backoff    string   `json:"backoff,omitempty"`     //
	RetryAfter string   `json:"retry_after,omitempty"` // the longest
	Budget     string   `json:"budget,omitempty"`
	BudgetMin  string   `json:"budget_min,omitempty"`
	BodyBuffer string   `json:"body_buffer,omitempty"`
}

// explainRetry says when a request with the method would be tried again on r.
func explainRetry(r *config.Route, method string) *explainedRetry {
	e := &explainedRetry{Attempts: r.Retry.Attempts}
	if e.Attempts == 0 || r.Retry.Budget == 0 {
		e.Attempts = 0
		return e
	}
	repeatable := r.Retry.Idempotent || proxy.IdempotentMethod(method)
	for _, on := range r.Retry.On {
		if repeatable || on == config.RetryConnect || on == config.RetryRefused {
			e.On = append(e.On, on)
		} else {
			e.NotOn = append(e.NotOn, on)
		}
	}
	if r.Retry.PerTry > 0 {
		e.PerTry = config.FormatDuration(r.Retry.PerTry)
	}
	e.Backoff, e.RetryAfter = r.Retry.Backoff.String(), config.FormatDuration(r.Retry.RetryAfter)
	e.Budget, e.BudgetMin = r.Retry.Budget.String(), r.Retry.BudgetMin.String()
	e.BodyBuffer = r.Retry.BodyBuffer.String()
	return e
}

// explainDeadline says which upstreams of r are told how long they have, and in which
// field.
func explainDeadline(f *config.File, r *config.Route) map[string]string {
	told := map[string]string{}
	for _, t := range r.Upstream {
		if name := f.Upstreams[t.Upstream].DeadlineHeader; name != "" {
			told[t.Upstream] = name
		}
	}
	return told
}

// lines is e for people.
func (e *explainedRetry) lines(method string) []string {
	if e.Attempts == 0 {
		return []string{"never"}
	}
	tries := "1 more try"
	if e.Attempts > 1 {
		tries = fmt.Sprintf("%d more tries", e.Attempts)
	}
	after := tries + " after " + strings.Join(e.On, ", ")
	switch {
	case len(e.On) == 0:
		after = fmt.Sprintf("only after a reused connection took nothing; not after %s: a %s may not be repeated", strings.Join(e.NotOn, ", "), method)
	case len(e.NotOn) > 0:
		after += fmt.Sprintf("; not after %s: a %s may not be repeated", strings.Join(e.NotOn, ", "), method)
	}
	second := fmt.Sprintf("budget %s of the requests, at least %s; back-off %s", e.Budget, e.BudgetMin, e.Backoff)
	if e.PerTry != "" {
		second = fmt.Sprintf("each try %s to the head of the answer; ", e.PerTry) + second
	}
	return []string{after, second}
}

// deadlineText is what explainDeadline says for people; "": nobody is told.
func deadlineText(told map[string]string) string {
	var list []string
	for _, upstream := range slices.Sorted(maps.Keys(told)) {
		list = append(list, fmt.Sprintf("%s is told in %s", upstream, told[upstream]))
	}
	return strings.Join(list, ", ")
}
