package config

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// accessFields are the fields of the access log that have a name of their own. A test
// holds them against core/access.
var accessFields = []string{
	"default", "ts", "request_id", "client", "listener", "client_cert", "method", "host", "path", "status", "bytes_in", "bytes_out",
	"route", "upstream", "server", "tries", "retried", "t_connect", "t_first_byte", "t_total", "reason", "grpc_status", "trace_id",
	"span_id", "added", "plugins", "protocol", "referer", "user_agent",
}

// AccessFields returns the names of the fields that the access log can have.
func AccessFields() []string { return slices.Clone(accessFields) }

// telemetry checks what the log and traces say, and to whom.
func (v *validator) telemetry() {
	v.accessFields()
	v.accessHide()
	t := v.f.Tracing
	if _, ok := v.f.index["tracing"]; ok && t.OTLP == "" && !v.reported("tracing.otlp") {
		v.addf("tracing", "tracing: needs otlp, the receiver, e.g. otlp = \"http://127.0.0.1:4318\"")
	}
	if u, err := url.Parse(t.OTLP); t.OTLP != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "") {
		v.addf("tracing.otlp", "tracing.otlp: want the URL of a receiver of OTLP over HTTP, e.g. \"http://127.0.0.1:4318\"; a name and password go into headers")
	}
	if t.Service == "" && !v.reported("tracing.service") {
		v.addf("tracing.service", "tracing.service: is empty; leave it out for \"wproxy\"")
	}
	for _, name := range slices.Sorted(maps.Keys(t.Headers)) {
		at := "tracing.headers." + name
		switch lower := strings.ToLower(name); {
		case !isToken(name):
			v.addf(at, "tracing.headers: %q is not a field name; write a token, as in \"x-team\"", name)
		case isFraming(lower) || lower == "host" || lower == "content-type":
			v.addf(at, "tracing.headers: %s is set by wproxy; leave it out", lower)
		case strings.ContainsAny(t.Headers[name].Reveal(), "\r\n\x00"):
			v.addf(at, "tracing.headers: %s: a value has no line ends; leave them out", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Resource)) {
		switch name {
		case "":
			v.addf("tracing.resource", "tracing.resource: an attribute needs a name; write NAME = \"VALUE\"")
		case "service.name":
			v.addf("tracing.resource."+name, "tracing.resource: service.name is not one of these; write service = \"NAME\"")
		}
	}
	if d := v.f.Admin.DebugToken; d.String() != "" && len(d.Reveal()) < minDebugToken && !v.reported("admin.debug_token") {
		v.addf("admin.debug_token", "admin.debug_token: is shorter than %d bytes: it could be guessed; make it longer", minDebugToken)
	}
}

func (v *validator) accessFields() {
	a := v.f.Log.Access
	if a.Fields != nil && a.Format == "combined" {
		v.addf("log.access.fields", "log.access.fields: the combined format has its own fields; leave it out, or write format = \"json\"")
		return
	}
	if a.Fields != nil && len(a.Fields) == 0 && !v.reported("log.access.fields") {
		v.addf("log.access.fields", "log.access.fields: is empty; leave it out for all")
	}
	for i, name := range a.Fields {
		at := fmt.Sprintf("log.access.fields[%d]", i)
		kind, rest, named := strings.Cut(name, ":")
		switch {
		case slices.Contains(a.Fields[:i], name):
			v.addf(at, "log.access.fields: %q is listed twice; leave one out", name)
		case named && (kind == "header" || kind == "response" || kind == "cookie"):
			if !isToken(rest) {
				v.addf(at, "log.access.fields: %q: %q is not a name of a %s; write \"%s:NAME\"", name, rest, wordOf(kind), kind)
			}
		case named && kind == "added":
			if rest == "" || slices.Contains(accessFields, rest) {
				v.addf(at, "log.access.fields: %q: plugins cannot add that; leave it out", name)
			}
		case !slices.Contains(accessFields, name):
			v.addf(at, "log.access.fields: %q is no field of the access log%s", name, orWhich(name, accessFields))
		}
	}
}

func (v *validator) accessHide() {
	for i, name := range v.f.Log.Access.Hide {
		kind, rest, named := strings.Cut(name, ":")
		switch {
		case named && kind == "query" && rest != "":
		case named && kind == "cookie" && isToken(rest):
		case !named && isToken(name):
		default:
			v.addf(fmt.Sprintf("log.access.hide[%d]", i),
				"log.access.hide: %q names nothing that can be hidden; want a header's name, \"query:NAME\", \"query:*\" or \"cookie:NAME\"", name)
		}
	}
}

// wordOf says what a name after "KIND:" is the name of.
func wordOf(kind string) string {
	if kind == "cookie" {
		return "cookie"
	}
	return "header field"
}
