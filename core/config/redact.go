package config

import (
	"encoding/json"
	"slices"
	"strings"
)

// A Redactor replaces the content of every ${env:...} and ${file:...} in some
// settings by the reference as it was written: whole, as it stands in JSON, line by
// line, and cut off at the end of a line. It is for text from whoever was told the
// content, such as what a guest has logged about its settings. It is immutable; nil
// replaces nothing.
type Redactor struct{ secrets []reference }

// NewRedactor returns the Redactor for settings, which are Values, and maps and lists
// that hold some. It is nil if nothing in them is to be replaced.
func NewRedactor(settings ...any) *Redactor {
	var secrets []reference
	for _, t := range settings {
		secrets = appendSecrets(secrets, t)
	}
	if len(secrets) == 0 {
		return nil
	}
	// The longest first: one may be a part of another.
	slices.SortStableFunc(secrets, func(a, b reference) int { return len(b.content) - len(a.content) })
	return &Redactor{secrets}
}

// Redact returns s with what r replaces replaced.
func (r *Redactor) Redact(s string) string {
	if r == nil {
		return s
	}
	for _, x := range r.secrets {
		s = strings.ReplaceAll(s, x.content, x.text)
	}
	lines := strings.SplitAfter(s, "\n")
	for i, line := range lines {
		lines[i] = redactEnd(line, r.secrets)
	}
	return strings.Join(lines, "")
}

// redactEnd replaces the beginning of a secret that line ends with: long lines are
// cut, with a note that says so behind them or without.
func redactEnd(line string, secrets []reference) string {
	text := strings.TrimRight(line, "\r\n")
	if strings.HasSuffix(text, " bytes more)") {
		if i := strings.LastIndex(text, "... ("); i >= 0 {
			text = text[:i]
		}
	}
	for _, r := range secrets {
		for n := min(len(r.content)-1, len(text)); n >= minSecret; n-- {
			if strings.HasSuffix(text, r.content[:n]) {
				return text[:len(text)-n] + r.text + line[len(text):]
			}
		}
	}
	return line
}

// appendSecrets appends the secrets in tree, in every form that is looked for.
func appendSecrets(list []reference, tree any) []reference {
	switch t := tree.(type) {
	case Value:
		for _, r := range t.refs {
			for line := range strings.Lines(r.content) {
				list = appendSecret(list, r.text, strings.TrimSpace(line))
			}
			list = appendSecret(list, r.text, r.content)
			for _, escape := range []bool{true, false} { // as guests get it, and as most of them write it
				list = appendSecret(list, r.text, asJSON(r.content, escape))
			}
		}
	case map[string]Value:
		for _, v := range t {
			list = appendSecrets(list, v)
		}
	case map[string]any:
		for _, v := range t {
			list = appendSecrets(list, v)
		}
	case []any:
		for _, v := range t {
			list = appendSecrets(list, v)
		}
	}
	return list
}

// asJSON returns s as it stands inside of a JSON string, with or without the escapes for
// HTML that Go's encoder adds.
func asJSON(s string, escapeHTML bool) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(escapeHTML)
	if e.Encode(s) != nil {
		return ""
	}
	return strings.TrimSuffix(b.String(), "\n")[1 : b.Len()-2]
}

func appendSecret(list []reference, text, content string) []reference {
	if len(content) < minSecret || slices.Contains(list, reference{text, content}) {
		return list
	}
	return append(list, reference{text, content})
}
