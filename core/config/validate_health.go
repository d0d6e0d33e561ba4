package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// serverSource checks where the servers of u come from.
func (v *validator) serverSource(u *Upstream) {
	key, lb := "upstreams."+u.Name, label("upstreams", u.Name)
	_, listed := v.f.index[key+".servers"]
	d := u.Discover
	switch {
	case listed && d != nil:
		v.addf(key+".discover", "%s: discover: there are servers too; write one of the two", lb)
	case d != nil:
		v.discover(key+".discover", lb, d)
	case !listed && !v.reported(key+".discover"):
		v.addf(key, "%s: needs servers, e.g. servers = [\"10.0.0.1:8080\"], or discover", lb)
	case listed && len(u.Servers) == 0 && !v.reported(key+".servers"):
		v.addf(key+".servers", "%s: servers: is empty; a request could go nowhere", lb)
	}
}

func (v *validator) discover(key, lb string, d *Discover) {
	switch {
	case d.DNS == "" && d.File == "":
		if !v.reported(key) {
			v.addf(key, "%s: discover: needs dns, e.g. dns = \"api.internal:8080\", or file", lb)
		}
		return
	case d.DNS != "" && d.File != "":
		v.addf(key+".file", "%s: discover: has dns and file; write one of the two", lb)
	case d.DNS != "":
		if err := checkLookup(d.DNS); err != nil {
			v.addf(key+".dns", "%s: discover.dns: %v", lb, err)
		}
	default:
		if ext := filepath.Ext(d.File); ext != ".json" && ext != ".toml" {
			v.addf(key+".file", "%s: discover.file: %q ends neither in .json nor in .toml; rename it", lb, d.File)
		}
		if len(d.Resolver) > 0 {
			v.addf(key+".resolver", "%s: discover.resolver: is for dns; leave it out", lb)
		}
	}
	for i, r := range d.Resolver {
		if _, err := ResolverAddress(r); err != nil {
			v.addf(fmt.Sprintf("%s.resolver[%d]", key, i), "%s: discover.resolver: %v", lb, err)
		}
	}
}

// checkLookup checks "name:port" and "srv:name".
func checkLookup(s string) error {
	if name, ok := strings.CutPrefix(s, "srv:"); ok {
		if !isName(name) {
			return fmt.Errorf("%q is not a name to look up, e.g. \"srv:_api._tcp.example.com\"", name)
		}
		return nil
	}
	host, port, err := splitAddress(s)
	if err != nil {
		return fmt.Errorf("%q: %w; write name:port or srv:name", s, err)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return fmt.Errorf("%q is an address, for which there is nothing to look up; write it into servers", host)
	}
	if host == "" || port == 0 {
		return fmt.Errorf("%q: write name:port or srv:name", s)
	}
	return nil
}

// ResolverAddress returns the address:port of a DNS server, whose port is 53 unless
// it is there.
func ResolverAddress(s string) (string, error) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return net.JoinHostPort(a.String(), "53"), nil
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Port() == 0 {
		return "", fmt.Errorf("%q is not the address of a DNS server: write \"10.0.0.2\" or \"10.0.0.2:53\"", s)
	}
	return a.String(), nil
}

// health checks how servers are asked.
func (v *validator) health(u *Upstream) {
	h := u.Health
	if h == nil {
		return
	}
	c := routeCheck{v: v, key: "upstreams." + u.Name, label: label("upstreams", u.Name)}
	if !strings.HasPrefix(h.Path, "/") || !isTarget(h.Path) || strings.Contains(h.Path, "#") {
		c.addf("health.path", "%q is not a path, with a query or without; for example /healthz", h.Path)
	}
	switch {
	case h.Protocol == "grpc" && u.Connect.Protocol != "h2":
		c.addf("health.protocol", "\"grpc\" is spoken over HTTP/2; it needs connect.protocol = \"h2\"")
	case h.Protocol != "grpc" && h.Service != "":
		c.addf("health.service", "is for health.protocol = \"grpc\"; leave it out")
	}
	if h.Host != "" {
		if _, _, err := splitAddress(h.Host); err != nil && !isName(h.Host) {
			c.addf("health.host", "%q is not a name, or host:port; for example app.internal", h.Host)
		}
	}
	c.names("health.headers")
	c.values("health.headers", h.Headers)
	for _, name := range v.keysUnder(c.key + ".health.headers.") {
		if name := strings.ToLower(name); name == "host" {
			c.addf("health.headers."+name, "is not set here; use health.host")
		} else {
			c.framing("health.headers."+name, name)
		}
	}
	for i, s := range h.Expect {
		if _, _, err := ParseStatuses(s); err != nil {
			at, _ := c.elem("health.expect", i)
			c.addf(at, "%v", err)
		}
	}
	if len(h.Expect) == 0 {
		c.addf("health.expect", "is empty, so that no answer would be good; leave it out for 200-299")
	}
	if _, err := regexp.Compile(h.BodyRegex); err != nil {
		c.addf("health.body_regex", "%v; see https://github.com/google/re2/wiki/Syntax", err)
	}
	if h.Method == "HEAD" && (h.Body != "" || h.BodyRegex != "") {
		c.addf("health.method", "an answer to HEAD has no body that something could be expected in; use GET")
	}
	if h.EveryDown < minEvery {
		c.addf("health.every_down", "%s is shorter than %s; make it longer", FormatDuration(h.EveryDown), FormatDuration(minEvery))
	}
	switch {
	case h.Timeout > h.Every:
		c.addf("health.timeout", "one check (%s) may take longer than the time between two (every, %s); make it shorter", FormatDuration(h.Timeout), FormatDuration(h.Every))
	case h.Timeout < minTimeout:
		c.addf("health.timeout", "%s is shorter than %s; make it longer", FormatDuration(h.Timeout), FormatDuration(minTimeout))
	}
}

// outlier checks when servers are taken out.
func (v *validator) outlier(u *Upstream) {
	o := u.Outlier
	if o == nil {
		return
	}
	key, lb := "upstreams."+u.Name+".outlier", label("upstreams", u.Name)
	if o.Errors == 0 && o.Ratio == 0 {
		v.addf(key, "%s: outlier: neither errors nor ratio takes a server out; set one of them", lb)
	}
	if len(o.On) == 0 {
		v.addf(key+".on", "%s: outlier.on: is empty, so that nothing would be a failure; leave it out for the usual ones", lb)
	}
	if o.MaxEject < o.Eject {
		v.addf(key+".max_eject", "%s: outlier.max_eject: %s is shorter than the first ejection (eject, %s); make it longer", lb, FormatDuration(o.MaxEject), FormatDuration(o.Eject))
	}
}

// ParseStatuses parses "204" and "200-299".
func ParseStatuses(s string) (first, last int, err error) {
	bad := errors.New(strconv.Quote(s) + " is not a status such as \"204\", or a range such as \"200-299\"")
	lo, hi, ok := strings.Cut(s, "-")
	if !ok {
		hi = lo
	}
	first, err1 := strconv.Atoi(lo)
	last, err2 := strconv.Atoi(hi)
	if err1 != nil || err2 != nil || len(lo) != 3 || len(hi) != 3 || first < 200 || last > 599 || last < first {
		return 0, 0, bad
	}
	return first, last, nil
}
