package config

import (
	"encoding/json"
	"slices"
	"strings"
)

// Redact returns s with the content of every ${env:...} and ${file:...} in the
// settings replaced by the reference as it was written: whole, as it stands in
// JSON, line by line, and cut off at the end of a line of s. It is for text from
// whoever was told the content, such as what a guest has logged about its
// settings. settings are Values, and maps and lists that hold some.
func Redact(s string, settings ...any) string {
	var secrets []reference
	for _, t := range settings {
		secrets = appendSecrets(secrets, t)
	}
	if len(secrets) == 0 {
		return s
	}
	// The longest first: one may be a part of another.
	slices.SortStableFunc(secrets, func(a, b reference) int { return len(b.content) - len(a.content) })
	for _, r := range secrets {
		s = strings.ReplaceAll(s, r.content, r.text)
	}
	lines := strings.SplitAfter(s, "\n")
	for i, line := range lines {
		lines[i] = redactEnd(line, secrets)
	}
	return strings.Join(lines, "")
}

// redactEnd replaces the beginning of a secret that line ends with: long lines are cut.
func redactEnd(line string, secrets []reference) string {
	text := strings.TrimRight(line, "\r\n")
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
			if b, err := json.Marshal(r.content); err == nil {
				list = appendSecret(list, r.text, string(b[1:len(b)-1]))
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

func appendSecret(list []reference, text, content string) []reference {
	if len(content) < minSecret || slices.Contains(list, reference{text, content}) {
		return list
	}
	return append(list, reference{text, content})
}
