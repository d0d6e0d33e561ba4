package main

import (
	"bytes"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2Speaker speaks HTTP/2 with prior knowledge. Requests may be under way at the same time;
// what is sent belongs to the one that request returned last.
type h2Speaker struct {
	c      *net.TCPConn
	fr     *http2.Framer
	begun  bool
	bodies map[uint32]string // of requests that are not whole
	id     uint32
	left   int // of the body that head has promised
}

func newH2Speaker(c *net.TCPConn) speaker {
	return &h2Speaker{c: c, fr: http2.NewFramer(c, c), bodies: map[uint32]string{}}
}

func (s *h2Speaker) must(err error) {
	if err != nil {
		panic(gone{})
	}
}

func (s *h2Speaker) request() string {
	if !s.begun {
		s.begun = true
		_, err := io.ReadFull(s.c, make([]byte, len(http2.ClientPreface)))
		s.must(err)
		s.must(s.fr.WriteSettings())
	}
	for {
		f, err := s.fr.ReadFrame()
		s.must(err)
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				s.must(s.fr.WriteSettingsAck())
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				s.must(s.fr.WritePing(true, f.Data))
			}
		case *http2.HeadersFrame:
			s.bodies[f.StreamID] = ""
			if f.StreamEnded() {
				return s.whole(f.StreamID)
			}
		case *http2.DataFrame:
			if _, ok := s.bodies[f.StreamID]; ok {
				s.bodies[f.StreamID] += string(f.Data())
				if f.StreamEnded() {
					return s.whole(f.StreamID)
				}
			}
		case *http2.RSTStreamFrame:
			delete(s.bodies, f.StreamID)
		}
	}
}

func (s *h2Speaker) whole(id uint32) string {
	body := s.bodies[id]
	delete(s.bodies, id)
	s.id = id
	return body
}

func (s *h2Speaker) head(status, size int) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, f := range [][2]string{{":status", strconv.Itoa(status)}, {"content-length", strconv.Itoa(size)}} {
		s.must(e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1], Sensitive: true})) // the table stays empty
	}
	s.left = size
	s.must(s.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: b.Bytes(), EndHeaders: true, EndStream: size == 0}))
}

func (s *h2Speaker) body(p string) {
	s.left -= len(p)
	s.must(s.fr.WriteData(s.id, s.left <= 0, []byte(p)))
}

func (s *h2Speaker) raw(p string) {
	_, err := io.WriteString(s.c, p)
	s.must(err)
}

func (s *h2Speaker) drip(gap time.Duration) {
	block := "\x88\x00\x03x-a\x7f\xe9\x06" + strings.Repeat("a", 1000) // :status 200, x-a
	var b bytes.Buffer
	s.must(http2.NewFramer(&b, nil).WriteHeaders(http2.HeadersFrameParam{
		StreamID: s.id, BlockFragment: []byte(block), EndHeaders: true, EndStream: true,
	}))
	for _, c := range b.Bytes() {
		s.raw(string([]byte{c}))
		time.Sleep(gap)
	}
}

func (s *h2Speaker) hang() {
	_, _ = io.Copy(io.Discard, s.c)
	panic(gone{})
}

func (s *h2Speaker) reset() {
	_ = s.c.SetLinger(0)
	panic(gone{})
}
