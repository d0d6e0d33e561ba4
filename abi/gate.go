package abi

import (
	"encoding/binary"
	"errors"
)

// ForeignGate says, inside of on_configure, which requests of the root context that is
// configured the host may let through without asking the guest: those that a token bucket or a
// window has room for, and those that are exempt from it; and what it answers to others, if that is
// always the same. Its argument is what [AppendGate] makes. There is no result. It takes the grant "counters", and "metrics" if a metric is counted.
//
// The status is BadArgument elsewhere, if the argument is malformed or beyond a bound, if there is
// something in it that the host does not know yet, or if the guest has no on_request_headers that the
// gate could stand in front of. Then there is no gate, or the one that was there before.
const ForeignGate = "wproxy.counter.v1.gate"

// Bounds of a gate.
const (
	MaxGateBytes  = 8192 // of the argument
	MaxGateParts  = 32   // of the key, and of each value
	MaxGateFields = 8
	MaxGateKey    = 256  // bytes of text in the key, names among it
	MaxGateExempt = 64   // conditions
	MaxGateReads  = 16   // parts of the key that are read from the request's head, and names of fields in conditions
	MaxGateSource = 4096 // bytes of a target or a cookie field that a part is looked for in
	MaxGateValues = 1024 // bytes of all that is read from the head for a key
	MaxGateBody   = 2048 // bytes of the body of a refusal
	MaxGateWord   = 128  // bytes of what the log says of one: its details, and its verdict
)

// ErrGate is the error of an argument that is no gate.
var ErrGate = errors.New("malformed gate")

// A GateRecord is a standing order: take Cost tokens from the bucket of Key, as
// [ForeignTakeCounter] does, or add them to its window, as [ForeignAddCounter] does, for each request
// whose head comes to the plugin, and one of Places of its key until its exchange ends, as
// [ForeignAcquireCounter] does. If they are there the guest is not told of the stream: Metric is
// counted and Fields are added to the answer instead. If they are not, or the request lacks a part of
// the key, nothing is taken, and one of Refusals says what becomes of it; if there is none for that, or
// the key is not known, the guest is called as if there were no gate. A request that is
// exempt goes on as well, before any of that: ExemptMetric is counted, and nothing else is done.
type GateRecord struct {
	Interval, Burst int64  // of a bucket, as in a TakeRecord; of a window the width of a slot and the limit, as in an AddRecord
	Cost            int64  // 1 to Burst
	Slots           uint32 // of a window; 0: it is a bucket, or there are only places
	Reserve         int64  // of a bucket: tokens that have to be left, 0 to Burst less Cost
	Metric          uint32 // id of a counter that goes up by one; 0: none
	Key             []GatePart
	Fields          []GateField
	Places          int64      // of a key that requests may hold at a time, as in an AcquireRecord; 0: any number. Without an Interval, a Burst and a Cost nothing else is taken
	PlacesKey       string     // what goes before the bytes of Key in the key of the places
	Missing         []GatePart // the key, of texts and routes, of a request that lacks a part of Key; none: it is the guest's
	Exempt          []GatePart // conditions, any of which is enough
	ExemptMetric    uint32     // as Metric

	Refusals []GateRefusal // by why, which is another one in each
}

// A GateField is a line that is added to the head of the answer, as
// proxy_add_header_map_value would.
type GateField struct {
	Name  string // in lower case; none that is framing, or of one connection
	Value []GatePart
}

// A GatePart is a part of a key, or of a value, or a condition.
type GatePart struct {
	Kind GateKind
	Bits uint32 // GateClient: how many bits of an IPv6 address count, 1 to 128; GateRetry: the least number
	Text string // as Kind says
}

// GateNetwork returns the condition that the client's address is in a network: of its 4 or 16
// bytes, in network order, the first bits are those of addr.
func GateNetwork(addr []byte, bits int) GatePart {
	return GatePart{Kind: GateFrom, Text: string(append([]byte{byte(bits)}, addr...))}
}

// GateEqual returns the condition that the first line of a field is that value.
func GateEqual(name, value string) GatePart {
	return GatePart{Kind: GateIs, Text: name + "\x00" + value}
}

// A GateKind says what a part stands for.
type GateKind uint32

