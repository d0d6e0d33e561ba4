package manifest

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// limitSchema is one with the forms that settings have.
const limitSchema = `{
	"type": "object",
	"required": ["rate"],
	"additionalProperties": false,
	"$defs": {"name": {"type": "string", "minLength": 1, "pattern": "^[a-z]+$"}},
	"properties": {
		"rate": {"type": "string", "pattern": "^[0-9]+/[smh]$", "examples": ["100/s", "30/m"]},
		"burst": {"type": "integer", "minimum": 1, "maximum": 1000},
		"share": {"type": "number", "exclusiveMinimum": 0},
		"mode": {"enum": ["enforce", "report"]},
		"key": {"anyOf": [{"$ref": "#/$defs/name"}, {"type": "array", "maxItems": 2, "uniqueItems": true, "items": {"$ref": "#/$defs/name"}}]},
		"off": {"anyOf": [{"const": false}, {"type": "string"}]},
		"exempt": {"type": "object", "additionalProperties": false, "properties": {"clients": {"type": "array", "items": {"type": "string"}}, "headers": {"type": "object"}}}
	}
}`

func TestCheck(t *testing.T) {
	s, err := Compile([]byte(limitSchema))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		settings string
		want     string // "key: text" lines
	}{
		{`{"rate":"1/s","burst":5,"mode":"report","key":["a","b"],"exempt":{"clients":["x"]}}`, ""},
		{``, `: setting "rate" is missing; for example "100/s", "30/m"`},
		{`{"raet":"1/s"}`, `: setting "rate" is missing; for example "100/s", "30/m"` + "\n" +
			`raet: setting "raet" is not in the plugin's schema; it knows burst, exempt, key, mode, off, rate, share (did you mean "rate"?)`},
		{`{"rate":"1/s","zzz":1}`, `zzz: setting "zzz" is not in the plugin's schema; it knows burst, exempt, key, mode, off, rate, share`},
		{`{"rate":"fast"}`, `rate: setting "rate" is "fast", which does not have its form; for example "100/s", "30/m"`},
		{`{"rate":5}`, `rate: setting "rate" must be a string, not a number`},
		{`{"rate":"1/s","burst":"5"}`, `burst: setting "burst" must be a whole number, not a string`},
		{`{"rate":"1/s","burst":0}`, `burst: setting "burst" is 0; the least is 1`},
		{`{"rate":"1/s","burst":1001}`, `burst: setting "burst" is 1001; the most is 1000`},
		{`{"rate":"1/s","burst":1.5}`, `burst: setting "burst" must be a whole number, not a number`},
		{`{"rate":"1/s","share":0}`, `share: setting "share" does not fit: exclusiveMinimum: got 0, want 0`},
		{`{"rate":"1/s","mode":"repotr"}`, `mode: setting "mode" is "repotr", which is not one of "enforce", "report" (did you mean "report"?)`},
		{`{"rate":"1/s","key":5}`, `key: setting "key" must be a list or a string, not a number`},
		{`{"rate":"1/s","key":""}`, `key: setting "key" is "", which does not have its form: ^[a-z]+$` + "\n" + `key: setting "key" must not be empty`},
		{`{"rate":"1/s","key":["a","B"]}`, `key[1]: setting "key[1]" is "B", which does not have its form: ^[a-z]+$`},
		{`{"rate":"1/s","key":["a","b","c"]}`, `key: setting "key" has 3 entries; the most is 2`},
		{`{"rate":"1/s","key":["a","a"]}`, `key: setting "key" has the same entry twice`},
		{`{"rate":"1/s","off":true}`, `off: setting "off" must be false or a string, not true`},
		{`{"rate":"1/s","exempt":{"client":["x"]}}`, `exempt.client: setting "exempt.client" is not in the plugin's schema; it knows clients, headers (did you mean "clients"?)`},
		{`{"rate":"1/s","exempt":{"clients":["x",1]}}`, `exempt.clients[1]: setting "exempt.clients[1]" must be a string, not a number`},
		{`not json`, `: the settings as a whole must be a table, not a string`},
		{`[1]`, `: the settings as a whole must be a table, not a list`},
		{`{"rate":"1/s","burst":1e999999999}`, `: the settings have the number 1e999999999, which is too long or too large`},
	} {
		var got []string
		for _, p := range s.Check([]byte(tt.settings)) {
			got = append(got, p.Key+": "+p.Text)
		}
		if g := strings.Join(got, "\n"); g != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.settings, g, tt.want)
		}
	}
	if got := strings.Join(s.Keys(), " "); got != "burst exempt key mode off rate share" {
		t.Errorf("Keys: %s", got)
	}
}

