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

// build is `wproxy plugin build`.
func build(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fail := failer("build", stderr)
	fs := flag.NewFlagSet("wproxy plugin build", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	out := fs.String("o", "", "file to write")
	dirs, err := parse(fs, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usageOf("build"))
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
		return fail(buildCode(err), err)
	}
	fmt.Fprintf(stdout, "%s: %.1f MiB, callbacks: %s\n", r.Out, float64(r.Size)/(1<<20), strings.Join(r.Exports, " "))
	return exitOK
}

// buildCode is the exit code for the error of a build.
func buildCode(err error) int {
	var source *guestbuild.SourceError
	if errors.Is(err, guestbuild.ErrCompile) || errors.As(err, &source) {
		return exitRefused
	}
	return exitFailed
}
