package config

import (
	"fmt"
	"strings"
)

// ParseKey takes a `hash` apart: kind is "client-ip", "header", "cookie", "query" or
// "path", name that of the field (in lower case), cookie or parameter.
func ParseKey(s string) (kind, name string, err error) {
	kind, name, named := strings.Cut(s, ":")
	switch kind {
	case "client-ip", "path":
		if !named {
			return kind, "", nil
		}
	case "header", "cookie":
		if isToken(name) {
			if kind == "header" {
				name = strings.ToLower(name)
			}
			return kind, name, nil
		}
	case "query":
		if name != "" {
			return kind, name, nil
		}
	}
	return "", "", fmt.Errorf("%q is not a key: write \"client-ip\", \"header:NAME\", \"cookie:NAME\", \"query:NAME\" or \"path\"", s)
}

// balance checks how servers are picked.
func (v *validator) balance(u *Upstream, key, lb string) {
	hashes := u.Balance == "hash" || u.Balance == "maglev"
	has := func(k string) bool { _, ok := v.f.index[key+"."+k]; return ok }
	switch {
	case hashes && u.HashKey == "" && !v.reported(key+".hash"):
		v.addf(key+".balance", "%s: balance: %q needs hash, what ties requests to a server, e.g. hash = \"client-ip\"", lb, u.Balance)
	case !hashes && has("hash") && !v.reported(key+".balance"):
		v.addf(key+".hash", "%s: hash: has no effect with balance = %q; it is for \"hash\" and \"maglev\"", lb, u.Balance)
	case !hashes && has("hash_bound") && !v.reported(key+".balance"):
		v.addf(key+".hash_bound", "%s: hash_bound: has no effect with balance = %q; it is for \"hash\" and \"maglev\"", lb, u.Balance)
	}
	if hashes && u.HashKey != "" {
		if _, _, err := ParseKey(u.HashKey); err != nil {
			v.addf(key+".hash", "%s: hash: %v", lb, err)
		}
	}
	if b := u.HashBound; b > 0 && b < 1.01 {
		v.addf(key+".hash_bound", "%s: hash_bound: %s of the even share cannot hold all requests; write 101%% or more, or 0%% for no bound", lb, b)
	}
	if hashes && u.SlowStart > 0 {
		v.addf(key+".slow_start", "%s: slow_start: has no effect with balance = %q: keys would move twice; leave it out", lb, u.Balance)
	}
	backups := 0
	for i, s := range u.Servers {
		if s.Backup {
			backups++
			if s.Priority != 0 {
				v.addf(fmt.Sprintf("%s.servers[%d]", key, i), "%s: servers: %q is a backup, which comes after all priorities; leave one out", lb, s.Address)
			}
		}
	}
	if backups > 0 && backups == len(u.Servers) {
		v.addf(key+".servers", "%s: servers: all of them are backups, of nothing; leave backup out of some", lb)
	}
	if u.Sticky != nil {
		v.sticky(u.Sticky, key+".sticky", lb+": sticky")
	}
}

func (v *validator) sticky(s *Sticky, key, lb string) {
	if !isToken(s.Cookie) && !v.reported(key+".cookie") {
		v.addf(key+".cookie", "%s.cookie: %q is not a name of a cookie; write letters, digits, - and _", lb, s.Cookie)
	}
	if !strings.HasPrefix(s.Path, "/") || strings.ContainsAny(s.Path, "; \t") {
		v.addf(key+".path", "%s.path: %q is not a path; it begins with / and has neither ; nor white space", lb, s.Path)
	}
	if _, ok := v.f.index[key+".secret"]; ok && len(s.Secret.Reveal()) < minStickySecret && !v.reported(key+".secret") {
		v.addf(key+".secret", "%s.secret: has fewer than %d bytes; `openssl rand -hex 32` makes a good one", lb, minStickySecret)
	}
	if s.SameSite == "none" && s.Secure == "never" {
		v.addf(key+".secure", "%s.secure: browsers refuse a cookie with same_site = \"none\" that is not secure; write \"auto\" or \"always\"", lb)
	}
}
