package h2

import (
	"golang.org/x/net/http2"

	"wproxy/core/exchange"
)

// Reasons of refusals and errors: stable names for metric labels and log lines.
// Those that package h1 has too have the same names there.
const (
	ReasonBadTarget     = exchange.ReasonBadTarget // :path of no known form, or a bad byte in it
	ReasonBadEscape     = exchange.ReasonBadEscape // bad percent-encoding in the path
	ReasonBadHost       = exchange.ReasonBadHost   // :authority or host is not uri-host[:port]
	ReasonBadMethod     = "bad_method"             // not a token, or too long (501)
	ReasonConnect       = "connect_refused"        // CONNECT (501)
	ReasonTargetTooLong = "target_too_long"        // 414
	ReasonScheme        = "scheme_mismatch"        // another scheme than the connection's
	ReasonHeadTooLarge  = "head_too_large"         // 431
	ReasonTooManyFields = "too_many_fields"        // 431
	ReasonBadField      = "bad_field"              // a bad name
	ReasonBadValue      = "bad_field_value"        // control bytes, or space at an end
	ReasonNoHost        = "missing_host"           // neither :authority nor host
	ReasonRepeatedHost  = "repeated_host"
	ReasonHosts         = "conflicting_host" // :authority and host disagree
	ReasonBadExpect     = "bad_expect"       // an expectation other than 100-continue (417)
	ReasonBadLength     = "bad_content_length"
	ReasonManyLengths   = "repeated_content_length"
	ReasonBadTrailer    = "bad_trailer"
	ReasonTrailerTooBig = "trailer_too_large" // 431
	ReasonBodyTooLarge  = "body_too_large"    // 413
	ReasonIncompleteReq = "incomplete_request"
	ReasonHeadTimeout   = "head_timeout"  // a field block, frame or preface that takes too long
	ReasonReadTimeout   = "read_timeout"  // silence within a message: 408 from a client, 504 from an upstream
	ReasonWriteTimeout  = "write_timeout" // the other end does not read, or keeps its window shut
	ReasonDeadline      = "timeout"       // the deadline of the whole exchange: 504
	ReasonReset         = "reset"         // Reset was called
	ReasonClosed        = "closed"        // the other end closed or reset the connection or stream
	ReasonInterim       = "too_many_interim"
	ReasonWrongLength   = "wrong_length"   // more or less Data than Length, or DATA than content-length
	ReasonOrder         = "bad_call_order" // a bug of the caller: a second head, data before the head

	ReasonPseudo        = "bad_pseudo_field"    // unknown, repeated, missing, or behind a field
	ReasonConnSpecific  = "connection_specific" // connection, transfer-encoding and the like (RFC 9113 8.2.2)
	ReasonBadPreface    = "bad_preface"         // not the preface, or no SETTINGS behind it
	ReasonProtocol      = "h2_protocol"         // frames that RFC 9113 does not allow
	ReasonFlowControl   = "h2_flow_control"     // more bytes than a window allows, or a window beyond its limit
	ReasonFrameSize     = "h2_frame_size"
	ReasonCompression   = "h2_compression"   // a field block that cannot be decoded
	ReasonStreamClosed  = "h2_closed_stream" // frames for a stream that is over
	ReasonTooMany       = "too_many_streams" // more than MAX_CONCURRENT_STREAMS
	ReasonRapidReset    = "rapid_reset"      // streams that are reset again and again, by either end
	ReasonContinuation  = "continuation_flood"
	ReasonControlFlood  = "control_flood" // SETTINGS and PING
	ReasonPriorityFlood = "priority_flood"
	ReasonWindowFlood   = "window_update_flood"
	ReasonUnknownFlood  = "unknown_frame_flood"
	ReasonEmptyData     = "empty_data_flood"
	ReasonTinyData      = "tiny_data_flood"
	ReasonLateFlood     = "late_frame_flood" // DATA or HEADERS of streams that are over, without end
	ReasonBacklog       = "output_backlog"   // it makes us answer, and does not read
	ReasonMemory        = "h2_memory"        // all connections together hold more than the Budget has
	ReasonDead          = "ping_timeout"     // no answer to a keep-alive ping

	ReasonTruncated = "truncated"           // an upstream's message ended too early
	ReasonRefused   = "refused_stream"      // the upstream has not processed the request
	ReasonGoAway    = exchange.ReasonGoAway // the upstream went away before it has seen the request
	ReasonUpgrade   = "upgrade_unsupported" // HTTP/2 has no Upgrade (501)
)

// A connError ends the connection with a GOAWAY.
type connError struct {
	code   http2.ErrCode
	reason string // a Reason constant
}

func (e *connError) Error() string { return "h2: " + e.reason + " (" + e.code.String() + ")" }

// A streamError ends one stream with a RST_STREAM.
type streamError struct {
	id     uint32
	code   http2.ErrCode
	reason string // a Reason constant
}

func (e *streamError) Error() string { return "h2: " + e.reason + " (" + e.code.String() + ")" }

// calm is the error of a peer that does too much of something.
func calm(reason string) error { return &connError{http2.ErrCodeEnhanceYourCalm, reason} }

// protocol is the error of a peer that breaks RFC 9113.
func protocol() error { return &connError{http2.ErrCodeProtocol, ReasonProtocol} }

// A fault is what is wrong with a message that was parsed. The zero fault is none.
type fault struct {
	status int // to answer a request with
	reason string
}

func bad(reason string) fault { return fault{400, reason} }

func (f fault) ok() bool { return f.reason == "" }

// errorCode is the wire's code for why a stream is given up.
func errorCode(c exchange.Code) http2.ErrCode {
	switch c {
	case exchange.CodeNoError:
		return http2.ErrCodeNo
	case exchange.CodeRefused:
		return http2.ErrCodeRefusedStream
	case exchange.CodeInternal:
		return http2.ErrCodeInternal
	default:
		return http2.ErrCodeCancel // no longer wanted, late, or never complete
	}
}
