package h1

import (
	"cmp"
	"context"
	"net"
	"time"

	"wproxy/core/exchange"
)

// ServerOptions are the settings of a Server. The zero value is good.
type ServerOptions struct {
	// Scheme is that of the requests: "http", the default, or "https".
	Scheme string

	MaxHead   int   // bytes of a head; 0: DefaultMaxHead
	MaxFields int   // lines of a head; 0: DefaultMaxFields
	MaxBody   int64 // bytes of a request body; 0: no limit. Beyond it: 413, reason "body_too_large"

	HeaderTime   time.Duration // for a whole head, from its first byte; 0: DefaultHeaderTime
	Idle         time.Duration // between requests; 0: DefaultIdle
	RestAfter    time.Duration // how long to keep a goroutine while there is no request, see Server.Serve; 0: DefaultRestAfter
	ReadTimeout  time.Duration // between bytes of a body; 0: DefaultReadTimeout
	WriteTimeout time.Duration // between bytes of an answer; 0: DefaultWriteTimeout
	TunnelIdle   time.Duration // of a tunnel, where SetTunnelIdle says nothing else; 0: DefaultTunnelIdle
	DrainBytes   int64         // see DefaultDrainBytes; 0: that
	DrainTime    time.Duration // see DefaultDrainTime; 0: that

	// Refused, if set, is told about each request that was refused before the
	// Handler could be called, on the connection's goroutine, after the answer
	// was sent. r is valid until it returns.
	Refused func(r *Refusal)

	// HTTP2, if set, serves connections whose client speaks HTTP/2 from the first
	// byte on (RFC 9113 3.3); otherwise they are refused (505). early is what was read
	// from nc. It is called on the connection's goroutine, which leaves the connection
	// to it for good.
	HTTP2 func(ctx context.Context, nc net.Conn, facts *exchange.Conn, early []byte)

	// Watcher, if set, tells clients that go away during an exchange (rule 11)
	// on connections that are sockets. Without one, they are noticed at the
	// next write. It also wakes connections that rest; without one, none does.
	Watcher *Watcher
}

func (o *ServerOptions) applyDefaults() {
	o.Scheme = cmp.Or(o.Scheme, "http")
	o.MaxHead = cmp.Or(o.MaxHead, DefaultMaxHead)
	o.MaxFields = cmp.Or(o.MaxFields, DefaultMaxFields)
	o.HeaderTime = cmp.Or(o.HeaderTime, DefaultHeaderTime)
	o.Idle = cmp.Or(o.Idle, DefaultIdle)
	o.RestAfter = cmp.Or(o.RestAfter, DefaultRestAfter)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, DefaultReadTimeout)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, DefaultWriteTimeout)
	o.TunnelIdle = cmp.Or(o.TunnelIdle, DefaultTunnelIdle)
	o.DrainBytes = cmp.Or(o.DrainBytes, DefaultDrainBytes)
	o.DrainTime = cmp.Or(o.DrainTime, DefaultDrainTime)
}

// A Refusal is a request that never became an exchange.
type Refusal struct {
	Status int       // that was answered; 0: none, the connection was just closed
	Reason string    // a Reason constant
	Start  time.Time // when the first byte arrived
	Conn   *exchange.Conn

	// What is known of the request; "" where it is not. Target is as sent,
	// shortened to 256 bytes, and may contain any byte.
	Method, Target, Host string
}

// ClientOptions are the settings of connections to upstreams. The zero value
// is good. They are shared and must not change while a connection uses them.
type ClientOptions struct {
	MaxHead   int // bytes of a head; 0: DefaultMaxHead
	MaxFields int // lines of a head; 0: DefaultMaxFields

	ReadTimeout  time.Duration // between bytes of an answer, and until its first; 0: DefaultReadTimeout
	WriteTimeout time.Duration // between bytes of a request; 0: DefaultWriteTimeout
	TunnelIdle   time.Duration // of a tunnel, where SetTunnelIdle says nothing else; 0: DefaultTunnelIdle

	// Watcher, if set, notices upstreams that close idle connections.
	Watcher *Watcher
}

func (o *ClientOptions) maxHead() int               { return cmp.Or(o.MaxHead, DefaultMaxHead) }
func (o *ClientOptions) maxFields() int             { return cmp.Or(o.MaxFields, DefaultMaxFields) }
func (o *ClientOptions) readTimeout() time.Duration { return cmp.Or(o.ReadTimeout, DefaultReadTimeout) }

func (o *ClientOptions) writeTimeout() time.Duration {
	return cmp.Or(o.WriteTimeout, DefaultWriteTimeout)
}

func (o *ClientOptions) tunnelIdle() time.Duration { return cmp.Or(o.TunnelIdle, DefaultTunnelIdle) }
