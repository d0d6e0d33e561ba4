package main

import (
	"fmt"
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

// An explainedDeadline is until when a request has to be answered, and who is told.
type explainedDeadline struct {
	After string            `json:"after"` // the start of the request; "none"
	Told  map[string]string `json:"told,omitempty"`
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

// explainDeadline says until when a request on r has to be answered.
func explainDeadline(f *config.File, r *config.Route) *explainedDeadline {
	e := &explainedDeadline{After: "none"}
	if r.Timeout > 0 {
		e.After = config.FormatDuration(r.Timeout)
	}
	for _, t := range r.Upstream {
		if name := f.Upstreams[t.Upstream].DeadlineHeader; name != "" {
			if e.Told == nil {
				e.Told = map[string]string{}
			}
			e.Told[t.Upstream] = name
		}
	}
	return e
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

// String is e for people.
func (e *explainedDeadline) String() string {
	s := e.After
	if s != "none" {
		s += " from the start of the request, retries and calls of plugins included"
	}
	var told []string
	for upstream, name := range e.Told {
		told = append(told, fmt.Sprintf("%s is told in %s", upstream, name))
	}
	slices.Sort(told)
	return strings.Join(append([]string{s}, told...), "; ")
}
