// Package plugincmd is the command `wproxy plugin`: what plugin authors run. Its
// subcommand is build.
package plugincmd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"wproxy/plugins/guestbuild"
)

// The exit codes of every wproxy command.
const (
	exitOK      = 0
	exitRefused = 1 // the input is wrong: the plugin does not compile
	exitFailed  = 2 // it could not be tried: bad usage, no toolchain, no such directory
)

const usage = `usage: wproxy plugin build [-o NAME.wasm] [DIR]

  build   compile the Go plugin in DIR (default: the current directory) to
          NAME.wasm (default: the name of DIR, in the current directory)
`

// Run executes `wproxy plugin ARGS...` and returns the exit code: 0 fine, 1 the plugin
// was refused, 2 the command could not run.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitFailed
	}
	switch args[0] {
	case "build":
		return build(ctx, args[1:], stdout, stderr)
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	fmt.Fprintf(stderr, "wproxy plugin: unknown subcommand %q; this version has: build\n", args[0])
	return exitFailed
}

// build is `wproxy plugin build`.
func build(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fail := func(code int, err error) int {
		fmt.Fprintf(stderr, "wproxy plugin build: %v\n", err)
		return code
	}
	fs := flag.NewFlagSet("wproxy plugin build", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	out := fs.String("o", "", "file to write")
	dirs, err := parse(fs, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return exitOK
	case err != nil:
		return fail(exitFailed, err)
	case len(dirs) > 1:
		return fail(exitFailed, fmt.Errorf("one directory at a time, not %s", strings.Join(dirs, " ")))
	case len(dirs) == 0:
		dirs = []string{"."}
	}

	r, err := guestbuild.Build(ctx, guestbuild.Options{Dir: dirs[0], Out: *out, Stderr: stderr})
	if err != nil {
		var source *guestbuild.SourceError
		if errors.Is(err, guestbuild.ErrCompile) || errors.As(err, &source) {
			return fail(exitRefused, err)
		}
		return fail(exitFailed, err)
	}
	fmt.Fprintf(stdout, "%s: %.1f MiB, callbacks: %s\n", r.Out, float64(r.Size)/(1<<20), strings.Join(r.Exports, " "))
	return exitOK
}

// parse reads flags before and after the positional arguments, which it returns;
// package flag stops at the first of them.
func parse(fs *flag.FlagSet, args []string) ([]string, error) {
	var rest []string
	for {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		if fs.NArg() == 0 {
			return rest, nil
		}
		rest = append(rest, fs.Arg(0))
		args = fs.Args()[1:]
	}
}
