package main

import (
	"encoding/binary"

	"wproxy/abi"
)

// newGate returns what the host may do without the plugin: let a request through whose bucket
// has the tokens, count it with metric, and announce the limit. It must come to the same as check and
// what follows from it, to the byte of the key. False if that takes more than a gate can do.
func newGate(c *config, metric uint32) (*abi.GateRecord, bool) {
	switch {
	case c.unrated, c.algorithm != tokenBucket, c.costField != "", c.concurrency > 0:
		return nil, false
	case len(c.exempt.clients) > 0, len(c.exempt.headers) > 0:
		return nil, false
	}
	key, ok := gateKey(!c.scopePlugin, c.parts)
	if !ok {
		return nil, false
	}
	g := &abi.GateRecord{Interval: c.interval, Burst: c.burst, Cost: c.cost, Metric: metric, Key: key}
	if !c.report {
		g.Fields = []abi.GateField{
			{Name: policyName, Value: []abi.GatePart{{Text: c.policyField}}},
			{Name: limitName, Value: limitField()},
		}
	}
	return g, true
}

// gateKey is appendKey for keys that the host can make, of requests that have all parts of it.
func gateKey(perRoute bool, parts []part) ([]abi.GatePart, bool) {
	var key []abi.GatePart
	text := []byte{0}
	if perRoute {
		key = append(key, abi.GatePart{Text: "\x01"}, abi.GatePart{Kind: abi.GateRoute})
		text = text[:0]
	}
	for i := range parts {
		p := &parts[i]
		text = appendCounted(append(text, byte(p.kind), byte(p.bits)), p.name)
		switch p.kind {
		case byGlobal:
			text = binary.LittleEndian.AppendUint32(text, 0)
		case byClient:
			key = append(key, abi.GatePart{Text: string(text)}, abi.GatePart{Kind: abi.GateClient, Bits: uint32(p.bits)})
			text = text[:0]
		default:
			return nil, false
		}
	}
	if len(text) > 0 {
		key = append(key, abi.GatePart{Text: string(text)})
	}
	return key, true
}

// limitField is appendLimitField for requests that are let through.
func limitField() []abi.GatePart {
	return []abi.GatePart{
		{Text: `"default";r=`}, {Kind: abi.GateRemaining}, {Text: ";t="}, {Kind: abi.GateFull},
	}
}
