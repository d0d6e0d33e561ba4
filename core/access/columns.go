package access

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A column is one field of a line of JSON.
type column struct {
	what column0
	name string // of the header field, the cookie, or what a plugin has added
	open string // `,"NAME":"`
}

// key returns `,"NAME":`.
func (c *column) key() string { return c.open[:len(c.open)-1] }

// column0 is what a column has, but for names.
type column0 uint8

const (
	colTime column0 = iota
	colRequestID
	colClient
	colListener
	colClientCert
	colMethod
	colHost
	colPath
	colStatus
	colBytesIn
	colBytesOut
	colRoute
	colUpstream
	colServer
	colTries
	colRetried
	colConnect
	colFirstByte
	colTotal
	colReason
	colGRPC
	colTraceID
	colSpanID
	colAdded   // all that plugins have added
	colPlugins // and what they have done
	// Those below are not there by default.
	colProtocol
	colReferer
	colUserAgent
	// Those below have a name of the reader's choice.
	colHeader
	colResponse
	colCookie
	colOneAdded
)

const (
	lastOfDefault = colPlugins + 1
	named         = colUserAgent + 1
)

// columnNames are the names that columns have in the configuration and in a line.
var columnNames = [named]string{
	"ts", "request_id", "client", "listener", "client_cert", "method", "host", "path", "status", "bytes_in", "bytes_out", "route",
	"upstream", "server", "tries", "retried", "t_connect", "t_first_byte", "t_total", "reason", "grpc_status", "trace_id", "span_id",
	"added", "plugins", "protocol", "referer", "user_agent",
}

// ColumnNames returns the names of all fields that a line of JSON may have, but for
// those with a name of the reader's choice; defaults is how many of them there are by default,
// which are the first.
func ColumnNames() (names []string, defaults int) { return columnNames[:], int(lastOfDefault) }

// Prefixes of columns with a name.
const (
	prefixHeader   = "header:"
	prefixResponse = "response:"
	prefixCookie   = "cookie:"
	prefixAdded    = "added:"
)

var defaultColumns = func() []column {
	all := make([]column, lastOfDefault)
	for i := range all {
		all[i] = newColumn(column0(i), "", columnNames[i]) //nolint:gosec // a few
	}
	return all
}()

func newColumn(what column0, name, key string) column {
	b := append([]byte{','}, '"')
	b = append(appendEscaped(b, key), `":"`...)
	return column{what, name, string(b)}
}

// CheckColumn reports whether name is a field that a line of JSON can have.
func CheckColumn(name string) error {
	_, err := parseColumns([]string{name})
	return err
}

// parseColumns parses names; none are those of the default.
func parseColumns(names []string) ([]column, error) {
	if len(names) == 0 {
		return defaultColumns, nil
	}
	var out []column
	there := func(c column) bool {
		return slices.ContainsFunc(out, func(x column) bool { return x.open == c.open })
	}
	for _, name := range names {
		if name == "default" {
			for _, c := range defaultColumns {
				if !there(c) {
					out = append(out, c)
				}
			}
			continue
		}
		c, ok := parseColumn(name)
		if !ok {
			return nil, fmt.Errorf("%q is no field of the access log", name)
		}
		if there(c) {
			return nil, fmt.Errorf("%q is there twice", name)
		}
		out = append(out, c)
	}
	return out, nil
}

func parseColumn(name string) (column, bool) {
	if i := slices.Index(columnNames[:], name); i >= 0 {
		return newColumn(column0(i), "", name), true //nolint:gosec // a few
	}
	for _, p := range []struct {
		prefix string
		what   column0
	}{{prefixHeader, colHeader}, {prefixResponse, colResponse}, {prefixCookie, colCookie}, {prefixAdded, colOneAdded}} {
		rest, ok := strings.CutPrefix(name, p.prefix)
		switch {
		case !ok || rest == "":
		case p.what == colOneAdded:
			return newColumn(p.what, rest, rest), !slices.Contains(columnNames[:], rest)
		case p.what == colCookie:
			return newColumn(p.what, rest, name), true
		default:
			return newColumn(p.what, strings.ToLower(rest), strings.ToLower(name)), true
		}
	}
	return column{}, false
}

