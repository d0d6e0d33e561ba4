package h2

import (
	"cmp"
	"time"

	"wproxy/core/exchange"
)

// ServerOptions are the settings of a Server. The zero value is good.
type ServerOptions struct {
	// Scheme is that of the requests: "http", the default, or "https".
	Scheme string

	MaxHead    int   // bytes of a field section; 0: DefaultMaxHead
	MaxFields  int   // lines of a field section; 0: DefaultMaxFields
	MaxBody    int64 // bytes of a request body; 0: no limit. Beyond it: 413, reason "body_too_large"
	MaxStreams int   // exchanges at a time; 0: DefaultMaxStreams

	HeaderTime   time.Duration // for a field block, from its first byte; 0: DefaultHeaderTime
	Idle         time.Duration // without a stream; 0: DefaultIdle
	ReadTimeout  time.Duration // between bytes of a body; 0: DefaultReadTimeout
	WriteTimeout time.Duration // between bytes of an answer; 0: DefaultWriteTimeout

	// KeepAlive is how long a client with open streams may be silent until it is
	// sent a PING, which it has to answer within PingTime; 0: DefaultServerKeepAlive and
	// DefaultPingTime.
	KeepAlive, PingTime time.Duration

	// Budget, if set, bounds what the clients of all Servers that have it make wproxy
	// hold. Streams beyond it are refused (REFUSED_STREAM), or reset if they have begun
	// (ENHANCE_YOUR_CALM), reason "h2_memory", and windows do not grow.
	Budget *Budget

	// Refused, if set, is told about each request that was refused before the
	// Handler could be called, and about each connection that was ended because
	// of what the client did (Status is 0 then), on the connection's goroutine. r is
	// valid until it returns.
	Refused func(r *Refusal)
}

// common are the options that both ends have.
func (o *ServerOptions) common() options {
	return options{
		MaxHead: cmp.Or(o.MaxHead, DefaultMaxHead), MaxFields: cmp.Or(o.MaxFields, DefaultMaxFields),
		MaxStreams: cmp.Or(o.MaxStreams, DefaultMaxStreams),
		HeaderTime: cmp.Or(o.HeaderTime, DefaultHeaderTime), Idle: cmp.Or(o.Idle, DefaultIdle),
		ReadTimeout:  cmp.Or(o.ReadTimeout, DefaultReadTimeout),
		WriteTimeout: cmp.Or(o.WriteTimeout, DefaultWriteTimeout),
		KeepAlive:    cmp.Or(o.KeepAlive, DefaultServerKeepAlive), PingTime: cmp.Or(o.PingTime, DefaultPingTime),
	}
}

// A Refusal is a request that never became an exchange, or a connection that was
// ended. It has the fields of package h1's.
type Refusal struct {
	Status int       // that was answered; 0: none
	Reason string    // a Reason constant
	Start  time.Time // when the first byte arrived
	Conn   *exchange.Conn

	// What is known of the request; "" where it is not. Target is as sent,
	// shortened to 256 bytes, and may contain any byte.
	Method, Target, Host string
}
