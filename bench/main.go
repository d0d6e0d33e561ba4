package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	quick     bool
	rounds    int
	seconds   int
	only      []string // scenarios; empty: all
	proxies   []string // empty: all that are installed
	wproxy    string   // path of the binary
	dir       string   // of the benchmark: RESULTS.md and out/
	idleConns int
	profile   string // file for a CPU profile of wproxy; "": none is made
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go watchParent(ctx, cancel) // ends with ctx, at the end of main at the latest
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	// Exit code 0 in every case: a benchmark fails no build.
}

// watchParent cancels when the parent has gone: `go run` that is killed does
// not pass the signal on, and what bench has started would stay.
func watchParent(ctx context.Context, cancel context.CancelFunc) {
	parent := os.Getppid()
	for ctx.Err() == nil && os.Getppid() == parent {
		time.Sleep(time.Second)
	}
	cancel()
}

// parseOptions reads the command line.
func parseOptions(args []string, out io.Writer) (options, error) {
	var o options
	var only, proxies string
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.BoolVar(&o.quick, "quick", false, "2 rounds of 2 seconds; the result is not kept")
	fs.IntVar(&o.rounds, "rounds", 5, "rounds per scenario")
	fs.IntVar(&o.seconds, "seconds", 5, "seconds of load per proxy and round")
	fs.StringVar(&only, "only", "", "scenarios to run, separated by commas (default all)")
	fs.StringVar(&proxies, "proxies", "", "proxies to run, separated by commas (default all installed)")
	fs.StringVar(&o.wproxy, "wproxy", "bin/wproxy", "the wproxy binary")
	fs.StringVar(&o.dir, "dir", "bench", "directory of RESULTS.md and out/")
	fs.StringVar(&o.profile, "profile", "", "write a CPU profile of wproxy under all loads to this `file`; the figures are not kept")
	fs.IntVar(&o.idleConns, "idle", idleConnections, "connections in the idle scenario")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	o.only, o.proxies = list(only), list(proxies)
	if o.quick {
		given := make(map[string]bool)
		fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
		if !given["rounds"] {
			o.rounds = 2
		}
		if !given["seconds"] {
			o.seconds = 2
		}
	}
	if o.rounds < 1 || o.seconds < 1 || o.idleConns < 1 {
		return o, errors.New("-rounds, -seconds and -idle are at least 1")
	}
	var known []string
	for _, s := range scenarios() {
		known = append(known, s.name)
	}
	for _, name := range o.only {
		if !slices.Contains(known, name) {
			return o, fmt.Errorf("no scenario %q; there are %s", name, strings.Join(known, ", "))
		}
	}
	return o, nil
}

// list splits a list of names.
func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// run is the whole program.
func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parseOptions(args, out)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(o.dir, "doc.go")); err != nil {
		return fmt.Errorf("run it at the root of the repository: %w", err)
	}
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	if _, err := exec.LookPath("wrk"); err != nil {
		return fmt.Errorf("nothing to do without the load generator: %w", err)
	}
	raiseOpenFiles()
	b := &bench{options: o, out: out, dir: filepath.Join(o.dir, "out")}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	if o.profile != "" {
		b.profiler = &profiler{dir: filepath.Join(b.dir, "profiles")}
		if err := os.MkdirAll(b.profiler.dir, 0o755); err != nil {
			return err
		}
	}
	rep := b.runAll(ctx)
	_ = os.RemoveAll(nginxCacheDir) // in memory, which somebody may want
	if b.profiler != nil {
		if err := b.profiler.merge(ctx, o.profile); err != nil {
			return err
		}
	}
	rep.machine = describeMachine(ctx, b.all)
	text := rep.markdown()
	name := filepath.Join(o.dir, "RESULTS.md")
	if o.quick || o.profile != "" || len(o.only)+len(o.proxies) > 0 || ctx.Err() != nil {
		name = filepath.Join(b.dir, "RESULTS.md") // the kept one is a whole run
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "\n%s\nwritten to %s\n", text, name)
	return errors.Join(err, ctx.Err())
}

// raiseOpenFiles raises the limit of open files, here and for the programs
// started from here, as far as is allowed, up to openFiles.
func raiseOpenFiles() {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return // the idle scenario will say how far it gets
	}
	if l.Max < openFiles { // root may raise it
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: openFiles, Max: openFiles})
	}
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return
	}
	l.Cur = min(l.Max, openFiles)
	// Setting it also makes the Go runtime pass it on to children as it is.
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
}

// openFilesAllowed returns the limit of open files.
func openFilesAllowed() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 1024
	}
	return int(l.Cur)
}
