// Package abi holds the types, names and encodings of Proxy-Wasm 0.1.0, 0.2.0
// and 0.2.1. It is a leaf: host and guests both import it; standard library only.
//
// The numbers of every enum are wire values: they cross the border between guest
// and host as 32-bit integers. A value that no constant names is legal to hold
// and prints as "Type(n)"; whoever receives it decides what it means.
package abi

import "strconv"

type (
	// Status is what every host function returns to the guest.
	Status uint32
	// LogLevel is the severity of a log line, least first.
	LogLevel uint32
	// Action is what a stream callback returns to the host. Which numbers have a
	// meaning depends on the callback: see the constants. Everything but
	// Continue holds the message back, with the one exception of
	// HeadersContinueAndEndStream.
	Action uint32
	// MapType names a header map.
	MapType uint32
	// BufferType names a buffer.
	BufferType uint32
	// StreamType names a direction of a stream.
	StreamType uint32
	// PeerType tells who closed a TCP connection.
	PeerType uint32
	// MetricKind is the kind of a metric.
	MetricKind uint32
	// Version is the ABI version that a guest's marker export announces.
	Version uint32
)

// Statuses. Guests written with the Rust SDK panic on most of those that a
// host function is not documented to return, and a number outside this list is
// undefined behaviour there.
const (
	StatusOK                   Status = 0
	StatusNotFound             Status = 1
	StatusBadArgument          Status = 2
	StatusSerializationFailure Status = 3
	StatusParseFailure         Status = 4
	StatusBadExpression        Status = 5
	StatusInvalidMemoryAccess  Status = 6
	StatusEmpty                Status = 7
	StatusCASMismatch          Status = 8
	StatusResultMismatch       Status = 9
	StatusInternalFailure      Status = 10
	StatusBrokenConnection     Status = 11
	StatusUnimplemented        Status = 12
)

// Log levels.
const (
	LogTrace    LogLevel = 0
	LogDebug    LogLevel = 1
	LogInfo     LogLevel = 2
	LogWarn     LogLevel = 3
	LogError    LogLevel = 4
	LogCritical LogLevel = 5
)

// Actions. 0 and 1 are those of the specification; the others come from the C++
// and AssemblyScript SDKs and differ between header and body callbacks.
const (
	Continue Action = 0
	Pause    Action = 1

	HeadersContinueAndEndStream         Action = 2
	HeadersStopAllIterationAndBuffer    Action = 3
	HeadersStopAllIterationAndWatermark Action = 4

	BodyStopIterationAndWatermark Action = 2
	BodyStopIterationNoBuffer     Action = 3
)

// Header maps.
const (
	MapRequestHeaders           MapType = 0
	MapRequestTrailers          MapType = 1
	MapResponseHeaders          MapType = 2
	MapResponseTrailers         MapType = 3
	MapGRPCInitialMetadata      MapType = 4
	MapGRPCTrailingMetadata     MapType = 5
	MapHTTPCallResponseHeaders  MapType = 6
	MapHTTPCallResponseTrailers MapType = 7
)

// Buffers.
const (
	BufferRequestBody          BufferType = 0
	BufferResponseBody         BufferType = 1
	BufferDownstreamData       BufferType = 2
	BufferUpstreamData         BufferType = 3
	BufferHTTPCallResponseBody BufferType = 4
	BufferGRPCReceive          BufferType = 5
	BufferVMConfiguration      BufferType = 6
	BufferPluginConfiguration  BufferType = 7
	BufferCallData             BufferType = 8 // arguments of a foreign function
)

// BufferFlagEndOfStream is the bit of proxy_get_buffer_status's flags that says
// that nothing follows what the buffer holds.
const BufferFlagEndOfStream uint32 = 1

// Stream directions.
const (
	StreamRequest    StreamType = 0
	StreamResponse   StreamType = 1
	StreamDownstream StreamType = 2
	StreamUpstream   StreamType = 3
)

// Peers.
const (
	PeerUnknown PeerType = 0
	PeerLocal   PeerType = 1
	PeerRemote  PeerType = 2
)

