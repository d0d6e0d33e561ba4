// Package certs knows which certificate a client is to see, and by which rules the
// client's own is verified.
//
// The nouns: a [Pair] is a certificate with its key, in files; a [Store] has those of
// one listener, chooses by the name that the client asks for (SNI), and follows the
// files: a renewed certificate is live without a reload. A policy is what is asked of
// clients' certificates; see [Store.Policy]. [TicketKeys] let sessions be resumed.
//
// The one rule of use: who opens a Store closes it. certs opens no sockets, and knows
// no requests. Its limits are in limits.go.
package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Pair names the files of one certificate.
type Pair struct {
	Cert string // PEM: the certificate, then the intermediate ones
	Key  string // PEM: its private key, not encrypted

	// ClientCA, if set, is a PEM file of CAs: clients of the names of this certificate
	// have to show one that one of them has signed.
	ClientCA string
	// Optional lets clients without a certificate in; one that is shown is verified.
	Optional bool

	// OCSP, if set, is an OCSP response in DER form, to be stapled.
	OCSP string
}

// Options of a Store. They must not change afterwards.
type Options struct {
	Pairs []Pair // the first is for clients that ask for a name that no other has

	MinVersion uint16        // 0: TLS 1.2, below which nothing goes
	Curves     []tls.CurveID // nil: those of crypto/tls, X25519MLKEM768 first
	Protocols  []string      // ALPN, best first
	Tickets    *TicketKeys   // nil: sessions cannot be resumed

	// Other, if set, is asked for names that no pair has, before the default is taken;
	// nil, nil: it has none either, and with an error the handshake fails. It is called
	// during handshakes, by many goroutines, and must not block for long.
	Other func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// OtherNames are those that Other is for: nothing is asked of their clients.
	OtherNames []string
	// OtherProtocols are for clients that offer one of them and nothing else, whatever
	// the name: Other decides alone. Their handshake is all there is to the connection.
	OtherProtocols []string

	// Changed, if set, is told by the watch about each pair whose files were read anew.
	Changed func(p *Pair, notAfter time.Time)
	// Failed, if set, is told by the watch that files have changed and cannot be used,
	// once for each error: what was read before goes on. Required.
	Failed func(err error)

	Now func() time.Time // nil: time.Now
}

// A FileError is what is wrong with a file of a pair.
type FileError struct {
	Pair *Pair
	Key  string // of the configuration: "cert", "key", "client_ca", "ocsp"
	Path string
	Err  error
}

func (e *FileError) Error() string { return fmt.Sprintf("%s: %s %v", e.Key, e.Path, e.Err) }

func (e *FileError) Unwrap() error { return e.Err }

// A Store has the certificates of one listener. Its methods are safe for concurrent use.
type Store struct {
	// Immutable.
	o               Options
	other, otherOld *tls.Config     // of connections that Other decides about, and of those without TLS 1.3
	hosts           map[string]bool // OtherNames
	stop            chan struct{}
	watch           sync.WaitGroup
	once            sync.Once

	current atomic.Pointer[snapshot]

	mu sync.Mutex
	// Guarded by mu.
	files   map[string]os.FileInfo // as they were when they were last read; nil: missing
	pending bool                   // they have changed since, or could not be used
	told    string                 // the last error that Failed was told
	tickets uint64                 // version of the keys in use
}

// Open reads all files. The error joins a *FileError for each that cannot be used, and
// what else is wrong. Nothing is watched before Watch.
func Open(o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Store{o: o, stop: make(chan struct{})}
	s.other = s.o.base()
	s.other.GetCertificate = beforeSigning(o.Other)
	s.otherOld = withoutTickets(s.other)
	s.hosts = make(map[string]bool, len(o.OtherNames))
	for _, h := range o.OtherNames {
		s.hosts[canonical(h)] = true
	}
	s.files = s.look()
	if _, err := s.read(); err != nil {
		return nil, err
	}
	return s, nil
}

