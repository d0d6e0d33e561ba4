package main

import (
	"net"
	"net/url"
	"slices"
	"strings"

	"wproxy/core/config"
)

// telemetryWarnings returns what of the log and of traces says nothing, or too much.
func telemetryWarnings(f *config.File) (list config.Problems) {
	hide := hideOf(f.Log.Access.Hide)
	for _, name := range f.Log.Access.Fields {
		kind, field, _ := strings.Cut(strings.ToLower(name), ":")
		if (kind == "header" || kind == "response") && slices.Contains(config.DefaultHide(), field) && !slices.Contains(hide.Fields, field) &&
			(field != "cookie" || len(hide.Cookies) == 0) { // who hides some has thought of it
			list = append(list, f.Problemf("log.access.fields", "log.access.fields: %q writes credentials into the log; `hide` does not have %q", name, field).WithCode(codeCredentials))
		}
	}
	t := f.Tracing
	if t.OTLP == "" {
		return list
	}
	trusted := false
	for _, l := range f.Listeners {
		trusted = trusted || len(l.TrustProxy) > 0
	}
	if t.Sample == 0 && f.Admin.DebugToken.String() == "" && (t.Parent == "ignore" || t.Parent == "trusted" && !trusted) {
		list = append(list, f.Problemf("tracing", "tracing: nothing is ever recorded: sample is 0%%, and nobody else's decision counts (parent, trust_proxy)").WithCode(codeNoTraces))
	}
	if u, err := url.Parse(t.OTLP); err == nil && u.Scheme == "http" && len(t.Headers) > 0 && !isLoopback(u.Hostname()) {
		list = append(list, f.Problemf("tracing.headers", "tracing.headers: are sent in clear to %s: otlp is not https", u.Host).WithCode(codeTracesClear))
	}
	return list
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