// Metric kinds.
const (
	MetricCounter   MetricKind = 0
	MetricGauge     MetricKind = 1
	MetricHistogram MetricKind = 2
)

// Versions. The zero Version is none of them.
const (
	Version010     Version = 1 + iota // 0.1.0
	Version020                        // 0.2.0
	Version021                        // 0.2.1
	VersionHigress                    // 0.2.100: 0.2.1 and extensions
)

// GRPCNotSet is the grpc_status argument of proxy_send_local_response that
// means: none given.
const GRPCNotSet int32 = -1

var statusNames = [...]string{
	"OK", "NotFound", "BadArgument", "SerializationFailure", "ParseFailure",
	"BadExpression", "InvalidMemoryAccess", "Empty", "CASMismatch", "ResultMismatch", "InternalFailure",
	"BrokenConnection", "Unimplemented",
}

// String returns the name of s, e.g. "NotFound".
func (s Status) String() string { return name("Status", statusNames[:], uint32(s)) }

var logLevelNames = [...]string{"trace", "debug", "info", "warn", "error", "critical"}

// String returns the name of l in lower case, e.g. "warn".
func (l LogLevel) String() string { return name("LogLevel", logLevelNames[:], uint32(l)) }

// Known reports whether l is one of the six levels.
func (l LogLevel) Known() bool { return l <= LogCritical }

// ParseLogLevel returns the level called s (as String prints it).
func ParseLogLevel(s string) (LogLevel, bool) {
	for i, n := range logLevelNames {
		if n == s {
			return LogLevel(i), true
		}
	}
	return 0, false
}

var actionNames = [...]string{"Continue", "Pause"}

// String returns "Continue", "Pause" or "Action(n)".
func (a Action) String() string { return name("Action", actionNames[:], uint32(a)) }

var mapNames = [...]string{
	"RequestHeaders", "RequestTrailers", "ResponseHeaders", "ResponseTrailers",
	"GRPCInitialMetadata", "GRPCTrailingMetadata", "HTTPCallResponseHeaders", "HTTPCallResponseTrailers",
}

// String returns the name of m, e.g. "RequestHeaders".
func (m MapType) String() string { return name("MapType", mapNames[:], uint32(m)) }

// Known reports whether m names a map of the ABI.
func (m MapType) Known() bool { return m <= MapHTTPCallResponseTrailers }

var bufferNames = [...]string{
	"RequestBody", "ResponseBody", "DownstreamData", "UpstreamData", "HTTPCallResponseBody",
	"GRPCReceive", "VMConfiguration", "PluginConfiguration", "CallData",
}

// String returns the name of b, e.g. "RequestBody".
func (b BufferType) String() string { return name("BufferType", bufferNames[:], uint32(b)) }

// Known reports whether b names a buffer of the ABI.
func (b BufferType) Known() bool { return b <= BufferCallData }

var streamNames = [...]string{"Request", "Response", "Downstream", "Upstream"}

// String returns the name of s, e.g. "Request".
func (s StreamType) String() string { return name("StreamType", streamNames[:], uint32(s)) }

// Known reports whether s names a direction of the ABI.
func (s StreamType) Known() bool { return s <= StreamUpstream }

var peerNames = [...]string{"Unknown", "Local", "Remote"}

// String returns the name of p, e.g. "Remote".
func (p PeerType) String() string { return name("PeerType", peerNames[:], uint32(p)) }

var metricNames = [...]string{"Counter", "Gauge", "Histogram"}

// String returns the name of k, e.g. "Counter".
func (k MetricKind) String() string { return name("MetricKind", metricNames[:], uint32(k)) }

// Known reports whether k is one of the three kinds.
func (k MetricKind) Known() bool { return k <= MetricHistogram }

var versionNames = [...]string{"none", "0.1.0", "0.2.0", "0.2.1", "0.2.100"}

// String returns the version in dotted form, e.g. "0.2.1".
func (v Version) String() string { return name("Version", versionNames[:], uint32(v)) }

func name(typ string, names []string, n uint32) string {
	if uint64(n) < uint64(len(names)) {
		return names[n]
	}
	return typ + "(" + strconv.FormatUint(uint64(n), 10) + ")"
}
