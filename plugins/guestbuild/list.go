package guestbuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// sdkPath is the import path below which the SDK's packages are.
const sdkPath = "github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm"

// sdkVersion is the version of the SDK the adapter is written for.
const sdkVersion = "v0.24.0"

// listed is what `go list -json` says of a package.
type listed struct {
	Dir        string
	ImportPath string
	Name       string
	Standard   bool
	GoFiles    []string
	Imports    []string
	Module     *struct{ Dir string }
	Error      *struct{ Err string }
}

// sdk reports whether the package is a part of the SDK.
func (p *listed) sdk() bool {
	return p.ImportPath == sdkPath || strings.HasPrefix(p.ImportPath, sdkPath+"/")
}

// list returns the plugin's packages, dependencies first, the main package last.
func (b *builder) list(ctx context.Context) ([]listed, error) {
	cmd := b.command(ctx, "list", "-e", "-deps",
		"-json=Dir,ImportPath,Name,Standard,GoFiles,Imports,Module,Error", ".")
	var said strings.Builder
	cmd.Stderr = io.MultiWriter(b.stderr, &said)
	out, err := cmd.Output()
	if err = runError(ctx, err); errors.Is(err, ErrCompile) {
		// With -e it fails only where there is nothing to list: no go.mod, mostly.
		return nil, &SourceError{b.dir, "is not a package the go command can find (" + strings.TrimSpace(said.String()) + ")"}
	} else if err != nil {
		return nil, err
	}
	var pkgs []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("output of go list: %w", err)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) == 0 {
		return nil, &SourceError{b.dir, "has no Go package"}
	}
	return pkgs, b.check(pkgs)
}

// check reports what keeps the listed packages from being a plugin.
func (b *builder) check(pkgs []listed) error {
	main := &pkgs[len(pkgs)-1]
	switch {
	case main.Name == "" || len(main.GoFiles) == 0 && main.Name == "main":
		return &SourceError{b.dir, "has no Go files for GOOS=wasip1 GOARCH=wasm" + because(main)}
	case main.Name != "main":
		return &SourceError{b.dir, "is package " + main.Name + "; a plugin is a package main"}
	case main.Module == nil:
		return &SourceError{b.dir, "is in no module; run `go mod init` and `go get " + strings.TrimSuffix(sdkPath, "/proxywasm") + "@" + sdkVersion + "` there"}
	}
	for i := range pkgs {
		p := &pkgs[i]
		if p.Error == nil {
			continue
		}
		if p.sdk() {
			return &SourceError{b.dir, "imports the SDK, but its module does not have it; run `go get " +
				strings.TrimSuffix(sdkPath, "/proxywasm") + "@" + sdkVersion + "` there" + because(p)}
		}
		return &SourceError{b.dir, "the go command says: " + p.Error.Err}
	}
	return nil
}

// because appends what the go command said of a package, if it said something.
func because(p *listed) string {
	if p.Error == nil {
		return ""
	}
	return " (" + p.Error.Err + ")"
}
