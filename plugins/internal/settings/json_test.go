package settings_test

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"

	"wproxy/plugins/internal/settings"
)

// plain turns a Value into what encoding/json would have made of it.
func plain(v settings.Value) any {
	switch v.Kind {
	case settings.Null:
		return nil
	case settings.Bool:
		return v.True
	case settings.Number:
		return json.Number(v.Text)
	case settings.String:
		return v.Text
	case settings.List:
		l := []any{}
		for _, i := range v.Items {
			l = append(l, plain(i))
		}
		return l
	case settings.Object:
		m := map[string]any{}
		for _, i := range v.Members {
			m[i.Name] = plain(i.Value)
		}
		return m
	}
	panic("unknown kind " + strconv.Itoa(int(v.Kind)))
}

func TestParse(t *testing.T) {
	for _, doc := range []string{
		`{}`, ` { } `, `[]`, `null`, `true`, `false`, `0`, `-0`, `12`, `-1.5e+10`, `1E5`, `""`, `"a"`,
		`{"a":1,"b":[1,2,{"c":null}],"":"empty name"}`, "\t{\"a\" :\r\n[ 1 , 2 ] }",
		`"\"\\\/\b\f\n\r\t"`, `"\u00e9\u20AC"`, `"\ud83d\ude00"`, `"é€😀"`, `"\u0000"`,
		strings.Repeat("[", 16) + strings.Repeat("]", 16),
	} {
		v, err := settings.Parse([]byte(doc))
		if err != nil {
			t.Errorf("Parse(%s): %v", doc, err)
			continue
		}
		got, err := json.Marshal(plain(v))
		if err != nil {
			t.Fatal(err)
		}
		if want := canonical(t, doc); string(got) != want {
			t.Errorf("Parse(%s): got %s, want %s", doc, got, want)
		}
	}
}

// canonical is doc as encoding/json reads and writes it.
func canonical(t *testing.T, doc string) string {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(doc))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("encoding/json refuses %s: %v", doc, err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct {
		doc    string
		offset int
		part   string // of the problem
	}{
		{``, 0, "ends early"},
		{`  `, 2, "ends early"},
		{`{`, 1, "name in quotes"},
		{`{"a"`, 4, "':'"},
		{`{"a":`, 5, "ends early"},
		{`{"a":1`, 6, "',' or '}'"},
		{`{"a":1,}`, 7, "name in quotes"},
		{`{a:1}`, 1, "name in quotes"},
		{`{"a":1,"a":2}`, 7, `"a" appears twice`},
		{`{"a":1,"\u0061":2}`, 7, `"a" appears twice`},
		{`[1,]`, 3, "no value"},
		{`[1 2]`, 3, "',' or ']'"},
		{`1 2`, 2, "something follows"},
		{`01`, 0, "not a number"},
		{`-`, 0, "not a number"},
		{`1.`, 0, "not a number"},
		{`1e`, 0, "not a number"},
		{`.5`, 0, "no value"},
		{`+1`, 0, "no value"},
		{`NaN`, 0, "no value"},
		{`tru`, 0, "no value"},
		{`nul`, 0, "no value"},
		{`"a`, 2, "inside a string"},
		{`"\`, 1, "escape"},
		{`"\x"`, 1, "escape"},
		{`"\u12"`, 1, "escape"},
		{`"\ud800"`, 1, "surrogate"},
		{`"\ud800\u0041"`, 1, "surrogate"},
		{`"\udc00"`, 1, "surrogate"},
		{"\"\n\"", 1, "control"},
		{"\"\x00\"", 1, "control"},
		{"\"\xff\"", 1, "UTF-8"},
		{"\"\xed\xa0\x80\"", 1, "UTF-8"},
		{"\x00", 0, "no value"},
		{strings.Repeat("[", 17), 16, "nested deeper"},
		{"[" + strings.Repeat("0,", 16<<10) + "0]", -1, "more than 16384 values"},
		{`"` + strings.Repeat("a", 256<<10) + `"`, 0, "more than 262144 bytes"},
	} {
		name := tc.doc
		if len(name) > 40 {
			name = name[:40] + "..."
		}
		_, err := settings.Parse([]byte(tc.doc))
		var se *settings.SyntaxError
		if !errors.As(err, &se) {
			t.Errorf("Parse(%q): got %v, want a SyntaxError", name, err)
			continue
		}
		if (tc.offset >= 0 && se.Offset != tc.offset) || !strings.Contains(se.Problem, tc.part) {
			t.Errorf("Parse(%q): got %q at %d, want %q at %d", name, se.Problem, se.Offset, tc.part, tc.offset)
		}
	}
}

// TestParseTruncated cuts a document at every length: none of the parts is a document.
func TestParseTruncated(t *testing.T) {
	doc := `{"a":[1,-2.5e3,"\u00e9\ud83d\ude00",true,null],"b":{"c":"d"}}`
	for n := range len(doc) {
		if _, err := settings.Parse([]byte(doc[:n])); err == nil {
			t.Errorf("Parse(%q): no error", doc[:n])
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"rate":"100/s","burst":50,"key":["client-ip/64","header:x"],"exempt":{"clients":["10.0.0.0/8"]}}`))
	f.Add([]byte(`{"a":"\ud83d\ude00","b":[1e5,-0.1,true,false,null]}`))
	f.Add([]byte("[[[[\"\xff\"]]]]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := settings.Parse(data)
		if err != nil {
			return // it may refuse what encoding/json takes, not the other way round
		}
		if !json.Valid(data) {
			t.Fatalf("took %q, which is not JSON", data)
		}
		got, err := json.Marshal(plain(v))
		if err != nil {
			t.Fatal(err)
		}
		if want := canonical(t, string(data)); string(got) != want {
			t.Fatalf("%q: got %s, want %s", data, got, want)
		}
	})
}
