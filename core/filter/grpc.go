package filter

import (
	"net/http"
	"strconv"
	"strings"

	"wproxy/core/exchange"
)

// Codes of gRPC that wproxy uses itself (gRPC, "Status codes and their use in gRPC").
const (
	GRPCUnknown          = 2
	GRPCDeadlineExceeded = 4
	GRPCPermissionDenied = 7
	GRPCUnimplemented    = 12
	GRPCInternal         = 13
	GRPCUnavailable      = 14
	GRPCUnauthenticated  = 16
)

// grpcMax is the largest code that gRPC knows.
const grpcMax = 16

// reasonTimeout is the reason of a 504 for the deadline of the whole exchange, which
// in gRPC has a code of its own.
const reasonTimeout = "timeout"

// IsGRPC reports whether the client speaks gRPC, and so expects every answer in it:
// its request is a POST with a content-type of application/grpc, with or without a
// "+" and a format (gRPC over HTTP2, "Requests"). gRPC-Web is not gRPC. It is decided
// once, by the request as it came: what a filter makes of it does not change what the
// client understands.
func (x *Exchange) IsGRPC() bool {
	x.Mu.Lock()
	defer x.Mu.Unlock()
	if x.grpc == grpcOpen {
		x.grpc = grpcNo
		if r := x.Request; r != nil && r.Method == http.MethodPost && IsGRPCType(r.Fields.Value("content-type")) {
			x.grpc = grpcYes
		}
	}
	return x.grpc == grpcYes
}

// The states of Exchange.grpc.
const (
	grpcOpen = iota // nobody has looked yet
	grpcNo
	grpcYes
)

// IsGRPCType reports whether a content-type is that of gRPC, whatever its messages are in.
func IsGRPCType(contentType string) bool {
	const prefix = "application/grpc"
	if len(contentType) < len(prefix) || !exchange.EqualFold(contentType[:len(prefix)], prefix) {
		return false
	}
	rest := contentType[len(prefix):]
	return rest == "" || rest[0] == '+' || rest[0] == ';'
}

// GRPCCode returns the gRPC status of an answer with an HTTP status (gRPC, "HTTP to gRPC
// Status Code Mapping"). reason may be empty. The mapping is for clients, which cannot tell
// why there was a 504; where it is the deadline of the exchange, wproxy can.
func GRPCCode(status int, reason string) int {
	switch status {
	case http.StatusBadRequest:
		return GRPCInternal
	case http.StatusUnauthorized:
		return GRPCUnauthenticated
	case http.StatusForbidden:
		return GRPCPermissionDenied
	case http.StatusNotFound:
		return GRPCUnimplemented
	case http.StatusGatewayTimeout:
		if reason == reasonTimeout {
			return GRPCDeadlineExceeded
		}
		return GRPCUnavailable
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable:
		return GRPCUnavailable
	}
	return GRPCUnknown
}

// SetGRPCHead makes of h the head of a trailers-only answer, which ends the message: the
// status travels in its fields (gRPC over HTTP2, "Responses"). message is percent-encoded.
func SetGRPCHead(h *exchange.Response, code int, message string) {
	h.Status = http.StatusOK
	h.Fields.Add("content-type", "application/grpc")
	AddGRPCStatus(&h.Fields, code, message)
}

// AddGRPCStatus adds to f, a trailer or the head of a trailers-only answer, the fields that
// say how a call has ended.
func AddGRPCStatus(f *exchange.Fields, code int, message string) {
	f.Add("grpc-status", strconv.Itoa(code))
	if message != "" {
		f.Add("grpc-message", percentEncode(message))
	}
}

// GRPCStatusOf returns the status in a trailer or the head of a trailers-only answer. False
// without one, or with one that gRPC does not know.
func GRPCStatusOf(f *exchange.Fields) (code int, ok bool) {
	v, ok := f.Get("grpc-status")
	if !ok || len(v) == 0 || len(v) > 2 {
		return 0, false
	}
	for i := range len(v) {
		if v[i] < '0' || v[i] > '9' {
			return 0, false
		}
		code = code*10 + int(v[i]-'0')
	}
	return code, code <= grpcMax
}

// AppendGRPCMessage appends what an answer of wproxy's own says to a client that speaks
// gRPC: its reason, and where to find the exchange in the log.
func (x *Exchange) AppendGRPCMessage(b []byte, status int, reason string) []byte {
	if reason == "" {
		reason = http.StatusText(status)
	}
	b = append(b, reason...)
	b = append(b, "; request id "...)
	return append(b, x.RequestID...)
}

// percentEncode encodes a grpc-message (gRPC over HTTP2, "Responses"): bytes that are not
// printable ASCII, and the percent sign.
func percentEncode(s string) string {
	const hex = "0123456789ABCDEF"
	plain := true
	for i := range len(s) {
		plain = plain && s[i] >= ' ' && s[i] <= '~' && s[i] != '%'
	}
	if plain {
		return s
	}
	out := make([]byte, 0, len(s)+8)
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			out = append(out, '%', hex[c>>4], hex[c&15])
		} else {
			out = append(out, c)
		}
	}
	return string(out)
}

// PercentDecode decodes a grpc-message. What is not well encoded stays as it is, since an error
// in the text about an error helps nobody.
func PercentDecode(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi >= 0 && lo >= 0 {
				out = append(out, byte(hi<<4|lo))
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

// unhex returns what a hexadecimal digit stands for, or -1.
func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
