package plugincmd

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"wproxy/host/plugintest"
	"wproxy/host/tabletest"
	"wproxy/plugins/guestbuild"
)

// tablePattern is what the files with tables are called.
const tablePattern = "*.test.toml"

// testOptions are the flags of `wproxy plugin test`.
type testOptions struct {
	run     string
	names   *regexp.Regexp // of run; nil: all
	verbose bool
	asJSON  bool
}

// test is `wproxy plugin test`.
func test(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fail := failer("test", stderr)
	fs := flag.NewFlagSet("wproxy plugin test", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	var o testOptions
	fs.StringVar(&o.run, "run", "", "")
	fs.BoolVar(&o.verbose, "v", false, "")
	fs.BoolVar(&o.asJSON, "json", false, "")
	rest, err := parse(fs, args)
	if err == nil && o.run != "" {
		if o.names, err = regexp.Compile(o.run); err != nil {
			err = fmt.Errorf("-run: %w", err)
		}
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usageOf("test"))
		return exitOK
	case err != nil:
		return fail(exitFailed, err)
	case len(rest) == 0:
		rest = []string{"."}
	}
	info, err := os.Stat(rest[0])
	if err != nil {
		return fail(exitFailed, err)
	}
	if !info.IsDir() {
		return testModule(&o, rest[0], rest[1:], stdout, stderr)
	}
	if len(rest) > 1 {
		return fail(exitFailed, fmt.Errorf("one directory at a time, not %s", strings.Join(rest, " ")))
	}
	return testDir(ctx, &o, rest[0], stdout, stderr)
}

// testDir tests the Go plugin in a directory.
func testDir(ctx context.Context, o *testOptions, dir string, stdout, stderr io.Writer) int {
	fail := failer("test", stderr)
	tables, err := filepath.Glob(filepath.Join(globEscape(dir), tablePattern))
	if err != nil {
		return fail(exitFailed, err)
	}
	goTests, err := hasGoTests(dir)
	if err != nil {
		return fail(exitFailed, err)
	}
	if len(tables) == 0 && !goTests {
		return fail(exitFailed, fmt.Errorf("%s has neither Go tests nor tables (%s)", dir, tablePattern))
	}
	failed := false
	if goTests {
		out := stdout
		if o.asJSON {
			out = stderr
		}
		if err := runGoTests(ctx, o, dir, out, stderr); errors.Is(err, errTestsFail) {
			failed = true
		} else if err != nil {
			return fail(exitFailed, err)
		}
	}
	if len(tables) > 0 {
		tmp, err := os.MkdirTemp("", "wproxy-plugin-")
		if err != nil {
			return fail(exitFailed, err)
		}
		defer os.RemoveAll(tmp)
		wasm := filepath.Join(tmp, "plugin.wasm")
		// Built anew: a .wasm that lies about may be of an older source.
		if _, err := guestbuild.Build(ctx, guestbuild.Options{Dir: dir, Out: wasm, Stderr: stderr}); err != nil {
			return fail(buildCode(err), err)
		}
		if code := runTables(o, wasm, tables, stdout, stderr); code != exitOK {
			return code
		}
	}
	if failed {
		return exitRefused
	}
	return exitOK
}

// testModule tests a .wasm with tables: those that are named, or else those beside it.
func testModule(o *testOptions, wasm string, tables []string, stdout, stderr io.Writer) int {
	fail := failer("test", stderr)
	if len(tables) == 0 {
		dir := filepath.Dir(wasm)
		var err error
		if tables, err = filepath.Glob(filepath.Join(globEscape(dir), tablePattern)); err != nil {
			return fail(exitFailed, err)
		}
		if len(tables) == 0 {
			return fail(exitFailed, fmt.Errorf("there are no tables (%s) in %s; name them, or put them there", tablePattern, dir))
		}
	}
	return runTables(o, wasm, tables, stdout, stderr)
}

// globEscape keeps filepath.Glob from reading patterns into the name of a directory.
func globEscape(dir string) string {
	return regexp.MustCompile(`[*?\[\\]`).ReplaceAllString(dir, `\$0`)
}

func hasGoTests(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool { return strings.HasSuffix(e.Name(), "_test.go") }), nil
}

// errTestsFail says that Go tests fail; what and why they have written themselves.
var errTestsFail = errors.New("the Go tests fail")

// runGoTests runs the plugin's own Go tests, on this machine and not in a guest.
func runGoTests(ctx context.Context, o *testOptions, dir string, stdout, stderr io.Writer) error {
	gocmd, err := exec.LookPath("go")
	if err != nil {
		return guestbuild.ErrNoToolchain
	}
	args := []string{"test"}
	if o.run != "" {
		args = append(args, "-run", o.run)
	}
	if o.verbose {
		args = append(args, "-v")
	}
	cmd := exec.CommandContext(ctx, gocmd, append(args, ".")...) //nolint:gosec // the go command
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, stdout, stderr
	err = cmd.Run()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return errTestsFail
	}
	return err
}

// runTables runs tables against a module and tells how they went.
func runTables(o *testOptions, file string, tables []string, stdout, stderr io.Writer) int {
	fail := failer("test", stderr)
	wasm, err := readModule(file)
	if err != nil {
		return fail(exitFailed, err)
	}
	suite, err := tabletest.Load(wasm, tables)
	if err != nil {
		return fail(exitFailed, err)
	}
	results := []tabletest.Result{} // not null in JSON
	passed, failed := 0, 0
	plugintest.Outside(func(t *testing.T) { //nolint:thelper // it is the whole program
		suite.Run(t, o.names, func(r tabletest.Result) {
			if r.OK {
				passed++
			} else {
				failed++
			}
			if o.asJSON {
				results = append(results, r)
			} else {
				writeResult(stdout, r, o.verbose)
			}
		})
	})
	if o.asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(results); err != nil {
			return fail(exitFailed, err)
		}
	}
	switch {
	case passed+failed == 0:
		return fail(exitFailed, fmt.Errorf("no test matches -run %q", o.run))
	case failed > 0:
		fmt.Fprintf(stderr, "%d passed, %d failed\n", passed, failed)
		return exitRefused
	}
	if !o.asJSON {
		fmt.Fprintf(stdout, "ok  %d passed\n", passed)
	}
	return exitOK
}

// writeResult tells how a case went: one that passed in a line, if at all, and one that failed
// with what was wanted (-) and what was there (+).
func writeResult(w io.Writer, r tabletest.Result, verbose bool) {
	if r.OK {
		if verbose {
			fmt.Fprintf(w, "ok    %s:%d  %s\n", r.File, r.Line, r.Name)
		}
		return
	}
	fmt.Fprintf(w, "FAIL  %s:%d  %s\n", r.File, r.Line, r.Name)
	for _, f := range r.Failures {
		at := ""
		if f.Line != r.Line {
			at = fmt.Sprintf(", in the step at line %d", f.Line)
		}
		fmt.Fprintf(w, "    %s%s\n      - %s\n      + %s\n", f.What, at, indent(f.Want), indent(f.Got))
	}
	if len(r.Log) > 0 {
		fmt.Fprint(w, "    the log\n")
	}
	for _, l := range r.Log {
		fmt.Fprintf(w, "      %s\n", indent(l))
	}
}

func indent(s string) string { return strings.ReplaceAll(s, "\n", "\n        ") }