// appendColumn appends a column with its name, unless there is nothing to be said in it.
func (e *encoder) appendColumn(b []byte, r *Record, c *column) []byte {
	switch c.what {
	case colTime:
		return append(e.appendTime(append(b, c.open...), r.Time), '"')
	case colRequestID:
		return appendString(b, c.open, cut(r.RequestID))
	case colClient:
		return appendString(b, c.open, cut(r.Client))
	case colListener:
		return appendString(b, c.open, r.Listener)
	case colMethod:
		return appendString(b, c.open, cut(r.Method))
	case colHost:
		return appendString(b, c.open, cut(e.hide.Text("host", r.Host)))
	case colPath:
		return appendString(b, c.open, cut(e.hide.Target(r.Path)))
	case colStatus:
		return strconv.AppendInt(append(b, c.key()...), int64(r.Status), 10)
	case colBytesIn:
		return strconv.AppendInt(append(b, c.key()...), r.BytesIn, 10)
	case colBytesOut:
		return strconv.AppendInt(append(b, c.key()...), r.BytesOut, 10)
	case colRoute:
		return appendString(b, c.open, r.Route)
	case colTotal:
		return appendSeconds(append(b, c.key()...), r.Total)
	case colUpstream, colServer, colTries, colRetried, colConnect, colFirstByte:
		return appendTry(b, r, c)
	case colAdded:
		return appendAdded(b, r)
	case colPlugins:
		if len(r.Plugins) > 0 {
			b = appendPlugins(append(b, c.key()...), r.Plugins[:min(len(r.Plugins), maxPlugins)])
		}
		return b
	default:
		return e.appendOptional(b, r, c)
	}
}

// appendTCP is appendColumn for a TCP connection, which has no request: where the method
// would be there is the protocol.
func (e *encoder) appendTCP(b []byte, r *Record, c *column) []byte {
	switch c.what {
	case colMethod:
		return append(b, `,"protocol":"tcp"`...)
	case colPath, colStatus, colFirstByte, colProtocol:
		return b
	default:
		return e.appendColumn(b, r, c)
	}
}

// appendOptional is appendColumn for what many lines have not.
func (e *encoder) appendOptional(b []byte, r *Record, c *column) []byte {
	var s string
	switch c.what {
	case colClientCert:
		s = r.ClientCert
	case colReason:
		s = r.Reason
	case colGRPC:
		if r.GRPC {
			b = strconv.AppendInt(append(b, c.key()...), int64(r.GRPCStatus), 10)
		}
	case colTraceID:
		if r.Trace != [16]byte{} {
			b = append(hex.AppendEncode(append(b, c.open...), r.Trace[:]), '"')
		}
	case colSpanID:
		if r.Span != [8]byte{} {
			b = append(hex.AppendEncode(append(b, c.open...), r.Span[:]), '"')
		}
	case colProtocol:
		s = r.Protocol
	case colReferer:
		s = e.hide.Text("referer", r.Referer)
	case colUserAgent:
		s = e.hide.Text("user-agent", r.UserAgent)
	case colHeader:
		s = e.hide.field(r.Request, c.name)
	case colResponse:
		s = e.hide.field(r.Response, c.name)
	case colCookie:
		s = e.hide.cookie(r.Request, c.name)
	case colOneAdded:
		for i := range r.Fields {
			if r.Fields[i].Name == c.name {
				s = r.Fields[i].Value
			}
		}
	default:
	}
	if s == "" {
		return b
	}
	return appendString(b, c.open, cut(s))
}

// appendTry appends what there is only if an upstream was tried.
func appendTry(b []byte, r *Record, c *column) []byte {
	if r.Upstream == "" {
		return b
	}
	switch c.what {
	case colUpstream:
		return appendString(b, c.open, r.Upstream)
	case colServer:
		return appendString(b, c.open, r.Server)
	case colTries:
		return strconv.AppendInt(append(b, c.key()...), int64(r.Tries), 10)
	case colConnect:
		return appendSeconds(append(b, c.key()...), r.Connect)
	case colFirstByte:
		return appendSeconds(append(b, c.key()...), r.FirstByte)
	default:
		if len(r.Retried) > 0 {
			b = appendList(append(append(b, c.key()...), '['), r.Retried)
		}
		return b
	}
}

// appendAdded appends what plugins have added under names that are free.
func appendAdded(b []byte, r *Record) []byte {
	for i := range r.Fields[:min(len(r.Fields), maxFields)] {
		x := &r.Fields[i]
		if slices.Contains(columnNames[:], x.Name) {
			continue
		}
		b = append(b, `,"`...)
		b = appendEscaped(b, cut(x.Name))
		b = append(b, `":"`...)
		b = append(appendEscaped(b, cut(x.Value)), '"')
	}
	return b
}

// appendString appends a column whose value is a string; open is what is before it.
func appendString(b []byte, open, s string) []byte {
	return append(appendEscaped(append(b, open...), s), '"')
}
