//go:build !unix

package tlsconn

func (s *Socket) tryWrite(p []byte) (int, error) { return s.writeSoon(p) }
