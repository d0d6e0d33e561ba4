package config

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

var securityRow = regexp.MustCompile("(?m)^\\| `((?:listeners|routes|upstreams|plugins|admin|server|log)\\.[A-Za-z_.]+)` \\| `([^`]*)` \\|")

// TestSecurityDefaults: the limits of docs/security.md that are keys of the file have the
// defaults that the page says.
func TestSecurityDefaults(t *testing.T) {
	b, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string]reflect.Type{}
	tablesOf(reflect.TypeFor[File](), "", tables)
	rows := securityRow.FindAllStringSubmatch(string(b), -1)
	if len(rows) < 25 {
		t.Fatalf("only %d keys", len(rows))
	}
	for _, row := range rows {
		at := strings.LastIndexByte(row[1], '.')
		typ := tables[row[1][:at]]
		if typ == nil {
			t.Errorf("%s: there is no table %s", row[1], row[1][:at])
			continue
		}
		i := fieldOf(typ, row[1][at+1:])
		if i < 0 {
			t.Errorf("there is no key %s", row[1])
			continue
		}
		if _, fallback := describeField(typ.Field(i)); strings.Trim(fallback, "`") != row[2] {
			t.Errorf("the default of %s is %s, the page says %s", row[1], fallback, row[2])
		}
	}
}
