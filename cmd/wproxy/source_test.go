package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFindSource(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if _, err := findSource("a.toml", "127.0.0.1:1"); err == nil {
		t.Error("-c and --to together: no error")
	}
	a, err := findSource("a.toml", "")
	if err != nil || a.file != filepath.Join(dir, "a.toml") || a.String() != "a.toml" {
		t.Errorf("got %+v, %v", a, err)
	}
	if err := os.WriteFile("wproxy.toml", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := findSource("", "")
	if err != nil || d.name != "wproxy.toml" {
		t.Errorf("got %+v, %v, want ./wproxy.toml", d, err)
	}
	to, err := findSource("", "127.0.0.1:1")
	if err != nil || to.String() != "--to 127.0.0.1:1" {
		t.Errorf("got %+v, %v", to, err)
	}
	same, err := findSource("./a.toml", "")
	if err != nil || same.socketName() != a.socketName() {
		t.Error("another name for the same file leads to another socket")
	}
	names := map[string]bool{a.socketName(): true, d.socketName(): true, to.socketName(): true}
	if len(names) != 3 {
		t.Errorf("sockets of different configurations meet: %v", names)
	}
}

func TestPrivateDir(t *testing.T) {
	parent := t.TempDir()
	fresh := filepath.Join(parent, "fresh")
	for range 2 { // made, then found
		if err := privateDir(fresh); err != nil {
			t.Error(err)
		}
	}
	if fi, err := os.Stat(fresh); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("got %v, %v; want mode 0700", fi.Mode(), err)
	}
	open := filepath.Join(parent, "open")
	file := filepath.Join(parent, "file")
	link := filepath.Join(parent, "link")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil { //nolint:gosec // what is to be refused
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(fresh, link); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		open: "can be written by others", file: "is not a directory", link: "is not a directory",
		filepath.Join(parent, "no", "parent"): "no such file",
	} {
		if err := privateDir(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", dir, err, want)
		}
	}
}
