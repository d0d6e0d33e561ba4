package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
)

// await starts the app and returns it, or the exit code. It looks after the
// signals meanwhile: the first to end asks the start to give up, the second does
// not wait for that. A start may be stuck in a file system, or in a plugin.
func await(ctx context.Context, signals chan os.Signal, stderr io.Writer, start func(context.Context) (*app, error)) (*app, int) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		app *app
		err error
	}
	started := make(chan result, 1)
	go func() { // ends with start; if that is stuck, with the process
		a, err := start(ctx)
		started <- result{a, err}
	}()
	var ended, reload os.Signal
	for {
		select {
		case r := <-started:
			switch {
			case r.err == nil:
				for _, s := range []os.Signal{reload, ended} {
					if s != nil {
						select { // for the loop
						case signals <- s:
						default: // it has enough to do
						}
					}
				}
				return r.app, exitOK
			case ended != nil && errors.Is(r.err, context.Canceled):
				return nil, exitOK
			case isRefusal(r.err):
				fmt.Fprintf(stderr, "%v\n", r.err)
				return nil, exitRefused
			default:
				return nil, fail(stderr, "run", r.err)
			}
		case s := <-signals:
			switch {
			case s == syscall.SIGHUP:
				reload = s
			case s == syscall.SIGUSR1, s == syscall.SIGUSR2: // it has just begun, or is about to
			case ended != nil:
				return nil, fail(stderr, "run", errTwice)
			default:
				ended = s
				cancel()
			}
		}
	}
}

// A cleanup undoes, last first, what was done before something failed.
type cleanup []func()

func (c *cleanup) add(f func()) { *c = append(*c, f) }

func (c *cleanup) run() {
	for _, f := range slices.Backward(*c) {
		f()
	}
}
