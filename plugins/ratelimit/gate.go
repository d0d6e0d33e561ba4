package main

import (
	"encoding/binary"
	"slices"
	"strconv"

	"wproxy/abi"
)

// newGate returns what the host may do without the plugin: let a request through that is exempt, or
// whose bucket or window has the tokens, and whose key a place, count it with the metric of its outcome, and announce the
// limit. It must come to the same as check and what follows from it, to the byte of the key. False if
// that takes more than a gate can do.
func newGate(c *config, metrics *[outcomes]uint32) (*abi.GateRecord, bool) {
	if c.costField != "" || c.concurrency > 0 && c.algorithm == slidingWindow { // whose places have another key
		return nil, false
	}
	g := &abi.GateRecord{Interval: c.interval, Burst: c.burst, Cost: c.cost, Metric: metrics[allowed]}
	if c.concurrency > 0 {
		g.Places, g.PlacesKey = c.concurrency, placesKey
	}
	var text []byte
	switch c.algorithm {
	case tokenBucket:
	case leakyBucket:
		g.Reserve = c.burst - c.undelayed // who takes of these has to wait
	case slidingWindow:
		g.Slots, g.Interval, g.Burst = windowSlots+1, c.slotWidth(), c.quota
		text = c.appendShape(text)
	}
	g.Key = gateKey(append([]byte(nil), text...), !c.scopePlugin, c.parts)
	if c.missing == missingShare && slices.ContainsFunc(c.parts, func(p part) bool { return p.header() != "" }) {
		g.Missing = append(gateKey(text, !c.scopePlugin, nil), abi.GatePart{Text: "\xff"}) // as key has it
	}
	if c.exempt.any() {
		g.Exempt, g.ExemptMetric = c.exempt.conditions(), metrics[exempted]
	}
	if len(g.Key) > abi.MaxGateParts || len(g.Exempt) > abi.MaxGateExempt {
		return nil, false
	}
	if !c.report && !c.unrated {
		whole := abi.GatePart{Kind: abi.GateFull}
		if c.algorithm == slidingWindow { // what was just added is in it for all of the unit
			whole = abi.GatePart{Text: strconv.FormatInt(c.window, 10)}
		}
		g.Fields = []abi.GateField{{Name: policyName, Value: []abi.GatePart{{Text: c.policyField}}}, limitField(whole)}
	}
	return g, true
}

// gateKey is appendScope and appendParts, behind text, which it takes over, of requests that have all
// parts.
func gateKey(text []byte, perRoute bool, parts []part) []abi.GatePart {
	var key []abi.GatePart
	// add adds a part of the host's behind the text that there is.
	add := func(p abi.GatePart) {
		key = append(key, abi.GatePart{Text: string(text)}, p)
		text = text[:0]
	}
	if perRoute {
		text = append(text, 1)
		add(abi.GatePart{Kind: abi.GateRoute})
	} else {
		text = append(text, 0)
	}
	for i := range parts {
		p := &parts[i]
		text = appendCounted(append(text, byte(p.kind), byte(p.bits)), p.name)
		switch p.kind {
		case byGlobal:
			text = binary.LittleEndian.AppendUint32(text, 0)
		case byClient:
			add(abi.GatePart{Kind: abi.GateClient, Bits: uint32(p.bits)})
		case byHeader:
			add(abi.GatePart{Kind: abi.GateHeader, Text: p.name})
		case byCookie:
			add(abi.GatePart{Kind: abi.GateCookie, Text: p.name})
		case byQuery:
			add(abi.GatePart{Kind: abi.GateQuery, Text: p.name})
		case byHost:
			add(abi.GatePart{Kind: abi.GateHost})
		case byPath:
			add(abi.GatePart{Kind: abi.GatePath})
		case byMethod:
			add(abi.GatePart{Kind: abi.GateMethod})
		}
	}
	if len(text) > 0 {
		key = append(key, abi.GatePart{Text: string(text)})
	}
	return key
}

// limitField is appendLimitField, with the time that the host has for whole.
func limitField(whole abi.GatePart) abi.GateField {
	return abi.GateField{Name: limitName, Value: []abi.GatePart{{Text: `"default";r=`}, {Kind: abi.GateRemaining}, {Text: ";t="}, whole}}
}

// newRefusals returns what the host may do by itself with requests that have no tokens, no place or no key. It
// must come to the same as enforce, refuse and encodeRefusal. What it is to do with contention is the plugin's.
func newRefusals(c *config, metrics *[outcomes]uint32) (list []abi.GateRefusal) {
	kind := abi.GateField{Name: "content-type", Value: []abi.GatePart{{Text: refusalType}}}
	// add adds one, with these lines of the answer.
	add := func(why abi.GateReason, o outcome, lines ...abi.GateField) {
		r := abi.GateRefusal{Why: why, Status: c.status, Metric: metrics[o], Details: detailsOf(o), Verdict: refusedVerdict, Body: c.body, Fields: lines}
		if c.report {
			r = abi.GateRefusal{Why: why, Metric: metrics[reported], Verdict: reportedVerdict}
		}
		list = append(list, r)
	}
	if !c.unrated {
		whole := abi.GatePart{Kind: abi.GateFull} // what is waited for is not more than that
		if c.algorithm == slidingWindow {
			whole = abi.GatePart{Kind: abi.GateRetry, Bits: uint32(c.window)} // which may be a slot longer
		}
		add(abi.GateLimited, limited, kind,
			abi.GateField{Name: retryAfterName, Value: []abi.GatePart{{Kind: abi.GateRetry, Bits: 1}}},
			abi.GateField{Name: policyName, Value: []abi.GatePart{{Text: c.policyField}}},
			limitField(whole))
	}
	if c.concurrency > 0 {
		add(abi.GateCrowded, crowded, kind, abi.GateField{Name: retryAfterName, Value: []abi.GatePart{{Text: strconv.Itoa(inFlight / 1e9)}}})
	}
	switch c.missing {
	case missingDeny:
		add(abi.GateKeyless, keyless, kind)
	case missingAllow: // not a refusal, so it is not reported as one
		list = append(list, abi.GateRefusal{Why: abi.GateKeyless, Metric: metrics[keyless]})
	case missingShare: // has a key; or had, if a client is not known, which is the plugin's
	}
	return list
}

// conditions is match for the host.
func (e *exemptions) conditions() []abi.GatePart {
	var list []abi.GatePart
	for _, p := range e.clients {
		addr, b := p.Addr(), p.Addr().As16()
		if addr.Is4() {
			list = append(list, abi.GateNetwork(b[:4], p.Bits()))
		} else {
			list = append(list, abi.GateNetwork(b[:], p.Bits()))
		}
	}
	for i := range e.headers {
		h := &e.headers[i]
		if h.any {
			list = append(list, abi.GatePart{Kind: abi.GateHas, Text: h.name})
		}
		for _, v := range h.values {
			list = append(list, abi.GateEqual(h.name, v))
		}
	}
	return list
}
