package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// formVersion is the version of the form that doc.go describes.
const formVersion = 1

// A Manifest is what a plugin says about itself.
type Manifest struct {
	Name        string
	Version     string // "": not said
	Description string // one line, "": none

	// RequestBody and ResponseBody say that the plugin has callbacks for these bodies.
	RequestBody, ResponseBody bool

	// Grants are what the plugin asks to use, in the words of the key grant.
	Grants []string

	// Settings checks its settings; nil: there is no schema, and anything goes.
	Settings *Schema
}

// document is the JSON of a manifest.
type document struct {
	Form        int             `json:"manifest"`
	Name        string          `json:"name"`
	Version     string          `json:"version,omitempty"`
	Description string          `json:"description,omitempty"`
	Body        []string        `json:"body,omitempty"`
	Grants      []string        `json:"grants,omitempty"`
	Settings    json.RawMessage `json:"settings,omitempty"`
}

var grantForm = regexp.MustCompile(`^[a-z][a-z0-9-]*(:[^\s:\pC]+)?$`)

// ValidGrant reports whether g has the form of a grant: a word, or a word and what it is
// for, as in "call:idp". Whether there is such a grant, the host knows.
func ValidGrant(g string) bool { return len(g) <= maxText && grantForm.MatchString(g) }

// Parse reads the content of the section. The error names the key.
func Parse(data []byte) (*Manifest, error) {
	if len(data) > maxManifest {
		return nil, fmt.Errorf("it has %d bytes; the most is %d", len(data), maxManifest)
	}
	if !utf8.Valid(data) {
		return nil, errors.New("it is not UTF-8")
	}
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("it is not the JSON of a manifest: %w", err)
	}
	if d.Form != formVersion {
		return nil, fmt.Errorf(`"manifest" is %d; this wproxy knows %d`, d.Form, formVersion)
	}
	m := &Manifest{Name: d.Name, Version: d.Version, Description: d.Description, Grants: d.Grants}
	for _, b := range d.Body {
		switch b {
		case "request":
			m.RequestBody = true
		case "response":
			m.ResponseBody = true
		default:
			return nil, fmt.Errorf(`"body" has %q; it may have "request" and "response"`, clip(b))
		}
	}
	if err := m.Validate(); err != nil {
		return nil, err
	}
	if len(d.Settings) > 0 && string(d.Settings) != "null" {
		s, err := Compile(d.Settings)
		if err != nil {
			return nil, fmt.Errorf(`"settings": %w`, err)
		}
		m.Settings = s
	}
	return m, nil
}

// Validate reports what is wrong with m, naming the key.
func (m *Manifest) Validate() error {
	if m.Name == "" {
		return errors.New(`"name" is missing`)
	}
	for _, f := range []struct{ key, value string }{{"name", m.Name}, {"version", m.Version}, {"description", m.Description}} {
		switch {
		case len(f.value) > maxText:
			return fmt.Errorf("%q has %d bytes; the most is %d", f.key, len(f.value), maxText)
		case !utf8.ValidString(f.value):
			return fmt.Errorf("%q is not UTF-8", f.key)
		case strings.ContainsFunc(f.value, isControl): // it is shown on terminals
			return fmt.Errorf("%q has a control character", f.key)
		}
	}
	if len(m.Grants) > maxGrants {
		return fmt.Errorf(`"grants" has %d entries; the most is %d`, len(m.Grants), maxGrants)
	}
	for _, g := range m.Grants {
		if !ValidGrant(g) {
			return fmt.Errorf(`"grants" has %q, which does not look like "log" or "call:NAME"`, clip(g))
		}
	}
	return nil
}

// isControl reports whether r does something to a terminal, a line break and a change of
// the direction of the text included.
func isControl(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp)
}

// encode writes m, always the same way.
func (m *Manifest) encode() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	d := document{Form: formVersion, Name: m.Name, Version: m.Version, Description: m.Description, Grants: slices.Clone(m.Grants)}
	slices.Sort(d.Grants)
	if m.RequestBody {
		d.Body = append(d.Body, "request")
	}
	if m.ResponseBody {
		d.Body = append(d.Body, "response")
	}
	if m.Settings != nil {
		var b bytes.Buffer
		if err := json.Compact(&b, m.Settings.text); err != nil {
			return nil, err
		}
		d.Settings = b.Bytes()
	}
	data, err := json.Marshal(d)
	if err == nil && len(data) > maxManifest {
		err = fmt.Errorf("the manifest has %d bytes; the most is %d", len(data), maxManifest)
	}
	return data, err
}

// clip shortens what a message shows.
func clip(s string) string {
	if utf8.RuneCountInString(s) <= maxShown {
		return s
	}
	return string([]rune(s)[:maxShown]) + "…"
}
