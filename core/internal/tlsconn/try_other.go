//go:build !unix

package tlsconn

func (s *Socket) tryWrite(p []byte) (int, error) { return s.writeSoon(p) }

type waiter struct{}

func (s *Socket) fill() error { return s.fillFrom() }

func (s *Socket) wait() error { return nil }
