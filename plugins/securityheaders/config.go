package main

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"wproxy/plugins/internal/settings"
)

// The names of the fields, which are also the names of their settings.
const (
	hsts                = "strict-transport-security"
	csp                 = "content-security-policy"
	cspReportOnly       = "content-security-policy-report-only"
	contentTypeOptions  = "x-content-type-options"
	frameOptions        = "x-frame-options"
	referrerPolicy      = "referrer-policy"
	permissionsPolicy   = "permissions-policy"
	crossOriginOpener   = "cross-origin-opener-policy"
	crossOriginEmbedder = "cross-origin-embedder-policy"
	crossOriginResource = "cross-origin-resource-policy"
	xssProtection       = "x-xss-protection"
)

// hstsShort is the short name of the setting for strict-transport-security.
const hstsShort = "hsts"

const (
	year     = 365 * 86400 // seconds
	halfYear = 180 * 86400
)

// fieldNames are all fields, in the order they are sent.
func fieldNames() []string {
	return []string{
		hsts, csp, cspReportOnly, contentTypeOptions, frameOptions, referrerPolicy, permissionsPolicy,
		crossOriginOpener, crossOriginEmbedder, crossOriginResource, xssProtection,
	}
}

// preset returns the value of each field a preset sends.
func preset(name string) map[string]string {
	switch name {
	case "strict":
		return map[string]string{
			hsts:                hstsValue(year, true, false),
			csp:                 "default-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
			contentTypeOptions:  "nosniff",
			frameOptions:        "DENY",
			referrerPolicy:      "no-referrer",
			permissionsPolicy:   "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
			crossOriginOpener:   "same-origin",
			crossOriginEmbedder: "require-corp",
			crossOriginResource: "same-origin",
		}
	case "basic":
		return map[string]string{
			hsts:               hstsValue(halfYear, false, false),
			contentTypeOptions: "nosniff",
			frameOptions:       "SAMEORIGIN",
			referrerPolicy:     "strict-origin-when-cross-origin",
			xssProtection:      "1; mode=block",
		}
	case "api":
		return map[string]string{
			hsts:                hstsValue(year, true, false),
			csp:                 "default-src 'none'; frame-ancestors 'none'",
			contentTypeOptions:  "nosniff",
			frameOptions:        "DENY",
			referrerPolicy:      "no-referrer",
			crossOriginResource: "same-origin",
		}
	}
	return map[string]string{} // off
}

// parseConfig checks the plugin's settings, a JSON object. The error names the key.
func parseConfig(data []byte) (*policy, error) {
	t, err := settings.New(data)
	if err != nil {
		return nil, err
	}
	values := preset(t.Choice("preset", "basic", "strict", "basic", "api", "off"))
	readHSTS(t, values)
	for _, name := range fieldNames() {
		if name != hsts {
			readField(t, values, name)
		}
	}
	p := &policy{
		addIfMissing: t.Choice("mode", "set", "set", "add-if-missing") == "add-if-missing",
		remove:       readRemove(t),
	}
	types := readTypes(t, values)
	if err := t.Done(); err != nil {
		return nil, err
	}
	p.setHeaders(values)
	for _, one := range types {
		q := &policy{addIfMissing: p.addIfMissing, remove: p.remove}
		q.setHeaders(one.values)
		p.types = append(p.types, typePolicy{one.name, q})
	}
	return p, nil
}

// typeValues are the values of the headers for one media type.
type typeValues struct {
	name   string
	values map[string]string
}

// readTypes reads the table types: headers for answers of a media type, laid over values.
func readTypes(t *settings.Table, values map[string]string) (types []typeValues) {
	in := t.Table("types")
	for _, name := range in.Names() {
		lower := settings.Lower(name)
		kind, sub, ok := strings.Cut(lower, "/")
		if !ok || !settings.IsToken(kind) || !settings.IsToken(sub) || kind[0] == '*' {
			in.Fail(name, `is not a media type such as "text/html" or "image/*"`)
		}
		if slices.ContainsFunc(types, func(t typeValues) bool { return t.name == lower }) {
			in.Fail(name, "is there twice")
		}
		own := maps.Clone(values)
		table := in.Table(name)
		for _, field := range fieldNames() {
			if field != hsts { // it is about a host, not about an answer
				readField(table, own, field)
			}
		}
		if err := table.Done(); err != nil {
			t.Keep(err)
		}
		types = append(types, typeValues{lower, own})
	}
	return types
}

// setHeaders makes the headers of the values.
func (p *policy) setHeaders(values map[string]string) {
	for _, name := range fieldNames() {
		value, ok := values[name]
		if !ok {
			continue
		}
		h := header{name: name, value: value, tlsOnly: name == hsts}
		if (name == csp || name == cspReportOnly) && strings.Contains(value, nonceMark) {
			h.parts = strings.Split(value, nonceMark)
			p.needsNonce = true
		}
		p.needsTLS = p.needsTLS || h.tlsOnly
		p.headers = append(p.headers, h)
	}
}

