// Command wproxy is a reverse proxy whose policies are Proxy-Wasm plugins.
//
// This package is the one place where everything is named: it reads the
// configuration (core/config), makes the running parts from it (build.go), swaps
// them on a reload (reload.go), and talks to a running wproxy (client.go).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"text/tabwriter"

	"wproxy/cmd/wproxy/plugincmd"
	"wproxy/core/config"
)

// version is set by the linker; without, the build information tells.
var version string

// Exit codes, everywhere.
const (
	exitOK      = 0
	exitRefused = 1 // what was asked for is wrong, or was refused
	exitFailed  = 2 // could not run
)

// A command is what the first argument names. run gets the arguments after it.
type command struct {
	name, short string
	run         func(ctx context.Context, args []string, stdout, stderr io.Writer) int
}

// commands lists them in the order of the help text.
func commands() []command {
	return []command{
		{"run", "serve a configuration", runServe},
		{"check", "say what is wrong with a configuration", runCheck},
		{"explain", "say what would become of a request", runExplain},
		{"diff", "say what a reload would change", runDiff},
		{"cache", "remove what is cached from the running wproxy", runCache},
		{"reload", "make the running wproxy read its configuration again", runReload},
		{"upgrade", "hand over to a new process, without closing a port", runUpgrade},
		{"stop", "make the running wproxy drain and end", runStop},
		{"server", "take a server out of traffic, or back into it", runServer},
		{"status", "show what the running wproxy is doing", runStatus},
		{"top", "show it live, on a terminal", runTop},
		{"schema", "print a JSON Schema of wproxy.toml, for editors", runSchema},
		{"plugin", "make, build, test, inspect and measure plugins", plugincmd.Run},
		{"completion", "print a script that completes commands in a shell", runCompletion},
		{"version", "print the version", runVersion},
	}
}

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run is wproxy as a function: args without the program's name, the exit code
// as the result.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return exitFailed
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		usage(stdout)
		return exitOK
	case "-version", "--version":
		return runVersion(ctx, nil, stdout, stderr)
	case completeVerb:
		return runComplete(ctx, args[1:], stdout)
	}
	for _, c := range commands() {
		if c.name != args[0] {
			continue
		}
		if c.name != "run" { // whose log has its own ways
			stdout, stderr = newTerminal(stdout), newTerminal(stderr)
		}
		return c.run(ctx, args[1:], stdout, stderr)
	}
	fmt.Fprintf(stderr, "wproxy: there is no command %q; `wproxy help` lists them\n", args[0])
	return exitFailed
}

func usage(w io.Writer) {
	fmt.Fprint(w, "wproxy is a reverse proxy whose policies are Proxy-Wasm plugins.\n\nUsage: wproxy COMMAND [ARGUMENTS]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-10s %s\n", c.name, c.short)
	}
	fmt.Fprint(w, `
`+"`wproxy COMMAND --help`"+` says more. Without -c FILE the configuration is ./wproxy.toml,
or else /etc/wproxy/wproxy.toml.

Exit codes: 0 fine; 1 refused: what was asked for, such as the configuration, is
wrong; 2 could not run: wrong arguments, no configuration, nobody there.
`)
}

// newFlags makes a flag set that prints help as its usage text.
func newFlags(name, help string, stderr io.Writer) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprintln(fs.Output(), help)
		printFlags(fs)
	}
	return fs
}

// printFlags prints what each flag is, as usage texts write it: two dashes unless the name
// is one letter.
func printFlags(fs *flag.FlagSet) {
	w := tabwriter.NewWriter(fs.Output(), 0, 0, 2, ' ', 0)
	first := true
	fs.VisitAll(func(f *flag.Flag) {
		value, about := flag.UnquoteUsage(f)
		name := "--" + f.Name
		if len(f.Name) == 1 {
			name = "-" + f.Name
		}
		if value != "" {
			name += " " + value
		}
		if first {
			fmt.Fprintln(w)
			first = false
		}
		fmt.Fprintf(w, "  %s\t%s\n", name, about)
	})
	_ = w.Flush() // as for any other output
}

// parseFlags parses args, of which at most maxArgs may be no flags: these are fs.Args()
// then. Flags may stand behind them too, as in `explain GET URL -H ...`, which is how one
// types it. done means that the command is over, with code.
func parseFlags(fs *flag.FlagSet, args []string, maxArgs int, stdout io.Writer) (code int, done bool) {
	for _, a := range args {
		if a == "-h" || a == "-help" || a == "--help" {
			fs.SetOutput(stdout) // asked for: not an error message
		}
	}
	rest := []string{"--"}
	for {
		switch err := fs.Parse(args); {
		case errors.Is(err, flag.ErrHelp):
			return exitOK, true
		case err != nil:
			return exitFailed, true // flag has said why
		}
		if fs.NArg() == 0 {
			break
		}
		rest = append(rest, fs.Arg(0))
		args = fs.Args()[1:]
	}
	if n := maxArgs + 1; len(rest) > n {
		hint := ""
		if maxArgs == 0 && fs.Lookup("c") != nil {
			hint = "; a configuration is named with -c FILE"
		}
		fmt.Fprintf(fs.Output(), "wproxy %s: unexpected argument %q%s\n", fs.Name(), rest[n], hint)
		return exitFailed, true
	}
	_ = fs.Parse(rest) // nothing but arguments
	return exitOK, false
}

// runVersion is `wproxy version`.
func runVersion(_ context.Context, args []string, stdout, stderr io.Writer) int {
	fs := newFlags("version", "Usage: wproxy version\n\nPrints the version of wproxy and of Go.", stderr)
	if code, done := parseFlags(fs, args, 0, stdout); done {
		return code
	}
	fmt.Fprintf(stdout, "wproxy %s %s %s/%s\n", versionString(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return exitOK
}

// runSchema is `wproxy schema`.
func runSchema(_ context.Context, args []string, stdout, stderr io.Writer) int {
	fs := newFlags("schema", `Usage: wproxy schema > wproxy.schema.json

Prints a JSON Schema of the configuration. An editor with a TOML language server
(taplo, Even Better TOML) completes and checks keys when the file begins with

  #:schema ./wproxy.schema.json`, stderr)
	if code, done := parseFlags(fs, args, 0, stdout); done {
		return code
	}
	if _, err := stdout.Write(config.Schema()); err != nil {
		return fail(stderr, "schema", err)
	}
	return exitOK
}

// versionString returns what the linker, or else the module, says.
func versionString() string {
	if version != "" {
		return version
	}
	if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" && bi.Main.Version != "(devel)" {
		return bi.Main.Version
	}
	return "devel"
}
