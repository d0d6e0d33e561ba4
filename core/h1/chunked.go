package h1

import "wproxy/core/exchange"

// A chunked decodes the chunked transfer coding (RFC 9112 7.1) up to and with
// the line of the last chunk; the trailer section follows. It sees one byte
// after the other, so that it does not matter how they arrive. The zero value
// is ready.
type chunked struct {
	state  chunkState
	left   int64 // bytes of data still to come in this chunk; its size while that is read
	line   int   // bytes of this chunk line so far
	excess int   // see maxChunkExcess
}

type chunkState uint8

const (
	chunkSize0  chunkState = iota // first digit of a size
	chunkSize                     // further digits
	chunkBWS                      // white space behind the size
	chunkExt0                     // behind a ";"
	chunkExt                      // inside extensions
	chunkLF                       // LF of a chunk line
	chunkData                     // data
	chunkDataCR                   // CR behind data
	chunkDataLF                   // LF behind data
	chunkDone                     // the last chunk was read
)

// next decodes as much of b as there is and returns the data in it, the number
// of bytes used, and whether the last chunk was among them. Data of several chunks
// is moved together within b.
func (d *chunked) next(b []byte) (data []byte, n int, done bool, f fault) {
	start, end := 0, 0 // b[start:end] is data
	for n < len(b) && d.state != chunkDone {
		if d.state == chunkData {
			m := int(min(int64(len(b)-n), d.left))
			if start == end {
				start, end = n, n+m
			} else {
				end += copy(b[end:], b[n:n+m])
			}
			n += m
			d.left -= int64(m)
			if d.left == 0 {
				d.state = chunkDataCR
			}
			continue
		}
		if !d.step(b[n]) {
			return nil, n, false, bad(ReasonBadChunk)
		}
		n++
	}
	return b[start:end], n, d.state == chunkDone, fault{}
}

// step takes one byte of framing.
func (d *chunked) step(c byte) bool {
	switch d.state {
	case chunkDataCR:
		d.state = chunkDataLF
		return c == '\r'
	case chunkDataLF:
		d.state = chunkSize0
		return c == '\n'
	case chunkLF:
		return c == '\n' && d.endLine()
	default: // the rest of a chunk line
	}
	if d.line++; d.line > maxChunkLine {
		return false
	}
	switch d.state {
	case chunkSize0, chunkSize:
		if v, ok := exchange.HexDigit(c); ok {
			d.state = chunkSize
			if d.left > (1<<63-1)>>4 || d.line > maxChunkDigits {
				return false
			}
			d.left = d.left<<4 | int64(v)
			return true
		}
		if d.state == chunkSize0 {
			return false // RFC 9112 7.1: chunk-size = 1*HEXDIG
		}
		switch {
		case c == ';':
			d.state = chunkExt0
		case c == '\r':
			d.state = chunkLF
		case isOWS(c):
			d.state = chunkBWS
		default:
			return false
		}
	case chunkBWS: // RFC 9112 7.1.1: only in front of an extension
		if c == ';' {
			d.state = chunkExt0
			return true
		}
		return isOWS(c)
	case chunkExt0:
		if isOWS(c) {
			return true
		}
		d.state = chunkExt
		return lowerToken[c] != 0
	case chunkExt:
		if c == '\r' {
			d.state = chunkLF
			return true
		}
		return c >= ' ' && c != 0x7f || c == '\t'
	default: // handled above
	}
	return true
}

// endLine is the end of a chunk line.
func (d *chunked) endLine() bool {
	d.excess += d.line + 3 // LF, and CRLF behind the data
	d.line = 0
	if d.left == 0 {
		d.state = chunkDone
	} else {
		d.excess -= chunkExcessPerChunk + int(min(d.left, maxChunkExcess))
		d.state = chunkData
	}
	d.excess = max(d.excess, 0)
	return d.excess <= maxChunkExcess
}
