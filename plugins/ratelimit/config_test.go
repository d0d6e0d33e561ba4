package main

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseConfig(t *testing.T) {
	for _, tc := range []struct {
		doc  string
		want config
	}{
		{`{"rate":"100/s"}`, config{
			limit: limit{interval: 1e7, burst: 100, cost: 1}, quota: 100, window: 1,
			parts: []part{{kind: byClient, bits: 64}}, missing: missingShare, status: 429, body: "Too many requests.\n",
			policyField: `"default";q=100;w=1`,
		}},
		{`{"rate":"7/m","burst":2,"key":["header:X-Key","host"],"scope":"plugin","mode":"report","on_missing_key":"deny","status":503,"body":"no","cost":2,"algorithm":"token-bucket"}`, config{
			limit: limit{interval: 8571428572, burst: 2, cost: 2}, quota: 7, window: 60,
			parts: []part{{kind: byHeader, name: "x-key"}, {kind: byHost}}, scopePlugin: true, report: true, missing: missingDeny,
			status: 503, body: "no", policyField: `"default";q=7;w=60;burst=2`,
		}},
		{`{"rate":"10/s","algorithm":"leaky-bucket","max_delay":"2.5s","burst":3}`, config{
			limit: limit{interval: 1e8, burst: 28, cost: 1}, algorithm: leakyBucket, undelayed: 3, quota: 10, window: 1,
			parts: []part{{kind: byClient, bits: 64}}, missing: missingShare, status: 429, body: "Too many requests.\n", policyField: `"default";q=10;w=1`,
		}},
		{`{"rate":"10/m","algorithm":"sliding-window","cost":2,"concurrency":4}`, config{
			limit: limit{interval: 6e9, burst: 10, cost: 2}, algorithm: slidingWindow, quota: 10, window: 60, concurrency: 4,
			parts: []part{{kind: byClient, bits: 64}}, missing: missingShare, status: 429, body: "Too many requests.\n", policyField: `"default";q=10;w=60`,
		}},
		{`{"rate":"10/m","cost":"header:X-Cost"}`, config{
			limit: limit{interval: 6e9, burst: 10, cost: 1}, costField: "x-cost", quota: 10, window: 60,
			parts: []part{{kind: byClient, bits: 64}}, missing: missingShare, status: 429, body: "Too many requests.\n", policyField: `"default";q=10;w=60`,
		}},
		{`{"concurrency":7,"key":"global"}`, config{
			unrated: true, concurrency: 7, parts: []part{{kind: byGlobal}}, missing: missingShare, status: 429, body: "Too many requests.\n",
		}},
		{`{"rate":"1/h","key":"global"}`, config{
			limit: limit{interval: 3600e9, burst: 1, cost: 1}, quota: 1, window: 3600,
			parts: []part{{kind: byGlobal}}, missing: missingShare, status: 429, body: "Too many requests.\n",
			policyField: `"default";q=1;w=3600`,
		}},
	} {
		got, err := parseConfig([]byte(tc.doc))
		if err != nil {
			t.Errorf("%s: %v", tc.doc, err)
			continue
		}
		if !reflect.DeepEqual(*got, tc.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", tc.doc, *got, tc.want)
		}
	}
}

