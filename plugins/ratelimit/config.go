package main

import (
	"strconv"
	"strings"

	"wproxy/plugins/internal/settings"
)

// Bounds of settings, each far from where arithmetic on nanoseconds ends.
const (
	maxRate  = 1_000_000         // tokens a second; above, an interval has too few nanoseconds to be exact
	maxBurst = 1_000_000_000     // tokens
	maxFill  = 365 * 24 * 3600e9 // nanoseconds until an empty bucket is full
	maxBody  = 64 << 10          // bytes
	maxDelay = 3600e9            // nanoseconds a request waits, far above the time a route gives it

	maxConcurrency = 1_000_000 // requests in flight
)

// onMissing is what to do with a request that lacks its key.
type onMissing string

const (
	missingShare onMissing = "share" // all such requests share one bucket
	missingAllow onMissing = "allow"
	missingDeny  onMissing = "deny"
)

// algorithm is how requests are counted.
type algorithm uint8

const (
	tokenBucket   algorithm = iota // so many at once, and then at the rate
	leakyBucket                    // at the rate: what comes too early waits
	slidingWindow                  // so many in any stretch of time of the rate's unit
)

// config is the plugin's settings, checked.
type config struct {
	limit
	algorithm   algorithm
	undelayed   int64  // leaky-bucket: tokens that are there at once; the rest of burst is waited for
	costField   string // the response field that names the cost; "": limit.cost
	concurrency int64  // most in flight; 0: any number
	unrated     bool   // there is no rate, only concurrency
	window      int64  // seconds of the rate's unit
	quota       int64  // tokens in it
	parts       []part
	scopePlugin bool // requests of all routes share buckets
	report      bool // decide, count and say so, but let everything through
	missing     onMissing
	exempt      exemptions
	status      uint32
	body        string
	policyField string // the value of ratelimit-policy
}

// parseConfig checks the plugin's settings, a JSON object. The error names the key.
func parseConfig(data []byte) (*config, error) {
	t, err := settings.New(data)
	if err != nil {
		return nil, err
	}
	c := &config{}
	readLater(t)
	c.concurrency = t.Whole("concurrency", 0, 1, maxConcurrency)
	if readAlgorithm(t, c) {
		readRate(t, c)
		readCost(t, c)
	}
	keys := t.Texts("key")
	if len(keys) == 0 {
		keys = []string{"client-ip/64"}
	}
	for _, text := range keys {
		p, problem := parsePart(text)
		if problem != "" {
			t.Fail("key", problem)
		}
		c.parts = append(c.parts, p)
	}
	c.scopePlugin = t.Choice("scope", "route", "route", "plugin") == "plugin"
	c.report = t.Choice("mode", "enforce", "enforce", "report") == "report"
	c.missing = onMissing(t.Choice("on_missing_key", string(missingShare),
		string(missingShare), string(missingAllow), string(missingDeny)))
	c.exempt = readExempt(t)
	c.status = uint32(t.Whole("status", 429, 400, 599))
	c.body = t.Text("body", "Too many requests.\n")
	if len(c.body) > maxBody {
		t.Fail("body", "is longer than "+strconv.Itoa(maxBody)+" bytes")
	}
	if err := t.Done(); err != nil {
		return nil, err
	}
	if !c.unrated {
		c.policyField = policyField(c)
	}
	return c, nil
}

// readLater refuses what later versions have, rather than as unknown.
func readLater(t *settings.Table) {
	for _, key := range []string{"store", "when_store_down"} {
		if _, ok := t.Value(key); ok {
			t.Fail(key, "not available in this version of the plugin")
		}
	}
}

// readAlgorithm reads algorithm; false if there is no rate for one.
func readAlgorithm(t *settings.Table, c *config) (rated bool) {
	if _, ok := t.Value("rate"); !ok && c.concurrency > 0 {
		c.unrated = true
		for _, key := range []string{"algorithm", "burst", "cost", "max_delay"} {
			if _, ok := t.Value(key); ok {
				t.Fail(key, "needs a rate")
			}
		}
		return false
	}
	switch t.Choice("algorithm", "token-bucket", "token-bucket", "leaky-bucket", "sliding-window") {
	case "leaky-bucket":
		c.algorithm = leakyBucket
	case "sliding-window":
		c.algorithm = slidingWindow
	}
	return true
}