// The kinds of parts. Integers in a key are u32. What is read from the request's head is its length
// and itself. If it is empty the request lacks it, as it does a client that is not known; if it is longer
// than a bound, or what it is in is, the key is not known. Names are in lower case, but for those of
// cookies and parameters, which are looked for as they are.
const (
	GateText      GateKind = iota // Text, as it is
	GateRoute                     // of a key: the length of the route's name, and the name
	GateClient                    // of a key: the length of the client's address, and the address in network order, of IPv6 with all but the first Bits zero
	GateRemaining                 // of a value: tokens left, without the Reserve, in decimal
	GateFull                      // of a value, with a bucket: seconds until it is full, rounded up, in decimal
	WatchRoute                    // of the key of a watch: the route's name
	WatchUpstream                 // of the key of a watch: the name of the route's upstream, as in cluster_name; empty if there are several
	GateHeader                    // of a key: the first line of the field Text; "host" stands for :authority, as it does in the map
	GateCookie                    // of a key: in the first line of cookie, the first cookie called Text
	GateQuery                     // of a key: the first query parameter called Text, decoded as name and value are: %XX and +
	GatePath                      // of a key: :path up to the first question mark
	GateMethod                    // of a key: :method
	GateHost                      // of a key: :authority, ASCII letters in lower case
	GateFrom                      // a condition, see GateNetwork
	GateHas                       // a condition: there is a line of the field Text
	GateIs                        // a condition, see GateEqual
	GateRetry                     // of a value of a refusal for GateLimited: seconds until the tokens are there, if nobody takes some, rounded up, but at least Bits, in decimal
)

// Sets of kinds.
const (
	gateKeyKinds = 1<<GateText | 1<<GateRoute | 1<<GateClient |
		1<<GateHeader | 1<<GateCookie | 1<<GateQuery | 1<<GatePath | 1<<GateMethod | 1<<GateHost
	gateMissingKinds = 1<<GateText | 1<<GateRoute
	gateValueKinds   = 1<<GateText | 1<<GateRemaining | 1<<GateFull
	gateRefusedKinds = gateValueKinds | 1<<GateRetry
	gateExemptKinds  = 1<<GateFrom | 1<<GateHas | 1<<GateIs
	watchKeyKinds    = 1<<GateText | 1<<WatchRoute | 1<<WatchUpstream

	gateTextKinds = 1<<GateText | 1<<GateHeader | 1<<GateCookie | 1<<GateQuery | gateExemptKinds // have a Text
)

// in reports whether a kind is in a set.
func (k GateKind) in(set uint32) bool { return k <= GateRetry && set&(1<<k) != 0 }

// Sizes of what stands before the bytes of a gate, of a part and of a field.
const (
	gateHead      = 40
	gatePartHead  = 8
	gateFieldHead = 8
	gateMoreHead  = 40
)

// Numbers of what is taken from.
const (
	gateBucket = 0
	gateWindow = 1
	gateNone   = 2 // a place is all
)

// AppendGate appends the argument of [ForeignGate].
func AppendGate(dst []byte, g *GateRecord) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, g.algorithm())
	dst = binary.LittleEndian.AppendUint32(dst, g.Metric)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(g.Interval))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(g.Burst))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(g.Cost))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(g.Key)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(g.Fields)))
	dst = appendGateFields(appendGateParts(dst, g.Key), g.Fields)
	if !g.more() {
		return dst // what every host with gates knows
	}
	dst = binary.LittleEndian.AppendUint32(dst, g.ExemptMetric)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(g.Exempt)))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(g.Reserve))
	dst = binary.LittleEndian.AppendUint32(dst, g.Slots)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(g.Missing)))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(g.Places))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(g.PlacesKey)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(g.Refusals)))
	dst = appendGateParts(appendGateParts(dst, g.Exempt), g.Missing)
	dst = append(dst, g.PlacesKey...)
	for i := range g.Refusals {
		dst = g.Refusals[i].append(dst)
	}
	return dst
}

// more reports whether there is something to be said after the fields.
func (g *GateRecord) more() bool {
	return g.ExemptMetric != 0 || len(g.Exempt) > 0 || g.Reserve != 0 || g.Slots != 0 || len(g.Missing) > 0 || g.Places != 0 || g.PlacesKey != "" || len(g.Refusals) > 0
}

// algorithm returns the number of what is taken.
func (g *GateRecord) algorithm() uint32 {
	switch {
	case g.Slots > 0:
		return gateWindow
	case g.Places != 0 && g.Interval == 0 && g.Burst == 0 && g.Cost == 0:
		return gateNone
	}
	return gateBucket
}

func appendGateFields(dst []byte, fields []GateField) []byte {
	for i := range fields {
		f := &fields[i]
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(f.Name)))
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(f.Value)))
		dst = appendGateParts(append(dst, f.Name...), f.Value)
	}
	return dst
}

