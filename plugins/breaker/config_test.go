package main

import (
	"strings"
	"testing"
)

// refused are settings that are refused, and what the error says.
var refused = []struct{ doc, want string }{
	{`{"failure":0.5}`, `setting "failure": unknown (did you mean "failures"?)`},
	{`{"failures":1.5}`, `setting "failures": must be a ratio`},
	{`{"failures":"0.5"}`, `setting "failures": must be a ratio`},
	{`{"failures":"101%"}`, `setting "failures": must be a ratio`},
	{`{"failures":true}`, `setting "failures": must be a ratio`},
	{`{"failures":0}`, `nothing would ever open the circuit`},
	{`{"slow":0.5}`, `setting "slow": and slow_call need each other`},
	{`{"slow_call":"1s"}`, `setting "slow": and slow_call need each other`},
	{`{"slow":0.5,"slow_call":1}`, `setting "slow_call": must be a length of time`},
	{`{"consecutive":-1}`, `setting "consecutive": -1 is not a whole number`},
	{`{"window":"10"}`, `setting "window": must be a length of time`},
	{`{"window":"10ms"}`, `setting "window": "10ms" is not between`},
	{`{"window":"25h"}`, `setting "window": "25h" is not between`},
	{`{"min_requests":0}`, `setting "min_requests": 0 is not a whole number`},
	{`{"on":["connect","refused"]}`, `setting "on": "refused" is not one of`},
	{`{"statuses":["6xx"]}`, `setting "statuses": must be statuses`},
	{`{"statuses":[100]}`, `setting "statuses": must be statuses`},
	{`{"statuses":true}`, `setting "statuses": must be statuses`},
	{`{"open_for":"0s"}`, `setting "open_for": "0s" is not between`},
	{`{"open_for":"5s","open_for_max":"1s"}`, `setting "open_for_max": is less than open_for`},
	{`{"open_for_growth":0.5}`, `setting "open_for_growth": must be a number from 1 to 100`},
	{`{"probes":0}`, `setting "probes": 0 is not a whole number`},
	{`{"fallback":{"status":100}}`, `setting "fallback.status": 100 is not a whole number`},
	{`{"fallback":{"state":200}}`, `setting "fallback.state": unknown`},
	{`{"fallback":{"headers":{"a b":"c"}}}`, `setting "fallback.headers.a b": is not the name of a header`},
	{`{"fallback":{"headers":{"a":1}}}`, `setting "fallback.headers.a": must be a string`},
	{`{"fallback":{"headers":{"Content-Length":"1"}}}`, `setting "fallback.headers.Content-Length": is set by the proxy`},
	{`{"fallback":{"headers":{"a":"b\r\nc: d"}}}`, `setting "fallback.headers.a": has a control character`},
	{`{"fallback":{},"fallback_upstream":"b"}`, `setting "fallback": and fallback_upstream exclude each other`},
	{`[]`, `settings must be a table`},
}

func TestRefused(t *testing.T) {
	for _, tc := range refused {
		if _, err := parseConfig([]byte(tc.doc)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", tc.doc, err, tc.want)
		}
	}
}

func TestDefaults(t *testing.T) {
	c, err := parseConfig(nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.failures != 500_000 || c.window != 10e9 || c.minRequests != 20 || c.openFor != 5e9 || c.openForMax != 60e9 ||
		c.growth != 2*million || c.probes != 3 || c.slow != 0 || c.consecutive != 0 || c.on != failConnect|failReset|failTimeout|failTLS ||
		!c.statuses[500] || !c.statuses[599] || c.statuses[499] || c.reply.status != 503 || !c.reply.retryAfter {
		t.Errorf("%+v", c)
	}
	c, err = parseConfig([]byte(`{"open_for":"2m","fallback":{"status":200,"headers":{"Content-Type":"application/json","x-a":"b"},"body":"{}"}}`))
	if err != nil {
		t.Fatal(err)
	}
	r := &c.reply
	if c.openForMax != 120e9 || r.status != 200 || r.body != "{}" || r.retryAfter || len(r.names) != 2 || r.values[0] != "application/json" {
		t.Errorf("%+v", c)
	}
}
