package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"wproxy/core/admin"
	"wproxy/core/config"
)

const (
	// orderTime bounds a command that changes something. A reload compiles
	// plugins, about a second each, and a stop may wait for a reload.
	orderTime = 2 * time.Minute

	// questionTime bounds a command that only asks: what there is to answer is
	// at hand.
	questionTime = 5 * time.Second

	// answerBytes bounds what a command reads: a status of 10,000 servers.
	answerBytes = 16 << 20
)

// clientFlags adds the flags that name a running wproxy.
func clientFlags(fs *flag.FlagSet) (find func() (string, error)) {
	src := sourceFlags(fs)
	socket := fs.String("socket", "", "the admin socket `PATH`, instead of the one that the configuration leads to")
	return func() (string, error) {
		if *socket != "" {
			return *socket, nil
		}
		s, err := src()
		if err != nil {
			return "", err
		}
		return s.clientSocket()
	}
}

// call sends one request to the admin socket at path and returns the answer, for
// which it waits no longer than limit.
func call(ctx context.Context, socket, method, target string, limit time.Duration) ([]byte, error) {
	return send(ctx, socket, method, target, http.NoBody, limit)
}

// send is call with a body.
func send(ctx context.Context, socket, method, target string, content io.Reader, limit time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tr := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://wproxy"+target, content)
	if err != nil {
		return nil, err
	}
	resp, err := tr.RoundTrip(req)
	var body []byte
	if err == nil {
		defer resp.Body.Close()
		body, err = io.ReadAll(io.LimitReader(resp.Body, answerBytes))
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("the wproxy on %s has not answered within %s: its process may be stopped or overloaded", socket, config.FormatDuration(limit))
	case err != nil:
		return nil, fmt.Errorf("no wproxy answers on %s: %w", socket, err)
	}
	return body, nil
}

// order sends a POST and returns the answer. done means that it failed, with code.
func order(ctx context.Context, name, socket, target string, stderr io.Writer) (rep admin.Reply, code int, done bool) {
	return orderWithin(ctx, name, socket, target, orderTime, stderr)
}

// orderWithin is order with a limit of its own.
func orderWithin(ctx context.Context, name, socket, target string, limit time.Duration, stderr io.Writer) (rep admin.Reply, code int, done bool) {
	body, err := call(ctx, socket, http.MethodPost, target, limit)
	if err == nil {
		err = json.Unmarshal(body, &rep)
	}
	switch {
	case err != nil:
		fmt.Fprintf(stderr, "wproxy %s: %v\n", name, err)
		return rep, exitFailed, true
	case !rep.OK:
		fmt.Fprintf(stderr, "wproxy %s: refused, nothing has changed:\n%s\n", name, rep.Error)
		return rep, exitRefused, true
	}
	return rep, exitOK, false
}

// runReload is `wproxy reload`.
func runReload(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := newFlags("reload", `Usage: wproxy reload [-c FILE | --to ADDRESS | --socket PATH]

Makes the running wproxy read its configuration again, as SIGHUP does, and prints
what changed: the list that `+"`wproxy diff`"+` prints before. A configuration that is
wrong changes nothing: the reason is printed and the exit code is 1.`, stderr)
	find := clientFlags(fs)
	if code, done := parseFlags(fs, args, 0, stdout); done {
		return code
	}
	socket, err := find()
	if err != nil {
		return fail(stderr, "reload", err)
	}
	rep, code, done := order(ctx, "reload", socket, "/reload", stderr)
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

// runStop is `wproxy stop`.
func runStop(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := newFlags("stop", `Usage: wproxy stop [-c FILE | --to ADDRESS | --socket PATH] [--now]

Makes the running wproxy stop accepting, finish the requests in flight (for at most
server.drain) and end, as SIGTERM does. It does not wait for the end.`, stderr)
	find := clientFlags(fs)
	now := fs.Bool("now", false, "do not wait for requests in flight")
	if code, done := parseFlags(fs, args, 0, stdout); done {
		return code
	}
	socket, err := find()
	if err != nil {
		return fail(stderr, "stop", err)
	}
	target := "/stop"
	if *now {
		target += "?now=1"
	}
	_, code, done := order(ctx, "stop", socket, target, stderr)
	if !done {
		fmt.Fprintln(stdout, "stopping")
	}
	return code
}

// runStatus is `wproxy status`.
func runStatus(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := newFlags("status", `Usage: wproxy status [-c FILE | --to ADDRESS | --socket PATH] [--json]

Shows what the running wproxy is doing.`, stderr)
	find := clientFlags(fs)
	asJSON := fs.Bool("json", false, "print JSON")
	if code, done := parseFlags(fs, args, 0, stdout); done {
		return code
	}
	socket, err := find()
	if err != nil {
		return fail(stderr, "status", err)
	}
	body, err := call(ctx, socket, http.MethodGet, "/status", questionTime)
	if err != nil {
		return fail(stderr, "status", err)
	}
	if *asJSON {
		_, _ = stdout.Write(body) // nobody left to tell
		return exitOK
	}
	var st Status
	if err := json.Unmarshal(body, &st); err != nil {
		return fail(stderr, "status", err)
	}
	st.print(stdout)
	return exitOK
}

// fail prints why a command could not run.
func fail(stderr io.Writer, name string, err error) int {
	fmt.Fprintf(stderr, "wproxy %s: %v\n", name, err)
	return exitFailed
}
