package main

import (
	"slices"
	"strconv"
	"strings"

	"wproxy/plugins/internal/settings"
)

// million is the whole of a ratio, which is kept in millionths.
const million = 1_000_000

// Bounds of settings, each far from where arithmetic on nanoseconds ends.
const (
	maxRequests = 1_000_000_000
	maxProbes   = 10_000
	maxGrowth   = 100 * million
	maxBody     = 64 << 10 // bytes
	minWindow   = 100e6    // nanoseconds: a slot of 10 ms
	maxTime     = 24 * 3600e9
)

// A failure is how an upstream can fail without an answer, as the property upstream.failure
// has it.
type failure uint8

// The failures are the bits of config.on.
const (
	failConnect failure = 1 << iota
	failReset
	failTimeout
	failTLS
)

func parseFailure(text string) (failure, bool) {
	switch text {
	case "connect":
		return failConnect, true
	case "reset":
		return failReset, true
	case "timeout":
		return failTimeout, true
	case "tls":
		return failTLS, true
	}
	return 0, false
}

// config is the plugin's settings, checked. Times are in nanoseconds, ratios in millionths;
// 0 is off.
type config struct {
	failures    int64
	slow        int64
	slowCall    int64
	consecutive int64
	window      int64
	minRequests int64
	on          failure
	statuses    [600]bool
	openFor     int64
	growth      int64
	openForMax  int64
	probes      int64

	fallbackUpstream string // "": none
	reply            reply
}

// A reply is what is sent while the circuit is open.
type reply struct {
	status     uint32
	names      []string
	values     []string
	body       string
	retryAfter bool // it gets the field, as it tells of something that passes
}

// parseConfig checks the plugin's settings, a JSON object. The error names the key.
func parseConfig(data []byte) (*config, error) {
	t, err := settings.New(data)
	if err != nil {
		return nil, err
	}
	c := &config{
		failures:    readRatio(t, "failures", million/2),
		slow:        readRatio(t, "slow", 0),
		slowCall:    readTime(t, "slow_call", 0, 1e6),
		consecutive: t.Whole("consecutive", 0, 0, maxRequests),
		window:      readTime(t, "window", 10e9, minWindow),
		minRequests: t.Whole("min_requests", 20, 1, maxRequests),
		openFor:     readTime(t, "open_for", 5e9, 1e6),
		probes:      t.Whole("probes", 3, 1, maxProbes),
	}
	c.openForMax = readTime(t, "open_for_max", max(60e9, c.openFor), 1e6)
	c.growth = readNumber(t, "open_for_growth", 2*million, million, maxGrowth)
	switch {
	case c.openForMax < c.openFor:
		t.Fail("open_for_max", "is less than open_for")
	case (c.slow > 0) != (c.slowCall > 0):
		t.Fail("slow", "and slow_call need each other: how many of the requests, and what is slow")
	case c.failures == 0 && c.slow == 0 && c.consecutive == 0:
		t.Fail("failures", "is 0, and neither slow nor consecutive is set: nothing would ever open the circuit")
	}
	readCounted(t, c)
	readReply(t, c)
	if err := t.Done(); err != nil {
		return nil, err
	}
	return c, nil
}

// readCounted reads what counts as a failure.
func readCounted(t *settings.Table, c *config) {
	on := t.Texts("on")
	if _, there := t.Value("on"); !there {
		on = []string{"connect", "reset", "timeout", "tls"}
	}
	for _, text := range on {
		f, ok := parseFailure(text)
		if !ok {
			t.Fail("on", settings.Quote(text)+" is not one of connect, reset, timeout, tls")
		}
		c.on |= f
	}
	list := []settings.Value{{Kind: settings.String, Text: "5xx"}}
	if v, ok := t.Value("statuses"); ok {
		list = []settings.Value{v}
		if v.Kind == settings.List {
			list = v.Items
		}
	}
	for _, v := range list {
		if v.Kind != settings.String && v.Kind != settings.Number || !c.addStatuses(v.Text) {
			t.Fail("statuses", `must be statuses such as 503 or "5xx", not `+describe(v))
		}
	}
}

func describe(v settings.Value) string {
	if v.Kind == settings.String || v.Kind == settings.Number {
		return settings.Quote(v.Text)
	}
	return v.Kind.String()
}

