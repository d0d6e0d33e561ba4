package plugintest

import (
	"strconv"
	"strings"

	"wproxy/abi"
	"wproxy/core/exchange"
)

// Fields makes a list of header lines from names and values in turn:
// Fields("accept", "*/*", "x-a", "1").
func Fields(namesAndValues ...string) []abi.Pair {
	if len(namesAndValues)%2 != 0 {
		panic("plugintest: Fields needs a value for each name")
	}
	out := make([]abi.Pair, 0, len(namesAndValues)/2)
	for i := 0; i < len(namesAndValues); i += 2 {
		out = append(out, abi.Pair{Name: strings.ToLower(namesAndValues[i]), Value: namesAndValues[i+1]})
	}
	return out
}

// A Request is a request as a client sends it, or as the upstream has received
// it so far.
type Request struct {
	Method    string // "": GET
	Scheme    string // "": http
	Authority string // "": example.com
	Path      string // with the query; "": /
	Protocol  string // "HTTP/1.0", "HTTP/2", "HTTP/3"; "": HTTP/1.1

	Fields   []abi.Pair // all but the pseudo fields, names in lower case
	Body     []byte
	Trailers []abi.Pair

	// More says, of a request that is sent, that the body goes on: see
	// Stream.Send. A Content-Length among Fields is then what frames the body.
	More bool

	// Ended says, of a request that was received, that it is complete.
	Ended bool

	Client   string // address and port; "": 192.0.2.1:40000
	ClientIP string // the client before proxies that are trusted; "": the address of Client
}

// A Response is a response as the upstream sends it, or as the client has
// received it so far.
type Response struct {
	Status   int // sent: 0 is 200. Received: 0 is none yet
	Fields   []abi.Pair
	Body     []byte
	Trailers []abi.Pair
	More     bool // as in Request
	Ended    bool // as in Request

	// Failure says, of a response that is sent, that the upstream has not made it: it is
	// the proxy's answer to a failure "connect", "reset", "timeout" or "tls".
	Failure string

	// Untried says, of a response that is sent, that no upstream was asked.
	Untried bool

	// Length is, of a response that was received, the body length that its
	// head announced, -1 if it was left open.
	Length int64
}

// Get returns the value of the first field called name, or "".
func (r Request) Get(name string) string { return get(r.Fields, name) }

// Get returns the value of the first field called name, or "".
func (r Response) Get(name string) string { return get(r.Fields, name) }

// All returns the values of all fields called name.
func (r Response) All(name string) []string {
	var out []string
	for _, p := range r.Fields {
		if p.Name == strings.ToLower(name) {
			out = append(out, p.Value)
		}
	}
	return out
}

func get(pairs []abi.Pair, name string) string {
	for _, p := range pairs {
		if p.Name == strings.ToLower(name) {
			return p.Value
		}
	}
	return ""
}

// fill copies pairs into f.
func fill(f *exchange.Fields, pairs []abi.Pair) {
	for _, p := range pairs {
		f.Add(strings.ToLower(p.Name), p.Value)
	}
}

// drain copies f.
func drain(f *exchange.Fields) []abi.Pair {
	var out []abi.Pair
	for _, x := range f.List() {
		out = append(out, abi.Pair{Name: x.Name, Value: x.Value})
	}
	return out
}

// frame gives f the length of a message with body, unless it says one already.
func frame(f *exchange.Fields, body []byte, trailers []abi.Pair, more bool) int64 {
	if v, ok := f.Get("content-length"); ok {
		if n, err := strconv.ParseInt(v, 10, 64); err == nil {
			return n
		}
	}
	if more || len(trailers) > 0 {
		return exchange.LengthUnknown
	}
	if len(body) > 0 {
		f.Add("content-length", strconv.Itoa(len(body)))
	}
	return int64(len(body))
}

func version(protocol string) exchange.Version {
	switch protocol {
	case "HTTP/1.0":
		return exchange.HTTP10
	case "HTTP/2":
		return exchange.HTTP2
	case "HTTP/3":
		return exchange.HTTP3
	default:
		return exchange.HTTP11
	}
}
