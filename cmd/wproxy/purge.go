package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"wproxy/core/exchange"
	"wproxy/core/objects"
)

// purge removes what plugins have stored. Keys begin with the URL and a line feed, by the
// convention in package abi.
func (a *app) purge(how, what string) (removed int, err error) {
	if how != "tag" {
		if what, err = purgeKey(what); err != nil {
			return 0, err
		}
	}
	if how == "url" {
		what += "\n"
	}
	a.parts.objects.Each(func(_ string, s *objects.Space) {
		if how == "tag" {
			removed += s.DeleteTag(what)
		} else {
			removed += s.DeletePrefix(what)
		}
	})
	return removed, nil
}

// purgeKey makes of a URL what keys begin with: scheme, host and target in the canonical
// form that requests are brought into.
func purgeKey(text string) (string, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	scheme = strings.ToLower(scheme)
	if !ok || scheme != "http" && scheme != "https" {
		return "", errors.New("want a URL that begins with http:// or https://")
	}
	authority, target := rest, "/"
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		authority, target = rest[:i], rest[i:]
	}
	var r exchange.Request
	if err := r.ParseAuthority(authority); err != nil {
		return "", fmt.Errorf("%q is not a host: %w", authority, err)
	}
	if err := r.ParseTarget(target); err != nil {
		return "", fmt.Errorf("%q is not a path: %w", target, err)
	}
	return scheme + "://" + r.Authority + r.Target, nil
}

// runCache is `wproxy cache`.
func runCache(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "purge" {
		return runPurge(ctx, args[1:], stdout, stderr)
	}
	if len(args) == 1 && (args[0] == "-h" || args[0] == "-help" || args[0] == "--help") {
		return runPurge(ctx, args, stdout, stderr)
	}
	fmt.Fprintln(stderr, "wproxy cache: there is one thing to do with it, purge; see wproxy cache purge --help")
	return exitFailed
}

// runPurge is `wproxy cache purge`.
func runPurge(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := newFlags("cache purge", `Usage: wproxy cache purge [-c FILE | --to ADDRESS | --socket PATH] --url URL | --prefix URL | --tag TAG

Removes what the running wproxy has cached: everything that is stored for a URL, for
all URLs that begin with one, or with a tag (surrogate-key, cache-tag).`, stderr)
	find := clientFlags(fs)
	query := url.Values{}
	for _, name := range []string{"url", "prefix", "tag"} {
		fs.Func(name, "what is stored for this `"+strings.ToUpper(name)+"`", func(v string) error {
			query.Add(name, v)
			return nil
		})
	}
	if code, done := parseFlags(fs, args, 0, stdout); done {
		return code
	}
	if n := len(query["url"]) + len(query["prefix"]) + len(query["tag"]); n != 1 {
		fmt.Fprint(stderr, "wproxy cache purge: needs one of --url, --prefix and --tag, once\n")
		return exitFailed
	}
	socket, err := find()
	if err != nil {
		return fail(stderr, "cache purge", err)
	}
	rep, code, done := order(ctx, "cache purge", socket, "/purge?"+query.Encode(), stderr)
	if !done {
		fmt.Fprintf(stdout, "removed %d\n", rep.Removed)
	}
	return code
}
