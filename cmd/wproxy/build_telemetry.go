package main

import (
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"

	"go.uber.org/zap"

	"wproxy/core/access"
	"wproxy/core/config"
	"wproxy/core/proxy"
	"wproxy/core/trace"
)

// hideOf sorts log.access.hide by what its entries are about.
func hideOf(list []string) access.Hide {
	var h access.Hide
	for _, entry := range list {
		kind, name, ok := strings.Cut(entry, ":")
		switch {
		case !ok:
			h.Fields = append(h.Fields, strings.ToLower(entry))
		case kind == "cookie":
			h.Cookies = append(h.Cookies, name)
		default:
			h.Query = append(h.Query, name)
		}
	}
	return h
}

// traceWith has s trace, if the file says so. A tracer whose settings have not changed
// goes on, with what it has to send.
func (b *builder) traceWith(s *proxy.Snapshot) {
	s.Hide = hideOf(b.file.Log.Access.Hide)
	s.Debug = proxy.NewDebugToken(b.file.Admin.DebugToken.Reveal())
	t := b.file.Tracing
	if t.OTLP == "" || b.dry {
		return
	}
	tracer, letGo, _ := b.tracers.get(config.HashOf(t), func() (*trace.Tracer, error) { return trace.Open(b.tracerOptions(t)), nil })
	b.hold(letGo)
	s.Tracer = tracer
}

func (b *builder) tracerOptions(t config.Tracing) trace.Options {
	o := trace.Options{
		URL: tracesURL(t.OTLP), Service: t.Service, Version: versionString(), Share: float64(t.Sample),
		Sent: b.metrics.TraceSpans("sent"), Dropped: b.metrics.TraceSpans("dropped"), Rejected: b.metrics.TraceSpans("rejected"),
		Failing: func(err error) {
			if err == nil {
				b.log.Info("the receiver takes traces again")
				return
			}
			b.log.Warn("the receiver does not take traces; requests do not wait for it", zap.Error(err))
		},
	}
	switch t.Parent {
	case "follow":
		o.Parent = trace.ParentFollow
	case "ignore":
		o.Parent = trace.ParentIgnore
	}
	for _, name := range slices.Sorted(maps.Keys(t.Headers)) {
		o.Fields = append(o.Fields, trace.Attribute{Name: name, Value: t.Headers[name].Reveal()})
	}
	if host, err := os.Hostname(); err == nil && t.Resource["host.name"] == "" {
		o.Resource = append(o.Resource, trace.Attribute{Name: "host.name", Value: host})
	}
	for _, name := range slices.Sorted(maps.Keys(t.Resource)) {
		o.Resource = append(o.Resource, trace.Attribute{Name: name, Value: t.Resource[name]})
	}
	return o
}

// tracesURL returns where traces go at a receiver: a URL without a path is that of all
// its signals (OpenTelemetry, "OTLP Exporter Configuration", endpoint URLs).
func tracesURL(receiver string) string {
	u, err := url.Parse(receiver)
	if err != nil || u.Path != "" && u.Path != "/" {
		return receiver
	}
	u.Path = "/v1/traces"
	return u.String()
}
