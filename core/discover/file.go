package discover

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"
)

// MaxFile is the largest file of servers that is read: 10,000 with long names.
const MaxFile = 4 << 20

// A File is a Finder that reads a file when it has changed. Changes are found by
// looking, not by notifications, which network file systems and the links of
// mounted configurations do not give.
type File struct {
	Path  string
	Parse func(content []byte) ([]Server, error)

	read    bool
	info    os.FileInfo // of what was read last
	content []byte
	servers []Server
	err     error
}

// Find implements Finder. The error of a file that has not changed is the same.
func (f *File) Find(context.Context) (Answer, error) {
	info, err := os.Stat(f.Path)
	switch {
	case err != nil:
		f.read = false
		return Answer{}, fmt.Errorf("%s: %w", f.Path, bare(err))
	case !info.Mode().IsRegular():
		f.read = false
		return Answer{}, fmt.Errorf("%s: is not a regular file", f.Path)
	case f.read && same(f.info, info) && time.Since(info.ModTime()) > settled:
		return Answer{Servers: f.servers}, f.err
	}
	content, err := readAll(f.Path)
	if err != nil {
		f.read = false
		return Answer{}, fmt.Errorf("%s: %w", f.Path, bare(err))
	}
	if !f.read || !bytes.Equal(content, f.content) {
		f.servers, f.err = f.Parse(content)
	}
	f.read, f.info, f.content = true, info, content
	return Answer{Servers: f.servers}, f.err
}

func same(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

func readAll(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err == nil && len(b) > MaxFile {
		err = fmt.Errorf("is larger than %d bytes", MaxFile)
	}
	return b, err
}
