package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"wproxy/core/config"
)

// exitDiffers is the exit code of `wproxy diff --exit-code` if something would change.
const exitDiffers = 3

// A diffReport is the answer of `wproxy diff --json`.
type diffReport struct {
	OK      bool     `json:"ok"`
	Error   string   `json:"error,omitempty"` // why the configuration would be refused
	Changes []change `json:"changes"`
}

// diff says what a reload would change if the main file had this content, nil: as it is.
// What the content refers to is looked for where the main file is, in the environment of
// this process: all is as the reload would find it.
func (a *app) diff(name string, content []byte) (any, error) {
	f, err := a.candidate(name, content)
	if err != nil {
		return nil, err
	}
	if _, err := newPlanner(f); err != nil { // what does not go together
		return nil, err
	}
	next := sideFor(f)
	a.mu.Lock()
	g := a.current
	a.mu.Unlock()
	return diffReport{OK: true, Changes: changes(sideOf(g), next)}, nil
}

// candidate reads what would be the configuration.
func (a *app) candidate(name string, content []byte) (*config.File, error) {
	if content == nil {
		return a.source.load()
	}
	main := a.source.name
	if main == "" { // run --to
		main = defaultFiles[0]
	}
	f, err := config.Parse(main, content)
	if ps, ok := errors.AsType[config.Problems](err); ok && name != "" {
		for i := range ps {
			if ps[i].Pos.File == main {
				ps[i].Pos.File = name
			}
		}
	}
	return f, err
}

// runDiff is `wproxy diff`.
func runDiff(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := newFlags("diff", `Usage: wproxy diff [-c FILE | --to ADDRESS | --socket PATH] [--exit-code] [--json] [NEW]
       wproxy diff [--exit-code] [--json] OLD NEW

Says what a reload would change, and changes nothing: listeners, routes, upstreams and
plugins that come, go or change, with the keys; which connections, instances and
WebSockets are kept; what needs a restart.

With one file the running wproxy is asked what it would do if NEW were its
configuration, without a file what it would do now. Paths and references to the
environment in NEW are the running one's. With two files nobody is asked.

Exit codes: 0 fine, whether or not there are differences; 1 NEW would be refused;
2 could not run; with --exit-code 3 if there are differences.`, stderr)
	find := clientFlags(fs)
	asJSON := fs.Bool("json", false, "write JSON")
	exitCode := fs.Bool("exit-code", false, "end with 3 if there are differences")
	if code, done := parseFlags(fs, args, 2, stdout); done {
		return code
	}
	var r *diffReport
	var err error
	if fs.NArg() == 2 {
		r, err = diffFiles(fs.Arg(0), fs.Arg(1))
	} else {
		r, err = diffRunning(ctx, find, fs.Arg(0))
	}
	if err != nil {
		return fail(stderr, "diff", err)
	}
	if err := r.write(*asJSON, stdout, stderr); err != nil {
		return fail(stderr, "diff", err)
	}
	switch {
	case !r.OK:
		return exitRefused
	case *exitCode && len(r.Changes) > 0:
		return exitDiffers
	}
	return exitOK
}

// diffRunning asks the running wproxy; file "": about its own.
func diffRunning(ctx context.Context, find func() (string, error), file string) (*diffReport, error) {
	var content []byte
	target := "/diff"
	if file != "" {
		var err error
		if content, err = os.ReadFile(file); err != nil { //nolint:gosec // named by the user
			return nil, err
		}
		if len(bytes.TrimSpace(content)) == 0 {
			return nil, fmt.Errorf("%s is empty", file)
		}
		target += "?name=" + url.QueryEscape(file)
	}
	socket, err := find()
	if err != nil {
		return nil, err
	}
	// Modules are read and hashed: what a reload takes longest for is left out.
	body, err := send(ctx, socket, http.MethodPost, target, bytes.NewReader(content), orderTime)
	if err != nil {
		return nil, err
	}
	r := &diffReport{Changes: []change{}}
	if err := json.Unmarshal(body, r); err != nil {
		return nil, fmt.Errorf("the running wproxy does not know this question: is it an older version? %w", err)
	}
	return r, nil
}

// diffFiles compares two files.
func diffFiles(old, next string) (*diffReport, error) {
	var sides [2]side
	for i, name := range []string{old, next} {
		f, err := config.Load(name)
		if err == nil {
			_, err = newPlanner(f)
		}
		var r report
		if err := r.note(err); err != nil {
			return nil, err
		}
		if len(r.problems) > 0 {
			return &diffReport{Error: r.problems.Error(), Changes: []change{}}, nil
		}
		sides[i] = sideFor(f)
	}
	return &diffReport{OK: true, Changes: changes(sides[0], sides[1])}, nil
}

// write tells what r says.
func (r *diffReport) write(asJSON bool, stdout, stderr io.Writer) error {
	if asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	if !r.OK {
		_, err := fmt.Fprintf(stderr, "wproxy diff: a reload would be refused:\n%s\n", r.Error)
		return err
	}
	text := lines(r.Changes)
	if len(text) == 0 {
		text = []string{"nothing would change"}
	}
	_, err := fmt.Fprintln(stdout, strings.Join(text, "\n"))
	return err
}
