package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// runServer is `wproxy server`.
func runServer(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := newFlags("server", `Usage: wproxy server [-c FILE | --to ADDRESS | --socket PATH] drain|ready UPSTREAM/ADDRESS

drain  the server gets no new requests; those in flight finish. It stays so over
       reloads, until it is ready again or wproxy ends
ready  it gets requests again, unless something else speaks against that

The address is written as in the configuration, or as `+"`wproxy status`"+` shows it.`, stderr)
	find := clientFlags(fs)
	if code, done := parseFlags(fs, args, 2, stdout); done {
		return code
	}
	do, name := fs.Arg(0), fs.Arg(1)
	if do != "drain" && do != "ready" || !strings.Contains(name, "/") {
		fs.Usage()
		return exitFailed
	}
	socket, err := find()
	if err != nil {
		return fail(stderr, "server", err)
	}
	target, err := findServer(ctx, socket, name)
	switch {
	case err != nil:
		return fail(stderr, "server", err)
	case target == "":
		fmt.Fprintf(stderr, "wproxy server: there is no server %q; `wproxy status` lists them\n", name)
		return exitRefused
	}
	rep, code, done := order(ctx, "server", socket, target+"/"+do, stderr)
	if done {
		return code
	}
	if len(rep.Changes) == 0 {
		fmt.Fprintln(stdout, "nothing changed")
	}
	for _, c := range rep.Changes {
		fmt.Fprintln(stdout, c)
	}
	return exitOK
}

// findServer returns the path of the server called name, UPSTREAM/ADDRESS, either of
// which may have slashes; "": there is none.
func findServer(ctx context.Context, socket, name string) (string, error) {
	body, err := call(ctx, socket, http.MethodGet, "/status", questionTime)
	if err != nil {
		return "", err
	}
	var st Status
	if err := json.Unmarshal(body, &st); err != nil {
		return "", err
	}
	for _, u := range st.Upstreams {
		for _, s := range u.Servers {
			if u.Name+"/"+s.Address == name {
				return "/upstreams/" + url.PathEscape(u.Name) + "/servers/" + url.PathEscape(s.Address), nil
			}
		}
	}
	return "", nil
}