func TestCheckBounds(t *testing.T) {
	s, err := Compile([]byte(`{"additionalProperties":{"type":"string"}}`))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("{")
	for i := range 1000 {
		fmt.Fprintf(&b, "%q:1,", fmt.Sprint("k", i))
	}
	b.WriteString(`"last":1}`)
	if n := len(s.Check([]byte(b.String()))); n != maxProblems {
		t.Errorf("%d problems are told, want %d", n, maxProblems)
	}
	for _, p := range s.Check([]byte(`{"` + strings.Repeat("x", 1<<20) + `":1}`)) {
		if len(p.Text) > 3<<20 {
			t.Errorf("a message of %d bytes", len(p.Text))
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	double := `{"$ref":"#/$defs/a0","$defs":{`
	for i := range 15 {
		double += fmt.Sprintf(`"a%d":{"allOf":[{"$ref":"#/$defs/a%d"},{"$ref":"#/$defs/a%d"}]},`, i, i+1, i+1)
	}
	double += `"a15":{}}}`
	for _, tt := range []struct{ name, schema, want string }{
		{"nothing", ``, "not JSON"},
		{"text", `hello`, "not JSON"},
		{"a number", `5`, "not a JSON Schema"},
		{"wrong keyword value", `{"type":"strin"}`, "not a JSON Schema: at /type"},
		{"bad pattern", `{"pattern":"("}`, "not a JSON Schema"},
		{"reference outside", `{"$ref":"https://example.com/x.json"}`, "has to stay inside of it"},
		{"reference to a file", `{"$ref":"file:///etc/passwd"}`, "has to stay inside of it"},
		{"reference to nothing", `{"$ref":"#/$defs/x"}`, "not there"},
		{"unknown draft", `{"$schema":"https://example.com/schema"}`, "known are"},
		{"draft below the top", `{"properties":{"a":{"$schema":"http://json-schema.org/draft-07/schema#"}}}`, "known are"},
		{"own name", `{"properties":{"a":{"$id":"x","$ref":"#/b"}}}`, `"$id" below`},
		{"dynamic", `{"$dynamicRef":"#a"}`, "not supported"},
		{"to itself", `{"$ref":"#"}`, "refers back"},
		{"recursion", `{"properties":{"a":{"$ref":"#"}}}`, "refers back"},
		{"doubling", double, "more than 5000 values"},
		{"deep", strings.Repeat(`{"not":`, 100) + "{}" + strings.Repeat("}", 100), "nested"},
		{"large number", `{"minimum":1e999999999}`, "too long or too large"},
		{"repeats", `{"anyOf":[{},{"pattern":"` + strings.Repeat("a{1000}", 20) + `"}]}`, "too large at /anyOf/1/pattern"},
		{"nested repeats", `{"properties":{"a/b":{"pattern":"((((abcdefghijklmnop){10}){10}){10})"}}}`, "too large at /properties/a~1b/pattern"},
		{"optional repeats", `{"pattern":"(abcdefghijklmnop){0,1000}"}`, "too large at /pattern"},
		{"open repeats", `{"pattern":"(abcdefghijklmnop){1000,}"}`, "too large at /pattern"},
		{"repeats in keys", `{"patternProperties":{"(abcdefghijklmnop){1000}":{}}}`, "too large at /patternProperties"},
		{"repeats in parts", `{"allOf":[` + strings.Repeat(`{"pattern":"a{1000}"},`, 16) + `{}]}`, "too large at /allOf/"},
		{"classes", `{"allOf":[` + strings.Repeat(`{"pattern":"`+strings.Repeat(`\\pL`, 200)+`"},`, 3) + `{}]}`, "too large at /allOf/1/pattern"},
		{"many patterns", `{"allOf":[` + strings.Repeat(`{"pattern":""},`, 1500) + `{}]}`, "too large at /allOf/"},
		{"many malformed patterns", `{"allOf":[` + strings.Repeat(`{"pattern":"`+strings.Repeat(`\\pL`, 200)+`("},`, 30) + `{}]}`, "too large at /allOf/"},
		{"long pattern", `{"$defs":{"x":{"pattern":"` + strings.Repeat("a", maxPattern+1) + `"}}}`, "a pattern of 1025 bytes at /$defs/x/pattern"},
		{"long key pattern", `{"patternProperties":{"` + strings.Repeat("a", maxPattern+1) + `":{}}}`, "at /patternProperties"},
		{"long name", `{"properties":{"` + strings.Repeat("k", 128<<10) + `":{"anyOf":[` + strings.Repeat("{},", 4500) + `{}]}}}`, "too long names for so many values at /properties/kkk"},
		{"long names, deep", strings.Repeat(`{"properties":{"`+strings.Repeat("k", 4000)+`":`, 30) + `{"anyOf":[` + strings.Repeat("{},", 4500) + `{}]}` + strings.Repeat("}}", 30), "too long names"},
		{"large", `{"description":"` + strings.Repeat("x", maxManifest) + `"}`, "the most is"},
	} {
		start := time.Now()
		_, err := Compile([]byte(tt.schema))
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %q in one line", tt.name, err, tt.want)
		}
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%s: took %v", tt.name, took)
		}
	}
}

