package abi

import "encoding/binary"

// A GateRefusal is a standing order as well: what the guest would do with a request that is not let
// through, if it does that with all of them. The host answers as if the guest had done so with
// proxy_send_local_response, and the guest is told nothing of the stream.
type GateRefusal struct {
	Why     GateReason
	Status  uint32      // of the answer, 200 to 599; 0: the request goes on all the same, and nothing is added to its answer
	Metric  uint32      // id of a counter that goes up by one; 0: none
	Details string      // for the log: one word; "": none. With a Status
	Verdict string      // of the property wproxy.verdict; "": none
	Body    string      // with a Status
	Fields  []GateField // of the answer, in place of those of the record; with a Status
}

// A GateReason is why a request is not let through.
type GateReason uint32

// The reasons.
const (
	GateLimited GateReason = 1 + iota // the tokens are not there, and with a Reserve would not be without it either; a place, if there are some, is held until the exchange ends
	GateCrowded                       // all places are taken
	GateKeyless                       // the request lacks a part of the key, and no other key is said for that

	maxGateRefusals = GateKeyless
)

// gateRefusalHead is the size of what stands before the bytes of a refusal.
const gateRefusalHead = 32

func (r *GateRefusal) append(dst []byte) []byte {
	for _, n := range [...]uint32{
		uint32(r.Why), r.Status, r.Metric, uint32(len(r.Details)), uint32(len(r.Verdict)), uint32(len(r.Body)), uint32(len(r.Fields)), 0,
	} {
		dst = binary.LittleEndian.AppendUint32(dst, n)
	}
	dst = append(append(append(dst, r.Details...), r.Verdict...), r.Body...)
	return appendGateFields(dst, r.Fields)
}

// parse reads a refusal that s begins with.
func (r *GateRefusal) parse(s string) (after string, ok bool) {
	if len(s) < gateRefusalHead || le32(s[28:]) != 0 {
		return "", false
	}
	r.Why, r.Status, r.Metric = GateReason(le32(s)), le32(s[4:]), le32(s[8:])
	details, verdict, body, fields := le32(s[12:]), le32(s[16:]), le32(s[20:]), le32(s[24:])
	if r.Why > maxGateRefusals || details > MaxGateWord || verdict > MaxGateWord || body > MaxGateBody || fields > MaxGateFields {
		return "", false
	}
	s = s[gateRefusalHead:]
	if int(details+verdict+body) > len(s) {
		return "", false
	}
	r.Details, s = s[:details], s[details:]
	r.Verdict, s = s[:verdict], s[verdict:]
	r.Body, s = s[:body], s[body:]
	r.Fields, s, ok = parseGateFields(s, fields, gateRefusedKinds)
	return s, ok
}
