package h1

import "wproxy/core/exchange"

// Reasons of refusals and errors: stable names for metric labels and log lines.
// The same names say what was wrong with an upstream's message.
const (
	ReasonBadTarget = exchange.ReasonBadTarget // target of no known form, or a bad byte in it
	ReasonBadEscape = exchange.ReasonBadEscape // bad percent-encoding in the path
	ReasonBadHost   = exchange.ReasonBadHost   // Host or authority is not uri-host[:port]

	ReasonBareLF         = "bare_lf"             // LF without CR in a head, trailer or chunk line
	ReasonBadRequestLine = "bad_request_line"    // not METHOD SP target SP version
	ReasonBadMethod      = "bad_method"          // not a token, or too long (501)
	ReasonConnect        = "connect_refused"     // CONNECT (501)
	ReasonTargetTooLong  = "target_too_long"     // 414
	ReasonBadVersion     = "unsupported_version" // 505
	ReasonScheme         = "scheme_mismatch"     // absolute-form with another scheme than the connection's
	ReasonBadStatusLine  = "bad_status_line"

	ReasonHeadTooLarge  = "head_too_large"  // 431
	ReasonTooManyFields = "too_many_fields" // 431
	ReasonBadField      = "bad_field"       // no colon, a bad name, white space before the colon
	ReasonBadValue      = "bad_field_value" // control bytes
	ReasonObsFold       = "obs_fold"        // a continuation line
	ReasonBadConnection = "bad_connection"  // Connection is not a list of tokens, or a very long one

	ReasonNoHost        = "missing_host"
	ReasonRepeatedHost  = "repeated_host"
	ReasonBadExpect     = "bad_expect"              // an expectation other than 100-continue (417)
	ReasonBadLength     = "bad_content_length"      // not 1*DIGIT below 2^63
	ReasonManyLengths   = "repeated_content_length" // more than one, equal or not
	ReasonBothLengths   = "conflicting_length"      // Content-Length and Transfer-Encoding
	ReasonBadTE         = "bad_transfer_encoding"   // chunked is not exactly once and last, or in HTTP/1.0
	ReasonUnknownTE     = "unknown_transfer_coding" // 501
	ReasonBadChunk      = "bad_chunk"               // size, extension or CRLF
	ReasonBadTrailer    = "bad_trailer"             // a line of the trailer section
	ReasonTrailerTooBig = "trailer_too_large"       // 431
	ReasonBodyTooLarge  = "body_too_large"          // 413
	ReasonIncompleteReq = "incomplete_request"      // FIN or reset before the end of the request
	ReasonHeadTimeout   = "head_timeout"            // 408
	ReasonReadTimeout   = "read_timeout"            // silence within a message: 408 from a client, 504 from an upstream
	ReasonWriteTimeout  = "write_timeout"           // the other end does not read
	ReasonTunnelIdle    = "tunnel_idle"             // neither side of a tunnel has said anything for too long
	ReasonDeadline      = "timeout"                 // the deadline of the whole exchange: 504
	ReasonReset         = "reset"                   // Reset was called
	ReasonClosed        = "closed"                  // the other end closed or reset the connection
	ReasonAlert         = "tls_alert"               // the other end ended TLS with an alert, over the certificate it was shown, say
	ReasonTruncated     = "truncated"               // an upstream's message ended too early
	ReasonUpgrade       = "unexpected_upgrade"      // a 101 that nobody asked for, or to another protocol
	ReasonInterim       = "too_many_interim"        // 1xx heads without end
	ReasonWrongLength   = "wrong_length"            // more or less Data than Length
	ReasonOrder         = "bad_call_order"          // a bug of the caller: a second head, data before the head
)

// A fault is what is wrong with bytes that were parsed. The zero fault is none.
type fault struct {
	status int // to answer a request with
	reason string
}

func bad(reason string) fault { return fault{400, reason} }

func (f fault) ok() bool { return f.reason == "" }