// refused are settings that the plugin does not take, with a part of what it says.
var refused = []struct{ doc, want string }{
	{``, `setting "rate": is missing`},
	{`{"rate":100}`, `setting "rate": must be a string`},
	{`{"rate":"100"}`, `setting "rate": "100" is not a rate`},
	{`{"rate":"0/s"}`, `setting "rate": "0/s" is not a rate`},
	{`{"rate":"-1/s"}`, `is not a rate`},
	{`{"rate":"+1/s"}`, `is not a rate`},
	{`{"rate":"1.5/s"}`, `is not a rate`},
	{`{"rate":"1/d"}`, `is not a rate`},
	{`{"rate":"/s"}`, `is not a rate`},
	{`{"rate":"1000001/s"}`, `setting "rate": "1000001/s" is more than 1000000 a second`},
	{`{"rate":"9223372036854775807/s"}`, `is more than 1000000 a second`},
	{`{"rate":"99999999999999999999/s"}`, `is not a rate`},
	{`{"rate":"1/s","burst":0}`, `setting "burst": 0 is not a whole number from 1`},
	{`{"rate":"1/h","burst":1000000}`, `setting "burst": takes more than a year`},
	{`{"rate":"1/s","cost":2}`, `setting "cost": is more than burst`},
	{`{"rate":"1/s","cost":"x-cost"}`, `setting "cost": must be a number, or "header:" with the name of a header, not "x-cost"`},
	{`{"rate":"1/s","cost":"header:a b"}`, `setting "cost": must be a number, or "header:"`},
	{`{"rate":"1/s","algorithm":"leaky-bucket","cost":"header:x"}`, `setting "cost": that the response names is for token-bucket only`},
	{`{"rate":"1/s","key":"client_ip"}`, `setting "key": "client_ip" is not a key`},
	{`{"rate":"1/s","key":"header:"}`, `setting "key": "" is not the name of a header`},
	{`{"rate":"1/s","key":"client-ip/129"}`, `setting "key": "client-ip/129" needs a prefix length`},
	{`{"rate":"1/s","key":["host","body:x"]}`, `setting "key": "body:x" is not a key`},
	{`{"rate":"1/s","algorithm":"magic"}`, `setting "algorithm": "magic" is not one of token-bucket, leaky-bucket, sliding-window`},
	{`{"rate":"1/s","algorithm":"sliding-window","burst":5}`, `setting "burst": is not for sliding-window`},
	{`{"rate":"5/s","algorithm":"sliding-window","cost":6}`, `setting "cost": is more than burst, 5`},
	{`{"concurrency":0}`, `setting "concurrency": 0 is not a whole number from 1`},
	{`{"concurrency":5,"burst":5}`, `setting "burst": needs a rate`},
	{`{"concurrency":5,"algorithm":"leaky-bucket"}`, `setting "algorithm": needs a rate`},
	{`{"rate":"1/s","store":"main"}`, `setting "store": not available in this version`},
	{`{"rate":"1/s","max_delay":"1s"}`, `setting "max_delay": is for leaky-bucket only`},
	{`{"rate":"1/s","algorithm":"leaky-bucket","max_delay":""}`, `setting "max_delay": "" is not a length of time`},
	{`{"rate":"1/s","algorithm":"leaky-bucket","max_delay":"1"}`, `setting "max_delay": "1" is not a length of time`},
	{`{"rate":"1/s","algorithm":"leaky-bucket","max_delay":"2h"}`, `setting "max_delay": "2h" is not between`},
	{`{"rate":"1/s","status":200}`, `setting "status": 200 is not a whole number from 400 to 599`},
	{`{"rate":"1/s","mode":"dry-run"}`, `setting "mode": "dry-run" is not one of enforce, report`},
	{`{"rate":"1/s","on_missing_key":"block"}`, `setting "on_missing_key": "block" is not one of share, allow, deny`},
	{`{"rate":"1/s","scope":"routes"}`, `setting "scope": "routes" is not one of route, plugin (did you mean "route"?)`},
	{`{"rate":"1/s","exempt":["10.0.0.0/8"]}`, `setting "exempt": must be a table, not a list`},
	{`{"rate":"1/s","exempt":{"client":"10.0.0.0/8"}}`, `setting "exempt.client": unknown (did you mean "clients"?)`},
	{`{"rate":"1/s","exempt":{"clients":"10.0.0.0/33"}}`, `setting "exempt.clients": "10.0.0.0/33" is not an address or a network`},
	{`{"rate":"1/s","exempt":{"headers":{"x-plan":false}}}`, `setting "exempt.headers.x-plan": must be a string`},
	{`{"rate":"1/s","exempt":{"headers":{"x plan":"a"}}}`, `setting "exempt.headers.x plan": is not the name of a header`},
	{`{"rate":"1/s","body":"` + strings.Repeat("x", maxBody+1) + `"}`, `setting "body": is longer than`},
	{`{"rate":"1/s","brust":5}`, `setting "brust": unknown (did you mean "burst"?)`},
	{`{"rate":"1/s"`, `not valid JSON`},
}

func TestParseConfigRefuses(t *testing.T) {
	for _, tc := range refused {
		_, err := parseConfig([]byte(tc.doc))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%.80s:\n got %v\nwant %s", tc.doc, err, tc.want)
		}
	}
}

// TestIntervalNeverTooShort: rounding must not make a bucket fill faster than the rate.
func TestIntervalNeverTooShort(t *testing.T) {
	for _, rate := range []string{"1/s", "3/s", "7/s", "999999/s", "1000000/s", "11/m", "13/h", "3600000001/h"} {
		c, err := parseConfig([]byte(`{"rate":"` + rate + `","burst":1}`))
		if err != nil {
			if rate == "3600000001/h" {
				continue // above the most
			}
			t.Errorf("%s: %v", rate, err)
			continue
		}
		if c.interval*c.quota < c.window*1e9 {
			t.Errorf("%s: %d tokens take %d ns, less than %ds", rate, c.quota, c.interval*c.quota, c.window)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"rate":"100/s","burst":50,"key":["client-ip/64","header:x"],"exempt":{"clients":["10.0.0.0/8"],"headers":{"x":true}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseConfig(data)
		if err != nil {
			return
		}
		if c.interval < 1 || c.burst < 1 || c.cost < 1 || c.cost > c.burst || c.capacity() > maxFill || len(c.parts) == 0 {
			t.Errorf("%s gave %+v", data, c)
		}
	})
}
