package main

import (
	"strings"

	"wproxy/abi"
	"wproxy/plugins/internal/ipaddr"
	"wproxy/plugins/internal/settings"
)

// config is the plugin's settings, checked. Times are in seconds.
type config struct {
	key          []keyPart
	bypass       []string // request fields with which nothing is cached, and that are not in key
	bypassMarks  uint64   // of them, as in head
	maxObject    int64    // bytes
	maxSize      int64    // bytes
	defaultTTL   int64
	maxTTL       int64 // 0: none
	negative     int64
	stale        int64
	onError      int64
	heuristic    bool
	cdn          bool
	honour       bool // the client's Cache-Control
	collapse     bool
	storeCookies bool
	tags         []string
	tagMarks     uint64 // of them, as in head
	status       bool
	name         string // in Cache-Status
	hit, miss    string // what it begins with for a hit, and says of a miss
	purgers      []ipaddr.Prefix

	// What most answers from upstreams get as Cache-Status, as an edit that is encoded.
	missEdit, storedEdit []byte
	lately               lately

	// What every model has; see there.
	refusal    abi.ObjectModel // what is said with a pass
	noModels   bool            // the host takes none
	repeats    bool            // it repeats answers
	modelSame  []string
	modelEdits []abi.FieldEdit
}

// defaultBypass are fields by which known frameworks take another path, host, scheme or
// method than the one that was asked for: an answer to them must not be stored for those
// who do not send them.
var defaultBypass = []string{
	"x-original-url", "x-rewrite-url", "x-original-host", "x-host", "x-forwarded-server", "x-forwarded-scheme",
	"x-forwarded-prefix", "x-forwarded-path", "x-http-method-override", "x-http-method", "x-method-override",
}

// parseConfig checks the plugin's settings, a JSON object. The error names the key.
func parseConfig(data []byte) (*config, error) {
	t, err := settings.New(data)
	if err != nil {
		return nil, err
	}
	c := &config{}
	for _, text := range t.Texts("key") {
		p, ok := parsePart(text)
		if !ok {
			t.Fail("key", settings.Quote(text)+" is neither header:NAME nor cookie:NAME")
		}
		c.key = append(c.key, p)
	}
	c.bypass = c.notKeyed(names(t, "bypass_headers", defaultBypass))
	c.bypassMarks = marks(c.bypass...)
	c.maxObject = size(t, "max_object", 16<<20)
	c.maxSize = size(t, "max_size", 256<<20)
	c.defaultTTL = seconds(t, "default_ttl")
	c.maxTTL = seconds(t, "max_ttl")
	c.negative = seconds(t, "negative_ttl")
	c.stale = seconds(t, "stale_while_revalidate")
	c.onError = seconds(t, "stale_if_error")
	c.heuristic = t.Flag("heuristic", true)
	c.cdn = t.Flag("cdn_cache_control", true)
	c.honour = t.Choice("client_cache_control", "ignore", "ignore", "honour") == "honour"
	c.collapse = t.Flag("collapse", true)
	c.storeCookies = t.Flag("store_set_cookie", false)
	c.tags = names(t, "tag_headers", []string{"cache-tag", "surrogate-key"})
	c.tagMarks = marks(c.tags...)
	c.status = t.Flag("cache_status", true)
	c.name = t.Text("name", "wproxy")
	if !settings.IsToken(c.name) {
		t.Fail("name", settings.Quote(c.name)+" is not a token, as Cache-Status needs it")
	}
	c.hit, c.miss = c.name+"; hit; ttl=", c.name+"; fwd=uri-miss"
	stored := []abi.FieldEdit{{Op: abi.FieldSet, Name: "cache-status", Value: c.miss + storedMark}}
	c.missEdit, c.storedEdit = statusEdit(c.miss), abi.AppendFieldEdits(nil, abi.MapResponseHeaders, stored)
	c.refusal = refusal()
	if c.modelSame = c.sameOfModels(); c.status {
		c.modelEdits = stored
	}
	for _, text := range t.Texts("purge_clients") {
		p, ok := ipaddr.ParsePrefix(text)
		if !ok {
			t.Fail("purge_clients", settings.Quote(text)+" is not an address or a network such as 10.0.0.0/8")
		}
		c.purgers = append(c.purgers, p)
	}
	if c.maxObject > c.maxSize {
		t.Fail("max_object", "is more than max_size")
	}
	if err := t.Done(); err != nil {
		return nil, err
	}
	return c, nil
}

// statusEdit returns the edit that sets Cache-Status of a response, encoded.
func statusEdit(value string) []byte {
	return abi.AppendFieldEdits(nil, abi.MapResponseHeaders, []abi.FieldEdit{{Op: abi.FieldSet, Name: "cache-status", Value: value}})
}

// names reads a list of field names.
func names(t *settings.Table, key string, missing []string) []string {
	if v, ok := t.Value(key); !ok || v.Kind == settings.Null {
		return missing
	}
	var out []string
	for _, text := range t.Texts(key) {
		if !settings.IsToken(text) {
			t.Fail(key, settings.Quote(text)+" is not the name of a header")
		}
		out = addName(out, settings.Lower(text))
	}
	return out
}

// seconds reads a length of time; 0 if it is not there.
func seconds(t *settings.Table, key string) int64 {
	text := t.Text(key, "0")
	if text == "0" {
		return 0
	}
	n, ok := settings.Seconds(text)
	if !ok {
		t.Fail(key, settings.Quote(text)+` is not a time such as "30s", "10m" or "1d"`)
	}
	return min(n, maxSeconds)
}

// size reads a number of bytes, such as 1048576, "64KiB", "16MiB" or "1GiB".
func size(t *settings.Table, key string, missing int64) int64 {
	v, ok := t.Value(key)
	if !ok {
		return missing
	}
	text, unit := v.Text, int64(1)
	if v.Kind == settings.String {
		for i, suffix := range [...]string{"KiB", "MiB", "GiB"} {
			if rest, ok := strings.CutSuffix(text, suffix); ok {
				text, unit = rest, 1<<(10*(i+1))
				break
			}
		}
	}
	n, ok := number(text)
	if !ok || n == 0 || n > (1<<40)/unit {
		t.Fail(key, `must be a number of bytes such as 65536, "64KiB" or "16MiB", at most 1 TiB`)
		return missing
	}
	return n * unit
}

// purges reports whether anybody may purge by request.
func (c *config) purges() bool { return len(c.purgers) > 0 }

// mayPurge reports whether a client may.
func (c *config) mayPurge(a ipaddr.Addr) bool { //nolint:unused // by main.go, which is for guests
	for _, p := range c.purgers {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
