package settings

import (
	"slices"
	"strconv"
	"strings"
)

// An Error says what is wrong with a setting.
type Error struct {
	Key     string // as the user wrote it, with the tables it is in: exempt.client
	Problem string
}

func (e *Error) Error() string { return "setting " + Quote(e.Key) + ": " + e.Problem }

// A Table is an object of settings being read. Each method asks for one key and checks
// it; after the first mistake the methods return the default and the mistake is
// kept for Done. Tables are read by one goroutine.
//
// Methods that would be put in line are not: a guest is 10 KB smaller for it.
type Table struct {
	prefix  string // of the keys in errors: "" or "exempt."
	members []Member
	asked   []string
	err     *error // shared with the tables inside
}

// New returns the table in a document; an empty document is an empty table.
func New(data []byte) (*Table, error) {
	t := &Table{err: new(error)}
	if len(data) == 0 {
		return t, nil
	}
	v, err := Parse(data)
	switch {
	case err != nil:
		return nil, err
	case v.Kind == Null:
		return t, nil
	case v.Kind != Object:
		return nil, &SyntaxError{0, "settings must be a table, not " + v.Kind.String()}
	}
	t.members = v.Members
	return t, nil
}

// Done returns the first mistake: one that a method found, or a key that was never
// asked for.
func (t *Table) Done() error {
	if *t.err != nil {
		return *t.err
	}
	for _, m := range t.members {
		if slices.Contains(t.asked, m.Name) {
			continue
		}
		problem := "unknown"
		if near := nearest(m.Name, t.asked); near != "" {
			problem += " (did you mean " + Quote(near) + "?)"
		} else {
			known := Sort(slices.Clone(t.asked))
			problem += "; known are " + strings.Join(known, ", ")
		}
		return &Error{t.prefix + m.Name, problem}
	}
	return nil
}

// Fail records a mistake in the value of key, unless there is one already.
//
//go:noinline
func (t *Table) Fail(key, problem string) {
	if *t.err == nil {
		*t.err = &Error{t.prefix + key, problem}
	}
}

// Keep records the mistake that Done of a table inside has returned, unless there is one
// already.
func (t *Table) Keep(err error) {
	if *t.err == nil {
		*t.err = err
	}
}

// Value returns the value of key, and whether there is one. A null counts as none.
//
//go:noinline
func (t *Table) Value(key string) (Value, bool) {
	t.asked = append(t.asked, key)
	for i := range t.members {
		if t.members[i].Name == key {
			v := t.members[i].Value
			return v, v.Kind != Null
		}
	}
	return Value{}, false
}

// kind returns the value of key if it is of kind k; anything else is a mistake.
func (t *Table) kind(key string, k Kind) (Value, bool) {
	v, ok := t.Value(key)
	if !ok {
		return v, false
	}
	if v.Kind != k {
		t.Fail(key, "must be "+k.String()+", not "+v.Kind.String())
		return v, false
	}
	return v, true
}

// Text returns a string.
//
//go:noinline
func (t *Table) Text(key, missing string) string {
	if v, ok := t.kind(key, String); ok {
		return v.Text
	}
	return missing
}

// Choice returns a string that is one of choices.
func (t *Table) Choice(key, missing string, choices ...string) string {
	v, ok := t.kind(key, String)
	if !ok {
		return missing
	}
	if !slices.Contains(choices, v.Text) {
		problem := Quote(v.Text) + " is not one of " + strings.Join(choices, ", ")
		if near := nearest(v.Text, choices); near != "" {
			problem += " (did you mean " + Quote(near) + "?)"
		}
		t.Fail(key, problem)
		return missing
	}
	return v.Text
}

// Flag returns a boolean.
//
//go:noinline
func (t *Table) Flag(key string, missing bool) bool {
	if v, ok := t.kind(key, Bool); ok {
		return v.True
	}
	return missing
}

// Whole returns a whole number between least and most.
func (t *Table) Whole(key string, missing, least, most int64) int64 {
	v, ok := t.kind(key, Number)
	if !ok {
		return missing
	}
	n, whole := Int(v.Text)
	if !whole || n < least || n > most {
		t.Fail(key, v.Text+" is not a whole number from "+strconv.FormatInt(least, 10)+" to "+strconv.FormatInt(most, 10))
		return missing
	}
	return n
}

// Texts returns a list of strings; one string alone is a list of one.
func (t *Table) Texts(key string) []string {
	v, ok := t.Value(key)
	if !ok {
		return nil
	}
	list, ok := v.Texts()
	if !ok {
		t.Fail(key, "must be a string or a list of strings")
	}
	return list
}

// Texts returns the strings of a list of strings, or of one string; false for any
// other value.
func (v Value) Texts() ([]string, bool) {
	if v.Kind == String {
		return []string{v.Text}, true
	}
	if v.Kind != List {
		return nil, false
	}
	list := make([]string, 0, len(v.Items))
	for _, item := range v.Items {
		if item.Kind != String {
			return nil, false
		}
		list = append(list, item.Text)
	}
	return list, true
}

// Table returns the table at key, an empty one if there is none. Its own Done has to be
// called for its unknown keys; mistakes in it are found by any Done.
func (t *Table) Table(key string) *Table {
	v, _ := t.kind(key, Object)
	return t.Inside(key, v.Members)
}

// Inside returns a table of members at key, for a value that may be a table or
// something else.
func (t *Table) Inside(key string, members []Member) *Table {
	return &Table{prefix: t.prefix + key + ".", members: members, err: t.err}
}

// Names returns the names in the table, for a table whose names are data; they count as
// asked for.
func (t *Table) Names() []string {
	var names []string
	for i := range t.members {
		names = append(names, t.members[i].Name)
	}
	t.asked = append(t.asked, names...)
	return names
}

// nearest returns the candidate that a misspelt word most likely means, or "".
func nearest(word string, candidates []string) string {
	best, least := "", 1+(len(word)+2)/3
	for _, c := range candidates {
		if d := distance(word, c); d < least {
			best, least = c, d
		}
	}
	return best
}

// distance is the number of bytes to insert, delete or replace to get from a to b.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return len(a) + len(b) // not a misspelling; and the work is bounded
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