// readRate reads rate, burst and max_delay.
func readRate(t *settings.Table, c *config) {
	text := t.Text("rate", "")
	if text == "" {
		t.Fail("rate", `is missing; for example "100/s"`)
	}
	quota, window, ok := parseRate(text)
	switch {
	case !ok:
		t.Fail("rate", settings.Quote(text)+` is not a rate such as "100/s", "30/m" or "1000/h"`)
		quota, window = 1, 1
	case quota > maxRate*window:
		t.Fail("rate", settings.Quote(text)+" is more than "+strconv.Itoa(maxRate)+" a second")
		quota, window = 1, 1
	}
	c.quota, c.window = quota, window
	// Rounded up: a bucket must never fill faster than the rate.
	c.interval = (window*1e9 + quota - 1) / quota
	delay := readDelay(t, c)
	switch c.algorithm {
	case tokenBucket:
		// Without a burst, a whole unit's worth may come at once.
		c.burst = t.Whole("burst", min(quota, maxBurst), 1, maxBurst)
	case leakyBucket:
		c.undelayed = t.Whole("burst", 1, 1, maxBurst)
		c.burst = c.undelayed + delay/c.interval
	case slidingWindow:
		if _, ok := t.Value("burst"); ok {
			t.Fail("burst", "is not for sliding-window: the number in rate may come at once")
		}
		c.burst = quota
	}
	if c.algorithm != slidingWindow && c.burst > maxFill/c.interval {
		t.Fail("burst", "takes more than a year to fill at this rate")
	}
}

// readDelay reads max_delay.
func readDelay(t *settings.Table, c *config) int64 {
	v, given := t.Value("max_delay")
	text := t.Text("max_delay", "")
	switch {
	case c.algorithm != leakyBucket && given:
		t.Fail("max_delay", "is for leaky-bucket only")
		return 0
	case !given, v.Kind != settings.String: // Text has said so
		return 1e9
	}
	ns, ok := settings.Nanoseconds(text)
	switch {
	case !ok:
		t.Fail("max_delay", settings.Quote(text)+` is not a length of time such as "500ms" or "2s"`)
	case ns < 1e6 || ns > maxDelay:
		t.Fail("max_delay", settings.Quote(text)+" is not between 1ms and 1h")
	}
	return ns
}

// parseRate reads "N/s", "N/m" or "N/h"; window is the unit in seconds.
func parseRate(text string) (quota, window int64, ok bool) {
	count, unit, ok := strings.Cut(text, "/")
	if !ok {
		return 0, 0, false
	}
	quota, ok = settings.Int(count)
	if !ok || quota < 1 {
		return 0, 0, false
	}
	switch unit {
	case "s":
		return quota, 1, true
	case "m":
		return quota, 60, true
	case "h":
		return quota, 3600, true
	}
	return 0, 0, false
}

// readCost reads cost.
func readCost(t *settings.Table, c *config) {
	v, ok := t.Value("cost")
	if ok && v.Kind == settings.String {
		name, header := strings.CutPrefix(v.Text, "header:")
		switch {
		case !header || !settings.IsToken(name):
			t.Fail("cost", `must be a number, or "header:" with the name of a header, not `+settings.Quote(v.Text))
		case c.algorithm != tokenBucket:
			t.Fail("cost", "that the response names is for token-bucket only")
		}
		c.costField, c.cost = settings.Lower(name), 1
		return
	}
	c.cost = t.Whole("cost", 1, 1, maxBurst)
	if c.cost > c.burst {
		t.Fail("cost", "is more than burst, "+strconv.FormatInt(c.burst, 10)+": no request would ever get through")
	}
}
