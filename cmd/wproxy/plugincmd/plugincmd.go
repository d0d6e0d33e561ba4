// Package plugincmd is the command `wproxy plugin`: what plugin authors run. Its
// subcommands are new, build, test, inspect and bench.
package plugincmd

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
)

// The exit codes of every wproxy command.
const (
	exitOK      = 0
	exitRefused = 1 // the input is wrong: the plugin does not compile, or fails its tests
	exitFailed  = 2 // it could not be tried: bad usage, no toolchain, no such directory
)

const usage = `Usage: wproxy plugin COMMAND [ARGUMENTS]

  new NAME [--kind request|response|body|service|tcp]
          make the directory NAME with a plugin in Go that builds and passes its
          tests; the kind is what it is an example of (default: request)
  build [-o NAME.wasm] [DIR]
          compile the Go plugin in DIR (default: the current directory) to
          NAME.wasm (default: the name of DIR, in the current directory)
  test [-run PATTERN] [-v] [--json] [DIR | FILE.wasm [FILE.test.toml...]]
          of a directory with a Go plugin: run its Go tests, compile it, and run
          the tables in its *.test.toml files; of a .wasm: run the tables that are
          named, or else those beside it
  inspect [--json] FILE.wasm
          say what is in a plugin, and what it needs
  bench [--config JSON] [--time 1s] [--get PATH] [-H "name: value"] [--json] FILE.wasm
          measure what its callbacks cost in a standard exchange; the settings are
          JSON, or the name of a file with JSON

Exit codes: 0 fine; 1 refused: it does not compile, a test fails; 2 could not run.
`

// usageOf returns the part of usage that is about one subcommand.
func usageOf(name string) string {
	_, text, _ := strings.Cut(usage, "\n  "+name+" ")
	synopsis, text, _ := strings.Cut(text, "\n")
	var b strings.Builder
	b.WriteString("Usage: wproxy plugin " + name + " " + synopsis + "\n\n")
	for line := range strings.Lines(text) {
		about, ok := strings.CutPrefix(line, "          ")
		if !ok {
			break
		}
		b.WriteString(about)
	}
	_, codes, _ := strings.Cut(usage, "\n\nExit")
	return b.String() + "\nExit" + codes
}

// A subcommand is what the first argument names.
type subcommand struct {
	name string
	run  func(ctx context.Context, args []string, stdout, stderr io.Writer) int
}

func subcommands() []subcommand {
	return []subcommand{{"new", newPlugin}, {"build", build}, {"test", test}, {"inspect", inspect}, {"bench", bench}}
}

// Run executes `wproxy plugin ARGS...` and returns the exit code: 0 fine, 1 the plugin
// was refused or fails a test, 2 the command could not run.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitFailed
	}
	var names []string
	for _, c := range subcommands() {
		if c.name == args[0] {
			return c.run(ctx, args[1:], stdout, stderr)
		}
		names = append(names, c.name)
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	fmt.Fprintf(stderr, "wproxy plugin: unknown subcommand %q; there are: %s\n", args[0], strings.Join(names, ", "))
	return exitFailed
}

// failer returns a function that says why a subcommand ends, and with which code.
func failer(name string, stderr io.Writer) func(code int, err error) int {
	return func(code int, err error) int {
		fmt.Fprintf(stderr, "wproxy plugin %s: %v\n", name, err)
		return code
	}
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