func TestCompileAccepts(t *testing.T) {
	// 50 settings that are host names, each in its own words.
	const label = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
	hosts := ""
	for i := range 50 {
		hosts += fmt.Sprintf(`"h%d":{"pattern":"^%s([.]%s)*$"},`, i, label, label)
	}
	for _, schema := range []string{
		`true`, `{}`,
		`{"properties":{"pattern":{"type":"string"},"patternProperties":{"type":"object"}}}`,
		`{"properties":{` + hosts + `"x":{}}}`,
		`{"$schema":"https://json-schema.org/draft/2020-12/schema","$id":"https://example.com/x","properties":{"$id":{"type":"string"},"$ref":{"type":"string"},"$anchor":{}}}`,
		`{"$schema":"http://json-schema.org/draft-07/schema#","definitions":{"a/b":{"type":"string"}},"properties":{"x":{"$ref":"#/definitions/a~1b"}}}`,
	} {
		if _, err := Compile([]byte(schema)); err != nil {
			t.Errorf("%s: %v", schema, err)
		}
	}
}

// What a schema near the limits costs is what the limits are for.
func TestCompileCost(t *testing.T) {
	for _, list := range []string{
		strings.Repeat(`{"pattern":"`+strings.Repeat("a{1000}", 3)+`"},`, 5),
		strings.Repeat(`{"pattern":"(a?){990}"},`, 3),
		strings.Repeat(`{"pattern":"`+strings.Repeat(`\\pL`, 180)+`"},`, 2),
		strings.Repeat(`{"pattern":"(?i)[a-z\\pL]{300}"},`, 1),
		strings.Repeat(`{"pattern":"a|b"},`, 900),
		`{"properties":{"` + strings.Repeat("k", 1000) + `":{"anyOf":[` + strings.Repeat("{},", 1900) + `{}]}}},`,
		`{"anyOf":[` + strings.Repeat("{},", 2000) + `{}]},`,
	} {
		var a, b runtime.MemStats
		runtime.ReadMemStats(&a)
		start := time.Now()
		s, err := Compile([]byte(`{"$schema":"http://json-schema.org/draft-07/schema#","allOf":[` + list + `{}]}`))
		took := time.Since(start)
		if err != nil {
			t.Errorf("%.50s: %v", list, err)
			continue
		}
		s.Check([]byte(`"` + strings.Repeat("a", 1<<10) + `"`))
		runtime.ReadMemStats(&b)
		if n := (b.TotalAlloc - a.TotalAlloc) >> 20; n > 64 || took > 30*time.Second {
			t.Errorf("%.50s: %d MiB, %v", list, n, took)
		}
	}
}

// What a schema has in it does nothing to the terminal on which problems are read.
func TestHostileSchema(t *testing.T) {
	const evil = `\u001b[2J]\u202e\u007f\n\u009b31m`
	s, err := Compile([]byte(`{"additionalProperties":false,"required":["` + evil + `"],"properties":{
		"` + evil + `":{"examples":["` + evil + `"]},
		"pattern":{"pattern":"^` + evil + `$"},
		"enum":{"enum":["` + evil + `"]},
		"const":{"const":"` + evil + `"},
		"format":{"dependentSchemas":{"x":{"required":["` + evil + `"]}}},
		"names":{"propertyNames":{"pattern":"` + evil + `"}}
	}}`))
	if err != nil {
		t.Fatal(err)
	}
	problems := s.Check([]byte(`{"z":1,"pattern":"q","enum":"q","const":"q","format":{"x":1},"names":{"q":1}}`))
	if len(problems) < 6 {
		t.Fatalf("%d problems: %q", len(problems), problems)
	}
	for _, p := range problems {
		if strings.ContainsFunc(p.Text, notPrintable) {
			t.Errorf("%q", p.Text)
		}
	}
	if text := problems[len(problems)-1].Text; !strings.Contains(text, `it knows "\x1b[2J]\u202e\x7f\n\u009b31m", const, `) {
		t.Errorf("a name is not quoted: %q", text)
	}
	for _, schema := range []string{
		`{"properties":{"` + evil + `":{"type":"` + evil + `"}}}`,
		`{"properties":{"` + evil + `":{"pattern":"` + evil + `("}}}`,
		`{"properties":{"` + evil + `":{"pattern":"a{1000}{1000}"}}}`,
		`{"properties":{"` + evil + `":{"pattern":"` + strings.Repeat("a{1000}", 20) + `"}}}`,
		`{"$ref":"#/` + evil + `"}`, `{"$ref":"` + evil + `"}`, `{"$schema":"` + evil + `"}`,
	} {
		if _, err := Compile([]byte(schema)); err == nil || strings.ContainsFunc(err.Error(), notPrintable) {
			t.Errorf("%s: error %q", schema, err)
		}
	}
}

// Of many names some are shown.
func TestCheckManyNames(t *testing.T) {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, `"k%d":{},`, i)
	}
	s, err := Compile([]byte(`{"additionalProperties":false,"properties":{` + b.String() + `"` + strings.Repeat("a", 10_000) + `":{}}}`))
	if err != nil {
		t.Fatal(err)
	}
	problems := s.Check([]byte(`{"other":1}`))
	if len(problems) != 1 || len(problems[0].Text) > 2000 || !strings.HasSuffix(problems[0].Text, " and 951 more") {
		t.Errorf("got %d problems: %.3000q", len(problems), problems)
	}
}
