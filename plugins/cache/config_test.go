package main

import (
	"strings"
	"testing"
)

// refused are settings that are wrong, and parts of what is said.
var refused = []struct{ doc, want string }{
	{`{"max_object":"16MB"}`, `"max_object": must be a number of bytes`},
	{`{"max_object":0}`, `"max_object": must be a number of bytes`},
	{`{"max_size":"1KiB","max_object":"2KiB"}`, `"max_object": is more than max_size`},
	{`{"default_ttl":"10"}`, `"default_ttl": "10" is not a time`},
	{`{"default_ttl":""}`, `"default_ttl": "" is not a time`},
	{`{"default_ttl":10}`, `"default_ttl": must be a string`},
	{`{"key":"host"}`, `"key": "host" is neither header:NAME nor cookie:NAME`},
	{`{"key":["header:a b"]}`, `"key"`},
	{`{"bypass_headers":["a:b"]}`, `"bypass_headers": "a:b" is not the name of a header`},
	{`{"client_cache_control":"maybe"}`, `"client_cache_control"`},
	{`{"name":"a b"}`, `"name": "a b" is not a token`},
	{`{"purge_clients":"nobody"}`, `"purge_clients": "nobody" is not an address`},
	{`{"collapse":"yes"}`, `"collapse": must be a boolean`},
	{`{"max_objects":1}`, `"max_objects": unknown (did you mean "max_object"?)`},
	{`[]`, "must be a table"},
}

func TestConfigRefuses(t *testing.T) {
	for _, tc := range refused {
		if _, err := parseConfig([]byte(tc.doc)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %s", tc.doc, err, tc.want)
		}
	}
}

func TestConfig(t *testing.T) {
	c, err := parseConfig([]byte(`{"max_object":"2MiB","max_size":4194304,"default_ttl":"1h30m","key":["header:X-A","cookie:c"],
		"bypass_headers":[],"purge_clients":["10.0.0.0/8","::1"],"tag_headers":"X-Tags","stale_if_error":"0"}`))
	if err != nil {
		t.Fatal(err)
	}
	if c.maxObject != 2<<20 || c.maxSize != 4<<20 || c.defaultTTL != 5400 || len(c.key) != 2 || c.key[0].name != "x-a" || !c.key[1].cookie ||
		len(c.bypass) != 0 || len(c.purgers) != 2 || c.tags[0] != "x-tags" || !c.collapse || c.honour || c.name != "wproxy" {
		t.Errorf("got %+v", c)
	}
}
