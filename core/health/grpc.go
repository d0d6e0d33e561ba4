package health

import (
	"context"
	"encoding/binary"
	"strconv"

	"wproxy/core/exchange"
	"wproxy/core/upstream"
)

// grpcPath is the method of the health checking protocol
// (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).
const grpcPath = "/grpc.health.v1.Health/Check"

// servingStatus names HealthCheckResponse.ServingStatus.
var servingStatus = [...]string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}

// askGRPC calls Health/Check. It needs an upstream that speaks HTTP/2: over
// HTTP/1.1 a server has no place for the trailer in which gRPC says how it went.
func (c *Check) askGRPC(ctx context.Context, up exchange.Upstream, e *upstream.Endpoint) Result {
	q := &exchange.Request{
		Method: "POST", Scheme: e.Scheme, Authority: c.authority(e), Version: exchange.HTTP2, Length: exchange.LengthUnknown,
	}
	q.SetTarget(grpcPath, len(grpcPath))
	for _, f := range []exchange.Field{
		{Name: "user-agent", Value: userAgent},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "te", Value: "trailers"},
		{Name: "grpc-timeout", Value: strconv.FormatInt(max(c.Timeout.Milliseconds(), 1), 10) + "m"},
	} {
		q.Fields.Add(f.Name, f.Value)
	}
	for _, f := range c.Fields {
		q.Fields.Set(f.Name, f.Value)
	}
	if err := up.Head(q, false); err != nil {
		return bad(ctx, err)
	}
	if err := up.Data(appendHealthRequest(nil, c.Service), true); err != nil {
		return bad(ctx, err)
	}
	a := answer{keep: true}
	if err := up.Feed(&a); err != nil && !a.full {
		return bad(ctx, err)
	}
	return judgeGRPC(&a)
}

// judgeGRPC reads an answer: status 200, grpc-status 0 in the trailer (or, if there
// is nothing else to say, in the head), one message that says SERVING.
func judgeGRPC(a *answer) Result {
	code := a.trailer.Value("grpc-status")
	if code == "" {
		code = a.fields.Value("grpc-status")
	}
	switch {
	case a.status != 200:
		return Result{Reason: "status " + strconv.Itoa(a.status)}
	case code == "12": // UNIMPLEMENTED
		return Result{Reason: "no grpc health service"}
	case code != "0":
		return Result{Reason: shorten("grpc-status " + code)}
	}
	status, ok := parseHealthResponse(a.body)
	switch {
	case !ok:
		return Result{Reason: "bad grpc message"}
	case status == 1:
		return Result{OK: true}
	case status < uint64(len(servingStatus)):
		return Result{Reason: servingStatus[status]}
	default:
		return Result{Reason: "status " + strconv.FormatUint(status, 10)}
	}
}

// appendHealthRequest appends a HealthCheckRequest in a gRPC frame: a flag (not
// compressed), the length, and field 1, a string, unless it is empty.
func appendHealthRequest(b []byte, service string) []byte {
	var m []byte
	if service != "" {
		m = append(m, 1<<3|2)
		m = binary.AppendUvarint(m, uint64(len(service)))
		m = append(m, service...)
	}
	b = append(b, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(m))) //nolint:gosec // a name from the configuration
	return append(b, m...)
}

// parseHealthResponse reads the status of a HealthCheckResponse, field 1, in a gRPC
// frame. Absent is 0, as in every proto3 message; unknown fields are skipped.
func parseHealthResponse(b []byte) (status uint64, ok bool) {
	if len(b) < 5 || b[0] != 0 || uint64(binary.BigEndian.Uint32(b[1:])) != uint64(len(b)-5) {
		return 0, false
	}
	for b = b[5:]; len(b) > 0; {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, false
		}
		b = b[n:]
		switch tag & 7 {
		case 0: // varint
			v, n := binary.Uvarint(b)
			if n <= 0 {
				return 0, false
			}
			if tag>>3 == 1 {
				status = v
			}
			b = b[n:]
		case 1, 5: // fixed: 8 or 4 bytes
			size := 8
			if tag&7 == 5 {
				size = 4
			}
			if len(b) < size {
				return 0, false
			}
			b = b[size:]
		case 2: // bytes
			v, n := binary.Uvarint(b)
			if n <= 0 || v > uint64(len(b)-n) {
				return 0, false
			}
			b = b[n+int(v):] //nolint:gosec // it is at most len(b)
		default:
			return 0, false
		}
	}
	return status, true
}
