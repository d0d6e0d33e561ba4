package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"wproxy/core/config"
)

// Where the configuration is looked for when no file is named.
var defaultFiles = [...]string{"wproxy.toml", "/etc/wproxy/wproxy.toml"}

// A source is where a configuration comes from. Two sources that are equal
// name the same running wproxy.
type source struct {
	file string // absolute; "" with to
	name string // of the file as the user wrote it, for messages
	to   string // the address of `run --to`
}

// sourceFlags adds the flags that name a source.
func sourceFlags(fs *flag.FlagSet) (find func() (source, error)) {
	file := fs.String("c", "", "the configuration `FILE`")
	to := fs.String("to", "", "instead of a file: everything goes to this `ADDRESS`")
	return func() (source, error) { return findSource(*file, *to) }
}

// findSource settles which configuration is meant.
func findSource(file, to string) (source, error) {
	switch {
	case file != "" && to != "":
		return source{}, errors.New("-c and --to exclude each other")
	case to != "":
		return source{to: to}, nil
	case file != "":
		return fileSource(file)
	}
	for _, f := range defaultFiles {
		if _, err := os.Stat(f); err == nil {
			return fileSource(f)
		}
	}
	return source{}, fmt.Errorf("no configuration: there is no ./%s and no %s; name one with -c FILE, or try --to ADDRESS",
		defaultFiles[0], defaultFiles[1])
}

func fileSource(name string) (source, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return source{}, err
	}
	return source{file: abs, name: name}, nil
}

// load reads the configuration.
func (s source) load() (*config.File, error) {
	if s.to != "" {
		return config.ForAddress(s.to)
	}
	return config.Load(s.name)
}

// String returns what messages call it.
func (s source) String() string {
	if s.to != "" {
		return "--to " + s.to
	}
	return s.name
}

// socketName is the name of the admin socket in the runtime directory: another
// one for each source, so that instances do not meet.
func (s source) socketName() string {
	key := s.file
	if s.to != "" {
		key = "--to " + s.to
	}
	sum := sha256.Sum256([]byte(key))
	return "admin-" + hex.EncodeToString(sum[:6]) + ".sock"
}

// runtimeDirs lists where the admin socket may be, best first. A server takes
// the first that it can write to, commands the first that has the socket.
func runtimeDirs() []string {
	var dirs []string
	if d := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(d) {
		dirs = append(dirs, filepath.Join(d, "wproxy"))
	}
	return append(dirs, "/run/wproxy", filepath.Join(os.TempDir(), "wproxy-"+strconv.Itoa(os.Geteuid())))
}

// privateDir makes dir, mode 0700, and refuses one that others could have
// prepared: a directory under /tmp must be ours alone.
func privateDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	fi, err := os.Lstat(dir)
	switch {
	case err != nil:
		return err
	case !fi.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	case fi.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s can be written by others", dir)
	case !ownedByUs(fi):
		return fmt.Errorf("%s belongs to somebody else", dir)
	}
	return nil
}

// unixAddress returns the path of the first unix socket among addresses.
func unixAddress(addresses []string) string {
	for _, a := range addresses {
		if path, ok := strings.CutPrefix(a, "unix:"); ok {
			return path
		}
	}
	return ""
}

// serverSocket returns the path of the admin socket for a server.
func (s source) serverSocket(addresses []string) (string, error) {
	if path := unixAddress(addresses); path != "" {
		return path, nil
	}
	var errs []error
	for _, dir := range runtimeDirs() {
		err := privateDir(dir)
		if err == nil {
			return filepath.Join(dir, s.socketName()), nil
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("no directory for the admin socket: %w", errors.Join(errs...))
}

// clientSocket returns the path of the admin socket for a command. The
// configuration may be broken by now, which is no reason not to find it.
func (s source) clientSocket() (string, error) {
	f, loadErr := s.load()
	if loadErr == nil {
		if path := unixAddress(f.Admin.Address); path != "" {
			return path, nil
		}
	}
	for _, dir := range runtimeDirs() {
		path := filepath.Join(dir, s.socketName())
		if fi, err := os.Lstat(path); err == nil && fi.Mode()&os.ModeSocket != 0 {
			return path, nil
		}
	}
	err := fmt.Errorf("no wproxy is running with %s", s)
	if loadErr != nil {
		return "", fmt.Errorf("%w, and the configuration cannot be read:\n%w", err, loadErr)
	}
	return "", err
}