// Watch begins to follow the files. It is called once.
func (s *Store) Watch() {
	s.watch.Go(func() { // ended by Close, which waits
		t := time.NewTicker(WatchInterval)
		defer t.Stop()
		for {
			select {
			case <-s.stop:
				return
			case <-t.C:
				_ = s.Refresh() // Failed was told
			}
		}
	})
}

// Close ends the watch. Connections go on, and the Store can still be asked.
func (s *Store) Close() {
	s.once.Do(func() { close(s.stop) })
	s.watch.Wait()
}

// Refresh looks at the files, as the watch does, and reads them if one has changed, or
// could not be used before. It also does what time asks for: new ticket keys, and an
// OCSP response that has become too old is not stapled any more. The error is why what
// the files hold now is not in use; Failed has been told.
func (s *Store) Refresh() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if files := s.look(); !sameFiles(s.files, files) {
		s.files, s.pending = files, true
	}
	now := s.o.Now()
	cur := s.current.Load()
	switch {
	case s.pending:
		return s.reread(cur)
	case slices.ContainsFunc(cur.all, func(h *host) bool { return cur.stale(h, now) }):
		if next, err := newSnapshot(&s.o, cur.entries, now); err == nil { // it was fine before
			s.use(next)
		}
	default:
		s.rekey(cur)
	}
	return nil
}

// stale reports whether h staples what it must not, or the other way round.
func (s *snapshot) stale(h *host, now time.Time) bool {
	i := slices.Index(s.all, h)
	return s.stapled[i] != h.stapled(now)
}

// reread reads everything anew, and goes on with what there is if that fails. mu is held.
func (s *Store) reread(was *snapshot) error {
	next, err := s.read()
	if err != nil {
		if text := err.Error(); text != s.told {
			s.told = text
			s.o.Failed(err)
		}
		return err // pending: a pair that was half written is read again, although no file changes
	}
	s.pending, s.told = false, ""
	if s.o.Changed == nil {
		return nil
	}
	for i, e := range next.entries {
		if old := was.entries[i]; !e.cert.Leaf.Equal(old.cert.Leaf) || e.policy != old.policy || string(e.staple) != string(old.staple) {
			s.o.Changed(e.pair, e.cert.Leaf.NotAfter)
		}
	}
	return nil
}