// readField lays the setting of one field, if there is one, over the preset's value:
// a string is the value, false or "off" is not to send it.
func readField(t *settings.Table, values map[string]string, name string) {
	v, ok := t.Value(name)
	if !ok {
		return
	}
	switch {
	case off(v):
		delete(values, name)
	case v.Kind == settings.String:
		if problem := checkValue(name, v.Text); problem != "" {
			t.Fail(name, problem)
		}
		values[name] = v.Text
	default:
		t.Fail(name, "must be a string, or false to leave the header out")
	}
}

func off(v settings.Value) bool {
	return v.Kind == settings.Bool && !v.True || v.Kind == settings.String && v.Text == "off"
}

// readHSTS reads strict-transport-security, or hsts, which is the same setting: a length
// of time, false, or a table of its directives.
func readHSTS(t *settings.Table, values map[string]string) {
	key := hsts
	v, ok := t.Value(hsts)
	if short, isShort := t.Value(hstsShort); isShort {
		if ok {
			t.Fail(hstsShort, "is the same setting as "+settings.Quote(hsts)+"; give one of them")
			return
		}
		key, v, ok = hstsShort, short, true
	}
	switch {
	case !ok:
	case off(v):
		delete(values, hsts)
	case v.Kind == settings.String:
		age, valid := settings.Seconds(v.Text)
		if !valid {
			t.Fail(key, settings.Quote(v.Text)+` is not a length of time such as "1y" or "180d"; directives go in a table: { max-age = "1y", include-subdomains = true }`)
			return
		}
		// The other directives stay as the preset has them.
		values[hsts] = hstsValue(age, strings.Contains(values[hsts], "includeSubDomains"), false)
	case v.Kind == settings.Object:
		in := t.Inside(key, v.Members)
		text := in.Text("max-age", "1y")
		age, valid := settings.Seconds(text)
		if !valid {
			in.Fail("max-age", settings.Quote(text)+` is not a length of time such as "1y" or "180d"`)
		}
		subdomains := in.Flag("include-subdomains", false)
		preload := in.Flag("preload", false)
		// hstspreload.org takes only these, and a header that asks for it without
		// them is a mistake that shows months later.
		if preload && (age < year || !subdomains) {
			in.Fail("preload", "needs max-age of at least 1y and include-subdomains = true")
		}
		if err := in.Done(); err != nil {
			t.Keep(err)
		}
		values[hsts] = hstsValue(age, subdomains, preload)
	default:
		t.Fail(key, "must be a length of time, a table, or false")
	}
}

// hstsValue writes a strict-transport-security value (RFC 6797, section 6.1).
func hstsValue(age int64, subdomains, preload bool) string {
	v := "max-age=" + strconv.FormatInt(age, 10)
	if subdomains {
		v += "; includeSubDomains"
	}
	if preload {
		v += "; preload"
	}
	return v
}

// readRemove reads the names of fields to remove.
func readRemove(t *settings.Table) []string {
	names := t.Texts("remove")
	for i, name := range names {
		name = settings.Lower(name)
		names[i] = name
		if !settings.IsToken(name) {
			t.Fail("remove", settings.Quote(name)+" is not the name of a header")
		}
		switch name {
		case "connection", "content-length", "transfer-encoding", "trailer", "upgrade", "keep-alive", "te":
			t.Fail("remove", settings.Quote(name)+" says how the message is framed and cannot be removed")
		}
	}
	return names
}

// checkValue says what is wrong with the value of a field, or "".
func checkValue(name, value string) string {
	if value == "" {
		return "must not be empty; use false to leave the header out"
	}
	for i := range len(value) {
		if c := value[i]; c < 0x20 || c >= 0x7f {
			return "has a byte that is not printable ASCII"
		}
	}
	allowed := allowedValues(name)
	if allowed == nil {
		return ""
	}
	list := []string{value}
	if name == referrerPolicy { // a list: browsers take the last one they know
		list = strings.Split(value, ",")
	}
	for _, v := range list {
		v = strings.TrimSpace(v)
		if name == crossOriginOpener || name == crossOriginEmbedder { // parameters may follow
			v, _, _ = strings.Cut(v, ";")
		}
		if !slices.ContainsFunc(allowed, func(a string) bool { return strings.EqualFold(a, v) }) {
			return settings.Quote(v) + " is not one of " + strings.Join(allowed, ", ")
		}
	}
	return ""
}

// allowedValues returns the values that browsers know of a field, nil if it is not a list
// of keywords. A misspelt one would silently protect nobody.
func allowedValues(name string) []string {
	switch name {
	case contentTypeOptions:
		return []string{"nosniff"}
	case frameOptions:
		return []string{"DENY", "SAMEORIGIN"}
	case referrerPolicy:
		return []string{
			"no-referrer", "no-referrer-when-downgrade", "origin", "origin-when-cross-origin",
			"same-origin", "strict-origin", "strict-origin-when-cross-origin", "unsafe-url",
		}
	case crossOriginOpener:
		return []string{"same-origin", "same-origin-allow-popups", "noopener-allow-popups", "unsafe-none"}
	case crossOriginEmbedder:
		return []string{"require-corp", "credentialless", "unsafe-none"}
	case crossOriginResource:
		return []string{"same-origin", "same-site", "cross-origin"}
	case xssProtection:
		return []string{"0", "1", "1; mode=block"}
	}
	return nil
}
