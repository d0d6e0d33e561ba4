package handover

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// protocol is the version of the conversation.
const protocol = 1

// A Hello is the first that the old process says.
type Hello struct {
	Protocol int      `json:"protocol"`
	PID      int      `json:"pid"`
	Version  string   `json:"version"` // of wproxy
	Sockets  []Socket `json:"sockets"` // in the order of the descriptors
}

// Serving is the last that the new process says, when it accepts connections.
type Serving struct {
	PID     int      `json:"pid"`
	Version string   `json:"version"`
	Notes   []string `json:"notes,omitempty"` // what it could not take over
}

// ErrGone is why the new process gives up when the old one has ended, or has given it up.
var ErrGone = errors.New("upgrade: the old process has ended, or has given this one up")

// A Parent is the old process as the new one sees it. Its methods are for one goroutine.
type Parent struct {
	Hello
	State []byte // sealed: what to begin with

	conn net.Conn
}

// newParent reads what the old process says first. files are the sockets.
func newParent(files []*os.File, talk *os.File) (*Inherited, *Parent, error) {
	conn, err := net.FileConn(talk)
	_ = talk.Close() // conn has a copy
	if err != nil {
		return nil, nil, fmt.Errorf("upgrade: %w", err)
	}
	p := &Parent{conn: conn}
	all := &Inherited{}
	if err := p.begin(); err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	for i, f := range files {
		all.add(p.Sockets[i], f)
	}
	return all, p, nil
}

func (p *Parent) begin() error {
	_ = p.conn.SetReadDeadline(time.Now().Add(helloTime)) // reads fail if this does
	kind, text, err := readFrame(p.conn)
	if err != nil {
		return ErrGone
	}
	if kind != frameHello || json.Unmarshal(text, &p.Hello) != nil || p.Protocol != protocol {
		return p.refuse(fmt.Errorf("upgrade: the old process (%s) speaks another protocol (%d, want %d)", p.Version, p.Protocol, protocol))
	}
	if kind, p.State, err = readFrame(p.conn); err != nil || kind != frameState {
		return ErrGone
	}
	return p.conn.SetReadDeadline(time.Time{})
}

// refuse says why there is no upgrade, and returns err.
func (p *Parent) refuse(err error) error {
	p.Fail(err)
	return err
}

// Prepared says that all is ready but the rest of the state, and returns that.
func (p *Parent) Prepared() (rest []byte, err error) {
	if err := p.send(framePrepared, nil); err != nil {
		return nil, ErrGone
	}
	_ = p.conn.SetReadDeadline(time.Now().Add(frameTime)) // as in begin
	kind, rest, err := readFrame(p.conn)
	if err != nil || kind != frameRest {
		return nil, ErrGone
	}
	return rest, nil
}

// Serve says that this process accepts connections now, and ends the conversation.
func (p *Parent) Serve(s Serving) error {
	text, err := json.Marshal(s)
	if err == nil {
		err = p.send(frameServing, text)
	}
	return errors.Join(err, p.conn.Close())
}

// Fail says why this process does not take over, and ends the conversation.
func (p *Parent) Fail(why error) {
	_ = p.send(frameFailed, []byte(why.Error())) // it will see that we end
	_ = p.conn.Close()
}

func (p *Parent) send(kind byte, payload []byte) error {
	_ = p.conn.SetWriteDeadline(time.Now().Add(frameTime)) // as in begin
	return writeFrame(p.conn, kind, payload)
}