// read reads all files and puts them to use.
func (s *Store) read() (*snapshot, error) {
	var entries []*entry
	var errs []error
	for i := range s.o.Pairs {
		e, err := s.o.Pairs[i].load()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		entries = append(entries, e)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	next, err := newSnapshot(&s.o, entries, s.o.Now())
	if err != nil {
		return nil, err
	}
	s.use(next)
	return next, nil
}

// use makes next what is chosen from.
func (s *Store) use(next *snapshot) {
	s.tickets = 0
	s.rekey(next)
	s.current.Store(next)
}

// rekey gives the configs of x the ticket keys of now, if they have others.
func (s *Store) rekey(x *snapshot) {
	if s.o.Tickets == nil {
		return
	}
	keys, version := s.o.Tickets.at(s.o.Now())
	if version == s.tickets {
		return
	}
	for _, h := range x.all {
		h.config.SetSessionTicketKeys(derive(keys, h.policy))
	}
	s.other.SetSessionTicketKeys(derive(keys, ""))
	s.tickets = version
}

// look returns what the files look like. A link is followed: that is how they are
// exchanged in some places.
func (s *Store) look() map[string]os.FileInfo {
	files := map[string]os.FileInfo{}
	for i := range s.o.Pairs {
		p := &s.o.Pairs[i]
		for _, name := range []string{p.Cert, p.Key, p.ClientCA, p.OCSP} {
			if name != "" {
				files[name], _ = os.Stat(name) // nil: missing
			}
		}
	}
	return files
}

// sameFiles compares what look has returned.
func sameFiles(a, b map[string]os.FileInfo) bool {
	for name, x := range a {
		y := b[name]
		switch {
		case x == nil || y == nil:
			if x != nil || y != nil {
				return false
			}
		case !os.SameFile(x, y) || x.Size() != y.Size() || !x.ModTime().Equal(y.ModTime()):
			return false
		}
	}
	return true
}

// Choose returns the settings of a connection whose client has said hello, and what it
// gets; it is for tls.Config.GetConfigForClient.
func (s *Store) Choose(hello *tls.ClientHelloInfo) (*tls.Config, Choice, error) {
	x := s.current.Load()
	if s.o.Other != nil && len(hello.SupportedProtos) == 1 && slices.Contains(s.o.OtherProtocols, hello.SupportedProtos[0]) {
		c, err := s.o.Other(hello)
		if err != nil || c == nil {
			return nil, Choice{}, errors.Join(err, ErrNoCertificate)
		}
		return s.only(c), Choice{Leaf: c.Leaf, Over: true}, nil
	}
	if len(hello.SupportedProtos) == 0 && len(s.o.Protocols) > 0 && !slices.Contains(s.o.Protocols, "http/1.1") {
		return nil, Choice{}, ErrProtocol
	}
	hs, known := x.lookup(canonical(hello.ServerName))
	if !known && s.o.Other != nil {
		c, err := s.o.Other(hello)
		if err != nil {
			return nil, Choice{}, errors.Join(err, ErrNoCertificate)
		}
		if c != nil {
			if !speaks13(hello) {
				return s.otherOld, Choice{Leaf: c.Leaf}, nil
			}
			return s.other, Choice{Leaf: c.Leaf}, nil
		}
	}
	if len(hs) == 0 {
		return nil, Choice{}, ErrNoCertificate
	}
	h := choose(hs, hello)
	if !speaks13(hello) {
		return h.old, h.choice, nil
	}
	return h.config, h.choice, nil
}

// only returns the settings of a connection that is over with its handshake.
func (s *Store) only(c *tls.Certificate) *tls.Config {
	cfg := s.o.base()
	cfg.NextProtos, cfg.SessionTicketsDisabled = s.o.OtherProtocols, true
	cfg.GetCertificate = beforeSigning(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c, nil })
	return cfg
}

// ErrNoCertificate is wrapped by the error of Choose when there is no certificate for a client.
var ErrNoCertificate = errors.New("no certificate")

// ErrProtocol is returned by Choose for a client that offers no protocol, and so means
// HTTP/1.1, where that is not spoken (RFC 9113 3.2: HTTP/2 is always negotiated).
var ErrProtocol = errors.New("the client offers no protocol (ALPN), and HTTP/1.1 is not spoken")

// Policy names what is asked of the certificates of clients that come for a host: ""
// is nothing, and the same text is the same CAs and the same rule. name is a host
// without port, in lower case.
//
// One that no certificate is for is under the rules of the connections that it gets, those
// of the default. But below a wildcard with rules it is under these: routes take
// "*.example.com" for any number of labels, certificates for one (RFC 6125 6.4.3), and who
// protects the one must not leave the rest open. No connection fulfils them.
func (s *Store) Policy(name string) string {
	x := s.current.Load()
	hs, known := x.lookup(name)
	switch {
	case known:
	case s.hosts[name]:
		return ""
	default:
		if p := x.above(name); p != "" {
			return p
		}
	}
	if len(hs) == 0 {
		return ""
	}
	return hs[0].policy
}

// Has reports whether one of the certificates, or Other, is for a name, in lower case.
func (s *Store) Has(name string) bool {
	_, known := s.current.Load().lookup(name)
	return known || s.hosts[name]
}

// A Status is what there is to know of a pair.
type Status struct {
	Pair      *Pair
	Names     []string // that it is for
	NotBefore time.Time
	NotAfter  time.Time
	Bad       string // what is wrong with its dates, "": nothing
}

// Status returns what there is, in the order of the pairs.
func (s *Store) Status() []Status {
	now := s.o.Now()
	var all []Status
	for _, e := range s.current.Load().entries {
		all = append(all, Status{e.pair, e.names, e.cert.Leaf.NotBefore, e.cert.Leaf.NotAfter, e.bad(now)})
	}
	return all
}
