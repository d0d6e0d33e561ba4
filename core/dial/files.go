package dial

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// A FileError is a file that is no good for TLS.
type FileError struct {
	Key string // "ca", "cert" or "key": the setting that names the file
	Err error  // names the file
}

// Error implements error.
func (e *FileError) Error() string { return e.Key + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.Err }

// files are the files of a TLS, which are read again when they have changed: whoever
// dials looks, at most once per filesAge. A change drops the sessions too, because a
// resumed session goes by what was verified, and shown, at its beginning.
type files struct {
	o *TLSOptions

	mu sync.Mutex
	// Guarded by mu.
	held   *material
	stamps [3]stamp
	told   [3]stamp // of the files that Reloaded was told of last
	looked time.Time
}

// material is what the files hold. Immutable, but for the sessions.
type material struct {
	roots    *x509.CertPool // nil: the system's
	cert     *tls.Certificate
	sessions tls.ClientSessionCache
}

// A stamp tells a file from a changed one.
type stamp struct {
	size     int64
	modified time.Time
	info     os.FileInfo
}

func (s stamp) same(t stamp) bool {
	return s.size == t.size && s.modified.Equal(t.modified) && (s.info == nil) == (t.info == nil) &&
		(s.info == nil || os.SameFile(s.info, t.info))
}

func same(a, b *[3]stamp) bool { return a[0].same(b[0]) && a[1].same(b[1]) && a[2].same(b[2]) }

func openFiles(o *TLSOptions) (*files, error) {
	f := &files{o: o, looked: time.Now()}
	f.stamps = f.look()
	held, err := f.read()
	if err != nil {
		return nil, err
	}
	f.held = held
	return f, nil
}

// current returns what the files hold.
func (f *files) current() *material {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.o.CA == "" && f.o.Cert == "" || time.Since(f.looked) < filesAge {
		return f.held
	}
	f.looked = time.Now()
	now := f.look()
	if same(&now, &f.stamps) {
		return f.held
	}
	held, err := f.read()
	if err == nil || !halfWritten(err) {
		f.stamps = now // else: look again soon, the other half may be on its way
	}
	if err == nil {
		f.held = held
	}
	if again := err != nil && same(&now, &f.told); f.o.Reloaded != nil && !again {
		f.told = now
		f.o.Reloaded(err)
	}
	return f.held
}

// halfWritten reports whether err may be a certificate whose key has not been written
// yet, or the other way.
func halfWritten(err error) bool {
	var fe *FileError
	return errors.As(err, &fe) && fe.Key == "key"
}

func (f *files) look() (s [3]stamp) {
	for i, path := range []string{f.o.CA, f.o.Cert, f.o.Key} {
		if path == "" {
			continue
		}
		if info, err := os.Stat(path); err == nil { // else reading it says why
			s[i] = stamp{info.Size(), info.ModTime(), info}
		}
	}
	return s
}

func (f *files) read() (*material, error) {
	m := &material{sessions: tls.NewLRUClientSessionCache(maxSessions)}
	if f.o.CA != "" {
		pem, err := readFile(f.o.CA)
		if err != nil {
			return nil, &FileError{"ca", err}
		}
		m.roots = x509.NewCertPool()
		if !m.roots.AppendCertsFromPEM(pem) {
			return nil, &FileError{"ca", fmt.Errorf("%s: has no PEM certificate that can be read", f.o.CA)}
		}
	}
	if f.o.Cert == "" {
		return m, nil
	}
	cert, err := readFile(f.o.Cert)
	if err != nil {
		return nil, &FileError{"cert", err}
	}
	key, err := readFile(f.o.Key)
	if err != nil {
		return nil, &FileError{"key", err}
	}
	c, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, &FileError{"key", fmt.Errorf("%s and %s: %w", f.o.Cert, f.o.Key, err)}
	}
	m.cert = &c
	return m, nil
}

// readFile reads a file of sane size.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is no file of at most %d bytes", path, maxFile)
	}
	return os.ReadFile(path)
}
