package handover

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Kinds of frames. The old process sends hello, state and rest; the new one prepared, serving
// and failed.
const (
	frameHello    = 'h' // JSON: Hello
	frameState    = 's' // sealed: what the new process begins with
	framePrepared = 'p' // all that takes time is done: the rest is wanted
	frameRest     = 'r' // sealed: what has changed meanwhile
	frameServing  = 'v' // JSON: Serving
	frameFailed   = 'f' // text: why it does not serve
)

// frameHead is the length of a frame's head: its kind and the length of what follows.
const frameHead = 5

// writeFrame writes one frame.
func writeFrame(w io.Writer, kind byte, payload []byte) error {
	head := make([]byte, frameHead, frameHead+min(len(payload), 4096))
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(len(payload))) //nolint:gosec // bounded by readFrame's limit
	if _, err := w.Write(head); err != nil {
		return err
	}
	_, err := w.Write(payload)
	return err
}

// readFrame reads one frame.
func readFrame(r io.Reader) (kind byte, payload []byte, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > frameBytes {
		return 0, nil, fmt.Errorf("a message of %d bytes", n)
	}
	// Not all at once: the length may be wrong.
	var b bytes.Buffer
	if _, err := io.CopyN(&b, r, int64(n)); err != nil {
		return 0, nil, err
	}
	return head[0], b.Bytes(), nil
}

// A sealed state begins with sealMagic, the version of its format, the length of what
// follows, and its checksum (CRC-32, Castagnoli). StateVersion changes when a version that
// does not know the change would misread what is in it; fields that come or go do not.
const (
	sealMagic    = "WPXSTATE"
	StateVersion = 1
	sealHead     = len(sealMagic) + 4 + 4 + 4
)

// Why a state is not used. The process then starts without.
var (
	ErrNoState      = errors.New("it is not a state of wproxy")
	ErrStateVersion = errors.New("its version is not known here")
	ErrStateCorrupt = errors.New("it is corrupt")
	ErrStateSize    = errors.New("it is too large")
)

// Seal encodes v, a struct with exported fields, as a state.
func Seal(v any) ([]byte, error) {
	b := bytes.NewBuffer(make([]byte, sealHead, 4096))
	if err := gob.NewEncoder(b).Encode(v); err != nil {
		return nil, err
	}
	all := b.Bytes()
	if len(all) > MaxState {
		return nil, ErrStateSize
	}
	body := all[sealHead:]
	copy(all, sealMagic)
	binary.BigEndian.PutUint32(all[8:], StateVersion)
	binary.BigEndian.PutUint32(all[12:], uint32(len(body))) //nolint:gosec // bounded above
	binary.BigEndian.PutUint32(all[16:], crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	return all, nil
}

// Open decodes a state into v, a pointer to a struct. After an error v is of no use. Fields
// that v does not have are skipped, and those that the state does not have stay.
func Open(state []byte, v any) error {
	switch {
	case len(state) < sealHead || string(state[:len(sealMagic)]) != sealMagic:
		return ErrNoState
	case binary.BigEndian.Uint32(state[8:]) != StateVersion:
		return fmt.Errorf("version %d: %w", binary.BigEndian.Uint32(state[8:]), ErrStateVersion)
	}
	body := state[sealHead:]
	if len(body) > MaxState {
		return ErrStateSize
	}
	if binary.BigEndian.Uint32(state[12:]) != uint32(len(body)) || //nolint:gosec // bounded above
		binary.BigEndian.Uint32(state[16:]) != crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)) {
		return ErrStateCorrupt
	}
	if err := gob.NewDecoder(bytes.NewReader(body)).Decode(v); err != nil {
		return fmt.Errorf("%w: %w", ErrStateCorrupt, err)
	}
	return nil
}
