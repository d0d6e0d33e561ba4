// Package access writes one line per exchange. The engine fills a [Record] by
// plain assignments; a [Logger] turns it into a line and buffers lines for the
// file. It knows neither routes nor sockets.
package access

import (
	"time"

	"wproxy/core/exchange"
)

// A Record is what is known of one exchange when it is over. Strings may come
// from the client or a plugin: they are escaped and cut when written.
type Record struct {
	TCP       bool      // it is a TCP connection: no method, path and status, and Host is the name that the client has asked for
	Time      time.Time // when the request head had been read
	RequestID string
	Client    string // address of the client, after trust_proxy
	Listener  string
	// ClientCert is the subject of the client's certificate, verified; "": none.
	ClientCert string
	Method     string
	Host       string // authority
	Path       string // target as the client sent it, canonical, with query
	Protocol   string // of the client's message, "HTTP/1.1"
	Status     int    // 499: the client went before an answer
	BytesIn    int64  // body bytes from the client
	BytesOut   int64  // body bytes to the client
	Route      string
	Upstream   string
	Server     string
	Tries      int
	Retried    []string      // why each try but the last was not enough: a kind of failure, or a status; borrowed
	Connect    time.Duration // 0: the connection was there already
	FirstByte  time.Duration // from the start of the last try to the head of the answer
	Total      time.Duration
	Reason     string // why wproxy answered itself, or why the exchange broke off
	GRPC       bool   // the answer was one in gRPC and said how the call had ended
	GRPCStatus int    // with this code, if GRPC
	Referer    string // combined format only
	UserAgent  string // combined format only

	// Fields are what plugins added; a name that is one of the record's own is
	// dropped, so that a plugin cannot forge a status. Plugins is one entry per plugin that ran.
	Fields  []exchange.Field
	Plugins []Plugin

	// Trace and Span are the ids of the exchange's span; zero: there is none.
	Trace [16]byte
	Span  [8]byte
	// Request and Response are the heads' fields, for those that are chosen. Borrowed; nil:
	// there is none.
	Request, Response *exchange.Fields
	// Trapped means that a plugin has trapped, whatever came of it.
	Trapped bool
}

// A Plugin is what one plugin did in an exchange.
type Plugin struct {
	Name    string
	Took    time.Duration // time inside the guest
	Verdict string
}