func appendGateParts(dst []byte, parts []GatePart) []byte {
	for i := range parts {
		p := &parts[i]
		n := p.Bits
		if p.Kind.in(gateTextKinds) {
			n = uint32(len(p.Text))
		}
		dst = binary.LittleEndian.AppendUint32(dst, uint32(p.Kind))
		dst = binary.LittleEndian.AppendUint32(dst, n)
		dst = append(dst, p.Text...)
	}
	return dst
}

// ParseGate is the opposite. The strings are parts of args. Numbers of the bucket or window are as
// they came, and so are names and values of fields, conditions, and what refusals say.
func ParseGate(args string) (*GateRecord, error) {
	if len(args) < gateHead || len(args) > MaxGateBytes {
		return nil, ErrGate
	}
	g := &GateRecord{Metric: le32(args[4:]), Interval: le64(args[8:]), Burst: le64(args[16:]), Cost: le64(args[24:])}
	parts, fields := le32(args[32:]), le32(args[36:])
	if parts > MaxGateParts || fields > MaxGateFields {
		return nil, ErrGate
	}
	key, rest, ok := parseGateParts(args[gateHead:], parts, gateKeyKinds)
	if !ok {
		return nil, ErrGate
	}
	if g.Key = key; textOf(key) > MaxGateKey {
		return nil, ErrGate
	}
	if g.Fields, rest, ok = parseGateFields(rest, fields, gateValueKinds); !ok {
		return nil, ErrGate
	}
	if !g.parseMore(rest) || g.algorithm() != le32(args) {
		return nil, ErrGate
	}
	return g, nil
}

// parseMore reads what follows the fields, which may be nothing.
func (g *GateRecord) parseMore(rest string) (ok bool) {
	if rest == "" {
		return true
	}
	if len(rest) < gateMoreHead {
		return false
	}
	g.ExemptMetric, g.Reserve, g.Slots = le32(rest), le64(rest[8:]), le32(rest[16:])
	exempt, missing, places, refusals := le32(rest[4:]), le32(rest[20:]), le32(rest[32:]), le32(rest[36:])
	g.Places = le64(rest[24:])
	if exempt > MaxGateExempt || missing > MaxGateParts {
		return false
	}
	if g.Exempt, rest, ok = parseGateParts(rest[gateMoreHead:], exempt, gateExemptKinds); !ok {
		return false
	}
	if g.Missing, rest, ok = parseGateParts(rest, missing, gateMissingKinds); !ok || textOf(g.Missing) > MaxGateKey {
		return false
	}
	if places > MaxGateKey || int(places) > len(rest) || refusals > uint32(maxGateRefusals) {
		return false
	}
	g.PlacesKey, rest = rest[:places], rest[places:]
	why := GateReason(0)
	for range refusals {
		var r GateRefusal
		if rest, ok = r.parse(rest); !ok || r.Why <= why {
			return false
		}
		g.Refusals, why = append(g.Refusals, r), r.Why
	}
	return rest == "" && g.more()
}

// parseGateFields reads n fields, with parts of kinds in a set.
func parseGateFields(rest string, n, kinds uint32) (list []GateField, after string, ok bool) {
	for range n {
		if len(rest) < gateFieldHead {
			return nil, "", false
		}
		name, parts := uint64(le32(rest)), le32(rest[4:])
		rest = rest[gateFieldHead:]
		if name > uint64(len(rest)) || parts > MaxGateParts {
			return nil, "", false
		}
		f := GateField{Name: rest[:name]}
		if f.Value, rest, ok = parseGateParts(rest[name:], parts, kinds); !ok {
			return nil, "", false
		}
		list = append(list, f)
	}
	return list, rest, true
}

// textOf returns how many bytes of text parts have.
func textOf(parts []GatePart) (n int) {
	for i := range parts {
		n += len(parts[i].Text)
	}
	return n
}

// parseGateParts reads n parts, of kinds in a set.
func parseGateParts(rest string, n, kinds uint32) (parts []GatePart, after string, ok bool) {
	for range n {
		if len(rest) < gatePartHead {
			return nil, "", false
		}
		p, number := GatePart{Kind: GateKind(le32(rest))}, le32(rest[4:])
		rest = rest[gatePartHead:]
		switch {
		case !p.Kind.in(kinds):
			return nil, "", false
		case p.Kind.in(gateTextKinds):
			if uint64(number) > uint64(len(rest)) {
				return nil, "", false
			}
			p.Text, rest = rest[:number], rest[number:]
		case p.Kind == GateClient && number >= 1 && number <= 128, p.Kind == GateRetry:
			p.Bits = number
		case p.Kind == GateClient || number != 0:
			return nil, "", false
		}
		parts = append(parts, p)
	}
	return parts, rest, true
}
