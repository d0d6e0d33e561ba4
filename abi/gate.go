package abi

import (
	"encoding/binary"
	"errors"
)

// ForeignGate says, inside of on_configure, which requests of the root context that is
// configured the host may let through without asking the guest: those that a token bucket
// has the tokens for. Its argument is what [AppendGate] makes. There is no result. It takes
// the grant "counters", and "metrics" if a metric is counted.
//
// The status is BadArgument elsewhere, if the argument is malformed or beyond a bound, or if
// the guest has no on_request_headers that the gate could stand in front of.
const ForeignGate = "wproxy.counter.v1.gate"

// Bounds of a gate.
const (
	MaxGateBytes  = 4096 // of the argument
	MaxGateParts  = 32   // of the key, and of each value
	MaxGateFields = 8
	MaxGateKey    = 256 // bytes of text in the key
)

// ErrGate is the error of an argument that is no gate.
var ErrGate = errors.New("malformed gate")

// A GateRecord is a standing order: take Cost tokens from the bucket of Key, as
// [ForeignTakeCounter] does, for each request whose head comes to the plugin. If they are
// there the guest is not told of the stream: Metric is counted and Fields are added to the
// answer instead. If they are not, or a part of the key is not known, nothing is taken, and
// the guest is called as if there were no gate.
type GateRecord struct {
	Interval, Burst, Cost int64  // as in a TakeRecord; Cost is 1 to Burst
	Metric                uint32 // id of a counter that goes up by one; 0: none
	Key                   []GatePart
	Fields                []GateField
}

// A GateField is a line that is added to the head of the answer, as
// proxy_add_header_map_value would.
type GateField struct {
	Name  string // in lower case; none that is framing, or of one connection
	Value []GatePart
}

// A GatePart is a part of a key, or of a value.
type GatePart struct {
	Kind GateKind
	Bits uint32 // GateClient: how many bits of an IPv6 address count, 1 to 128
	Text string // GateText
}

// A GateKind says what a part stands for.
type GateKind uint32

// The kinds of parts. Integers in a key are u32.
const (
	GateText      GateKind = iota // Text, as it is
	GateRoute                     // of a key: the length of the route's name, and the name
	GateClient                    // of a key: the length of the client's address, and the address in network order, of IPv6 with all but the first Bits zero
	GateRemaining                 // of a value: tokens left, in decimal
	GateFull                      // of a value: seconds until the bucket is full, rounded up, in decimal
	WatchRoute                    // of the key of a watch: the route's name
	WatchUpstream                 // of the key of a watch: the name of the route's upstream, as in cluster_name; empty if there are several
)

// Sizes of what stands before the bytes of a gate, of a part and of a field.
const (
	gateHead      = 40
	gatePartHead  = 8
	gateFieldHead = 8
)

// AppendGate appends the argument of [ForeignGate].
func AppendGate(dst []byte, g *GateRecord) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, 0) // the token bucket
	dst = binary.LittleEndian.AppendUint32(dst, g.Metric)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(g.Interval))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(g.Burst))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(g.Cost))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(g.Key)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(g.Fields)))
	dst = appendGateParts(dst, g.Key)
	for i := range g.Fields {
		f := &g.Fields[i]
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
		if p.Kind == GateText {
			n = uint32(len(p.Text))
		}
		dst = binary.LittleEndian.AppendUint32(dst, uint32(p.Kind))
		dst = binary.LittleEndian.AppendUint32(dst, n)
		dst = append(dst, p.Text...)
	}
	return dst
}

// ParseGate is the opposite. The strings are parts of args. Numbers of the bucket are as they
// came, and so are names and values of fields.
func ParseGate(args string) (*GateRecord, error) {
	if len(args) < gateHead || len(args) > MaxGateBytes || le32(args) != 0 {
		return nil, ErrGate
	}
	g := &GateRecord{Metric: le32(args[4:]), Interval: le64(args[8:]), Burst: le64(args[16:]), Cost: le64(args[24:])}
	parts, fields := le32(args[32:]), le32(args[36:])
	if parts > MaxGateParts || fields > MaxGateFields {
		return nil, ErrGate
	}
	key, rest, ok := parseGateParts(args[gateHead:], parts, GateRoute, GateClient)
	if !ok {
		return nil, ErrGate
	}
	g.Key = key
	size := 0
	for i := range g.Key {
		size += len(g.Key[i].Text)
	}
	if size > MaxGateKey {
		return nil, ErrGate
	}
	for range fields {
		if len(rest) < gateFieldHead {
			return nil, ErrGate
		}
		name, n := uint64(le32(rest)), le32(rest[4:])
		rest = rest[gateFieldHead:]
		if name > uint64(len(rest)) || n > MaxGateParts {
			return nil, ErrGate
		}
		f := GateField{Name: rest[:name]}
		if f.Value, rest, ok = parseGateParts(rest[name:], n, GateRemaining, GateFull); !ok {
			return nil, ErrGate
		}
		g.Fields = append(g.Fields, f)
	}
	if rest != "" {
		return nil, ErrGate
	}
	return g, nil
}

// parseGateParts reads n parts, each text or of a kind from first to last.
func parseGateParts(rest string, n uint32, first, last GateKind) (parts []GatePart, after string, ok bool) {
	for range n {
		if len(rest) < gatePartHead {
			return nil, "", false
		}
		p, number := GatePart{Kind: GateKind(le32(rest))}, le32(rest[4:])
		rest = rest[gatePartHead:]
		switch {
		case p.Kind == GateText && uint64(number) <= uint64(len(rest)):
			p.Text, rest = rest[:number], rest[number:]
		case p.Kind < first || p.Kind > last: // text that is too long, too
			return nil, "", false
		case p.Kind == GateClient && number >= 1 && number <= 128:
			p.Bits = number
		case p.Kind == GateClient || number != 0:
			return nil, "", false
		}
		parts = append(parts, p)
	}
	return parts, rest, true
}
