package settings_test

import (
	"slices"
	"testing"

	"wproxy/plugins/internal/settings"
)

// read asks for one key of each type.
func read(doc string) (string, error) {
	t, err := settings.New([]byte(doc))
	if err != nil {
		return "", err
	}
	out := t.Text("text", "none") + "," + t.Choice("choice", "red", "red", "green", "blue")
	if t.Flag("flag", false) {
		out += ",flag"
	}
	for range t.Whole("whole", 0, 0, 5) {
		out += ",1"
	}
	for _, s := range t.Texts("texts") {
		out += "," + s
	}
	in := t.Table("table")
	out += "," + in.Text("inner", "")
	if err := in.Done(); err != nil {
		return out, err
	}
	return out, t.Done()
}

func TestTable(t *testing.T) {
	for _, tc := range []struct{ doc, want string }{
		{``, "none,red,"},
		{`null`, "none,red,"},
		{`{}`, "none,red,"},
		{`{"text":null}`, "none,red,"},
		{`{"text":"a","choice":"blue","flag":true,"whole":2,"texts":["x","y"],"table":{"inner":"z"}}`, "a,blue,flag,1,1,x,y,z"},
		{`{"texts":"x"}`, "none,red,x,"},
	} {
		got, err := read(tc.doc)
		if err != nil || got != tc.want {
			t.Errorf("%s: got %q, %v, want %q", tc.doc, got, err, tc.want)
		}
	}
}

func TestTableMistakes(t *testing.T) {
	for _, tc := range []struct{ doc, want string }{
		{`[]`, `settings are not valid JSON: settings must be a table, not a list at byte 0`},
		{`{"text":1}`, `setting "text": must be a string, not a number`},
		{`{"flag":"true"}`, `setting "flag": must be a boolean, not a string`},
		{`{"choice":"gren"}`, `setting "choice": "gren" is not one of red, green, blue (did you mean "green"?)`},
		{`{"choice":"yellow ochre"}`, `setting "choice": "yellow ochre" is not one of red, green, blue`},
		{`{"whole":6}`, `setting "whole": 6 is not a whole number from 0 to 5`},
		{`{"whole":-1}`, `setting "whole": -1 is not a whole number from 0 to 5`},
		{`{"whole":1.0}`, `setting "whole": 1.0 is not a whole number from 0 to 5`},
		{`{"whole":99999999999999999999}`, `setting "whole": 99999999999999999999 is not a whole number from 0 to 5`},
		{`{"texts":[1]}`, `setting "texts": must be a string or a list of strings`},
		{`{"table":"x"}`, `setting "table": must be a table, not a string`},
		{`{"table":{"iner":"x"}}`, `setting "table.iner": unknown (did you mean "inner"?)`},
		{`{"tetx":"x"}`, `setting "tetx": unknown (did you mean "text"?)`},
		{`{"something-else":"x"}`, `setting "something-else": unknown; known are choice, flag, table, text, texts, whole`},
		// The first mistake is the one that is reported.
		{`{"whole":9,"text":1}`, `setting "text": must be a string, not a number`},
	} {
		_, err := read(tc.doc)
		if err == nil || err.Error() != tc.want {
			t.Errorf("%s:\n got %v\nwant %s", tc.doc, err, tc.want)
		}
	}
}

func TestNames(t *testing.T) {
	table, err := settings.New([]byte(`{"b":1,"a":2}`))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := table.Names(), []string{"b", "a"}; !slices.Equal(got, want) {
		t.Errorf("Names: got %q, want %q", got, want)
	}
	if err := table.Done(); err != nil {
		t.Errorf("Done after Names: %v", err)
	}
}

func TestSeconds(t *testing.T) {
	for _, tc := range []struct {
		text string
		want int64
		ok   bool
	}{
		{"0s", 0, true},
		{"1s", 1, true},
		{"1h30m", 5400, true},
		{"180d", 180 * 86400, true},
		{"2w", 14 * 86400, true},
		{"1y", 31536000, true},
		{"1000y", 1000 * 31536000, true},
		{"1001y", 0, false},
		{"99999999999y", 0, false},
		{"", 0, false},
		{"1", 0, false},
		{"s", 0, false},
		{"-1s", 0, false},
		{"1.5h", 0, false},
		{"1 h", 0, false},
		{"1ms", 0, false},
	} {
		if got, ok := settings.Seconds(tc.text); got != tc.want || ok != tc.ok {
			t.Errorf("Seconds(%q): got %d, %t, want %d, %t", tc.text, got, ok, tc.want, tc.ok)
		}
	}
}

func TestIsToken(t *testing.T) {
	for text, want := range map[string]bool{
		"x-Header_1": true, "!#$%&'*+-.^_`|~": true, "": false, "a b": false, "a:b": false, "é": false, "a\x00": false, "a\"": false,
	} {
		if got := settings.IsToken(text); got != want {
			t.Errorf("IsToken(%q): got %t", text, got)
		}
	}
}