// addStatuses adds a status, or all of a class, to those that are failures.
func (c *config) addStatuses(text string) bool {
	if class, ok := strings.CutSuffix(text, "xx"); ok && len(class) == 1 && '2' <= class[0] && class[0] <= '5' {
		first := 100 * int(class[0]-'0')
		for i := range 100 {
			c.statuses[first+i] = true
		}
		return true
	}
	n, ok := settings.Int(text)
	if !ok || n < 200 || n > 599 {
		return false
	}
	c.statuses[n] = true
	return true
}

// readReply reads what is done while the circuit is open.
func readReply(t *settings.Table, c *config) {
	c.fallbackUpstream = t.Text("fallback_upstream", "")
	c.reply = reply{
		status: 503, names: []string{"content-type"}, values: []string{"text/plain; charset=utf-8"},
		body: "The service is not available at the moment.\n",
	}
	if _, ok := t.Value("fallback"); ok {
		if c.fallbackUpstream != "" {
			t.Fail("fallback", "and fallback_upstream exclude each other")
		}
		in := t.Table("fallback")
		c.reply.status = uint32(in.Whole("status", 503, 200, 599))
		c.reply.body = in.Text("body", c.reply.body)
		if len(c.reply.body) > maxBody {
			in.Fail("body", "is longer than "+strconv.Itoa(maxBody)+" bytes")
		}
		readHeaders(in.Table("headers"), in, &c.reply)
		if err := in.Done(); err != nil {
			t.Keep(err)
		}
	}
	c.reply.retryAfter = c.reply.status == 503 || c.reply.status == 429
}

// readHeaders reads the fields of the reply.
func readHeaders(in, around *settings.Table, r *reply) {
	for _, name := range in.Names() {
		value := in.Text(name, "")
		lower := settings.Lower(name)
		switch {
		case !settings.IsToken(name):
			in.Fail(name, "is not the name of a header")
		case slices.Contains([]string{"content-length", "transfer-encoding", "connection", "retry-after"}, lower):
			in.Fail(name, "is set by the proxy")
		case strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }):
			in.Fail(name, "has a control character in its value")
		}
		if i := slices.Index(r.names, lower); i >= 0 {
			r.values[i] = value
			continue
		}
		r.names, r.values = append(r.names, lower), append(r.values, value)
	}
	if err := in.Done(); err != nil {
		around.Keep(err)
	}
}

// readTime reads a length of time in nanoseconds, least at least.
func readTime(t *settings.Table, key string, missing, least int64) int64 {
	v, ok := t.Value(key)
	if !ok {
		return missing
	}
	ns, valid := int64(0), false
	if v.Kind == settings.String {
		ns, valid = settings.Nanoseconds(v.Text)
	}
	switch {
	case !valid:
		t.Fail(key, `must be a length of time such as "500ms", "10s" or "1m"`)
	case ns < least || ns > maxTime:
		t.Fail(key, settings.Quote(v.Text)+" is not between "+seconds(least)+" and "+seconds(maxTime))
	default:
		return ns
	}
	return missing
}

// readRatio reads a part of the whole, as 0.5 or "50%", in millionths; false is 0.
func readRatio(t *settings.Table, key string, missing int64) int64 {
	v, ok := t.Value(key)
	if !ok {
		return missing
	}
	switch {
	case v.Kind == settings.Bool && !v.True:
		return 0
	case v.Kind == settings.Number:
		if n, ok := settings.Millionths(v.Text); ok && n <= million {
			return n
		}
	case v.Kind == settings.String:
		if text, ok := strings.CutSuffix(v.Text, "%"); ok {
			if n, ok := settings.Millionths(text); ok && n <= 100*million {
				return n / 100
			}
		}
	}
	t.Fail(key, `must be a ratio such as 0.5 or "50%", or false`)
	return missing
}

// readNumber reads a number in millionths.
func readNumber(t *settings.Table, key string, missing, least, most int64) int64 {
	v, ok := t.Value(key)
	if !ok {
		return missing
	}
	if n, valid := settings.Millionths(v.Text); valid && v.Kind == settings.Number && n >= least && n <= most {
		return n
	}
	t.Fail(key, "must be a number from "+strconv.FormatInt(least/million, 10)+" to "+strconv.FormatInt(most/million, 10))
	return missing
}
