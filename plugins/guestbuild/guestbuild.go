// Package guestbuild compiles a plugin written for the Go SDK
// (github.com/tetratelabs/proxy-wasm-go-sdk v0.24.0) with the standard Go toolchain.
// It is what `wproxy plugin build` runs, and what tests of the shipped plugins use
// to get the real .wasm.
//
// The plugin's source is not touched and its module is not changed: the adapter
// (plugins/internal/adapter) is laid over the build with `go build -overlay`, as a
// directory below the plugin's main package that exists only during the build.
// Only the callbacks that the plugin declares are exported, so a host does not
// call, or hold back bodies, for those it leaves to the SDK's defaults. What the
// plugin says about itself (plugin.toml, schema.json) is appended as a custom section;
// package manifest has its form.
//
// It knows nothing of hosts; a result is checked by loading it.
package guestbuild

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"wproxy/plugins/manifest"
)

// Options says what to build. The zero value builds the current directory.
type Options struct {
	// Dir is the directory of the plugin's main package; "" is the current one.
	Dir string
	// Out is the file to write, "" for NAME.wasm in the current directory, where
	// NAME is the base name of Dir. It appears complete or not at all.
	Out string
	// Stderr receives what the go command says, compile errors among it,
	// as it says it; nil discards it.
	Stderr io.Writer
}

// Result is what a build made.
type Result struct {
	// Out is the file that was written.
	Out string
	// Size is its size in bytes.
	Size int64
	// Exports are the callbacks the module exports, sorted.
	Exports []string
	// Manifest is what the module says about itself, made from plugin.toml and
	// schema.json beside the source, where they are, and from the callbacks.
	Manifest *manifest.Manifest
}

var (
	// ErrNoToolchain is returned when there is no go command on the PATH.
	ErrNoToolchain = errors.New("the go command is not on the PATH; building a Go plugin needs Go 1.24 or newer (https://go.dev/dl)")

	// ErrCompile is returned when the go command refused to build; why is what it
	// wrote to Options.Stderr.
	ErrCompile = errors.New("the plugin does not compile")
)

// A SourceError says what about the plugin's source keeps it from being built.
type SourceError struct {
	Dir     string // the directory of the main package
	Problem string // what is wrong, and what to do about it
}

func (e *SourceError) Error() string { return e.Dir + ": " + e.Problem }

// Build compiles the plugin. The error is ErrNoToolchain, ErrCompile, a
// *SourceError, or one of the file system.
func Build(ctx context.Context, o Options) (Result, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return Result{}, fmt.Errorf("plugin directory: %w", err)
	}
	if o.Out == "" {
		o.Out = filepath.Base(dir) + ".wasm"
	}
	out, err := filepath.Abs(o.Out)
	if err != nil {
		return Result{}, fmt.Errorf("output file: %w", err)
	}
	if o.Stderr == nil {
		o.Stderr = io.Discard
	}
	gocmd, err := exec.LookPath("go")
	if err != nil {
		return Result{}, ErrNoToolchain
	}
	if info, err := os.Stat(dir); err != nil {
		return Result{}, fmt.Errorf("plugin directory: %w", err)
	} else if !info.IsDir() {
		return Result{}, &SourceError{dir, "is not a directory"}
	}

	b := builder{gocmd: gocmd, dir: dir, stderr: o.Stderr}
	pkgs, err := b.list(ctx)
	if err != nil {
		return Result{}, err
	}
	if err := checkSDK(dir, pkgs); err != nil {
		return Result{}, err
	}
	u, err := callbacks(pkgs)
	if err != nil {
		return Result{}, err
	}
	exports := sortedExports(&u)
	m, err := readManifest(dir, pkgs[len(pkgs)-1].ImportPath, exports)
	if err != nil {
		return Result{}, err
	}
	direct := u.direct() && sdkStateFits(pkgs)
	lean, err := leanFormat(pkgs)
	if err != nil {
		return Result{}, err
	}
	if err := b.compile(ctx, pkgs[len(pkgs)-1], exports, direct, lean, m, out); err != nil {
		return Result{}, err
	}
	info, err := os.Stat(out)
	if err != nil {
		return Result{}, fmt.Errorf("built module: %w", err)
	}
	return Result{Out: o.Out, Size: info.Size(), Exports: exports, Manifest: m}, nil
}

// builder runs the go command for one plugin.
type builder struct {
	gocmd  string
	dir    string
	stderr io.Writer
}

// command prepares a run of the go command for the guest's platform.
func (b *builder) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, b.gocmd, args...)
	cmd.Dir = b.dir
	// PWD keeps the go command from resolving a symbolic link in dir: the paths in
	// the overlay have to be spelled as it spells them.
	// GOFLAGS of the environment (-mod, -modfile, -tags) would change what is built and
	// what is reported; an empty one would give way to that of `go env -w`, so it is one
	// that build gets anyhow.
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=-trimpath", "PWD="+b.dir)
	return cmd
}

// compile builds the package main with the adapter laid over it.
func (b *builder) compile(ctx context.Context, main listed, exports []string, direct bool, lean map[string][]byte, m *manifest.Manifest, out string) error {
	tmp, err := os.MkdirTemp("", "wproxy-plugin-")
	if err != nil {
		return fmt.Errorf("directory for the adapter: %w", err)
	}
	defer os.RemoveAll(tmp)
	overlay, err := writeOverlay(tmp, main, exports, direct, lean)
	if err != nil {
		return err
	}

	built := filepath.Join(tmp, "plugin.wasm")
	// No -s: it would drop the name section, and with it the function names in the
	// stack of a trap. (The standard linker writes no DWARF for wasm, so -w has
	// nothing to drop.) -trimpath and no version stamp: the same source gives the same bytes,
	// wherever it lies.
	cmd := b.command(ctx, "build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false",
		"-overlay", overlay, "-o", built, ".")
	cmd.Stdout, cmd.Stderr = b.stderr, b.stderr
	if err := runError(ctx, cmd.Run()); err != nil {
		return err
	}
	data, err := os.ReadFile(built) //nolint:gosec // the file that was just built
	if err != nil {
		return fmt.Errorf("built module: %w", err)
	}
	if data, err = manifest.Append(data, m); err != nil {
		return fmt.Errorf("built module: %w", err)
	}
	return write(data, out)
}

// runError is what the end of a run of the go command means.
func runError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return ErrCompile
	}
	return fmt.Errorf("go command: %w", err)
}

// write puts data into the file to; a reader of it sees the old file or the new one,
// never a part.
func write(data []byte, to string) error {
	f, err := os.CreateTemp(filepath.Dir(to), ".wproxy-plugin-*")
	if err != nil {
		return fmt.Errorf("output file: %w", err)
	}
	defer os.Remove(f.Name()) // fails, and may, once it has been renamed
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), to)
	}
	if err != nil {
		return fmt.Errorf("output file: %w", err)
	}
	return nil
}
