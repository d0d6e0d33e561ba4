package host

import (
	"math"
	"time"

	"wproxy/abi"
)

// A grpcService is what counts of an envoy.config.core.v3.GrpcService, which plugins for
// Envoy name the upstream of a gRPC call by (abi.md 3.4).
type grpcService struct {
	upstream  string // name of the cluster, or the target of google_grpc
	authority string
	timeout   time.Duration // 0: none, or one that is none
	metadata  []abi.Pair
}

// parseGRPCService parses an encoded GrpcService. False: it is none, or it names nothing.
func parseGRPCService(message string) (s grpcService, ok bool) {
	const envoyGRPC, googleGRPC, timeout, metadata = 1, 2, 3, 5
	for f, ok := range abi.ProtoFields(message) {
		switch {
		case !ok:
			return s, false
		case f.Number == envoyGRPC:
			var good bool
			if s.upstream, s.authority, good = protoTexts(f.Bytes); !good {
				return s, false
			}
		case f.Number == googleGRPC: // the last one of the two counts
			var good bool
			if s.upstream, _, good = protoTexts(f.Bytes); !good {
				return s, false
			}
			s.authority = ""
		case f.Number == timeout:
			s.timeout = protoDuration(f.Bytes)
		case f.Number == metadata:
			p, good := protoHeader(f.Bytes)
			if !good {
				return s, false
			}
			s.metadata = append(s.metadata, p)
		}
	}
	return s, s.upstream != "" && isPrintable(s.upstream)
}

// protoTexts returns fields 1 and 2 of a message.
func protoTexts(message string) (first, second string, ok bool) {
	for f, ok := range abi.ProtoFields(message) {
		switch {
		case !ok:
			return "", "", false
		case f.Number == 1:
			first = f.Bytes
		case f.Number == 2:
			second = f.Bytes
		}
	}
	return first, second, true
}

// protoHeader reads an envoy.config.core.v3.HeaderValue: key, value, or raw_value.
func protoHeader(message string) (p abi.Pair, ok bool) {
	for f, ok := range abi.ProtoFields(message) {
		switch {
		case !ok:
			return p, false
		case f.Number == 1:
			p.Name = lowerASCII(f.Bytes)
		case f.Number == 2, f.Number == 3 && f.Bytes != "":
			p.Value = f.Bytes
		}
	}
	return p, true
}

func lowerASCII(s string) string { return string(appendLower(nil, s)) }

// protoDuration reads a google.protobuf.Duration; 0 if it is none that a call can have.
func protoDuration(message string) time.Duration {
	var seconds, nanos int64
	for f, ok := range abi.ProtoFields(message) {
		switch {
		case !ok:
			return 0
		case f.Number == 1:
			seconds = int64(f.Value) //nolint:gosec // two's complement, as the encoding has it
		case f.Number == 2:
			nanos = int64(f.Value) //nolint:gosec // the same
		}
	}
	const second = int64(time.Second)
	if seconds < 0 || nanos < 0 || nanos >= second || seconds > math.MaxInt64/second-1 {
		return 0
	}
	return time.Duration(seconds*second + nanos)
}
