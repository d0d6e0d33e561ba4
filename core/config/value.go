package config

import (
	"encoding/json"
	"maps"
)

// A Value is a string setting that may hold a secret: it remembers the text as
// written, with ${env:NAME} and ${file:/path} in it, and what that resolved to.
// Formatting, logging or encoding a Value shows the text; only Reveal gives the
// content. A Value without references shows its content.
type Value struct {
	text    string
	content string
	refs    []reference // in text
}

// A reference is a ${env:NAME} or ${file:/path} and what it stands for.
type reference struct{ text, content string }

// Plain returns a Value without a secret.
func Plain(s string) Value { return Value{text: s, content: s} }

// Reveal returns the content with every reference resolved.
func (v Value) Reveal() string { return v.content }

// String returns the text as written.
func (v Value) String() string { return v.text }

// GoString returns the text as written, quoted, so that %#v does not leak.
func (v Value) GoString() string { return `config.Value("` + v.text + `")` }

// MarshalJSON encodes the text as written.
func (v Value) MarshalJSON() ([]byte, error) { return json.Marshal(v.text) }

// JSON encodes a tree of settings with the content of Values revealed. A nil tree is "null" as in
// encoding/json; for what people read use encoding/json, which hides Values.
func JSON(tree any) ([]byte, error) { return json.Marshal(reveal(tree)) }

// Raw returns what a guest gets of its settings, which are nil (nothing), a string
// or a Value (the text, byte for byte), or a tree (JSON; an empty table is
// nothing, as in Envoy). Secrets are revealed.
func Raw(settings any) ([]byte, error) {
	switch s := settings.(type) {
	case nil:
		return nil, nil
	case string:
		return []byte(s), nil
	case Value:
		return []byte(s.content), nil
	case map[string]any:
		if len(s) == 0 {
			return nil, nil
		}
	}
	return JSON(settings)
}

// reveal returns tree with every Value replaced by its content.
func reveal(tree any) any {
	switch t := tree.(type) {
	case Value:
		return t.content
	case map[string]any:
		m := make(map[string]any, len(t))
		for k, v := range t {
			m[k] = reveal(v)
		}
		return m
	case []any:
		l := make([]any, len(t))
		for i, v := range t {
			l[i] = reveal(v)
		}
		return l
	default:
		return tree
	}
}

// Merge returns base with over laid over it: tables deeply, lists and scalars
// replaced. Neither is changed; the result may share parts of both.
func Merge(base, over map[string]any) map[string]any {
	if len(base) == 0 && len(over) == 0 {
		return nil
	}
	m := make(map[string]any, len(base)+len(over))
	maps.Copy(m, base)
	for k, v := range over {
		bt, ok1 := m[k].(map[string]any)
		ot, ok2 := v.(map[string]any)
		if ok1 && ok2 {
			m[k] = Merge(bt, ot)
		} else {
			m[k] = v
		}
	}
	return m
}
