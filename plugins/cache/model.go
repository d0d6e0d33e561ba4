package main

import (
	"encoding/binary"

	"wproxy/abi"
)

// model makes in p what the host is told about answers like resp, which is about to be stored under the
// key of its request, with v and a promise: it may store them by itself, as onFetched would. What is
// compared is everything by which judge comes to its verdict and keep to what it does, whatever the request,
// the time and the Date. It reports false where something else counts, or where that is too much.
func (x *exchange) model(p *abi.ObjectModel, v *verdict, resp *head) bool {
	c := x.c
	p.Extra = extra(&v.meta)
	if resp.get("date") == "" || p.Extra > abi.MaxPromise {
		return false
	}
	p.Tenth = 0
	if v.flags&flagHeuristic != 0 {
		p.Tenth = c.longest(maxHeuristic)
	}
	p.Same = append(p.Same[:0], c.modelSame...)
	if !c.isTargeted(resp) { // else none of these counts
		cc := c.lately.controlOf(resp, "cache-control")
		p.Same = addName(p.Same, "cache-control")
		if !cc.present {
			p.Same = addName(p.Same, "pragma")
		}
		if cc.sMaxAge < 0 && cc.maxAge < 0 {
			if resp.has("expires") {
				return false
			}
			p.Same = addName(p.Same, "expires")
		}
	}
	p.Filled, p.Edits = modelFilled[:], c.modelEdits
	x.room.modelMeta(p, v)
	return modelFits(p, resp)
}

// modelFilled are the fields of which each answer has its own. (One without a Date gets one.)
var modelFilled = [...]string{"date", "etag", "last-modified"}

// sameOfModels returns the fields that count for each answer.
func (c *config) sameOfModels() []string {
	list := []string{"vary", "cache-status"}
	if !c.storeCookies {
		list = addName(list, "set-cookie")
	}
	if c.cdn {
		list = addName(list, cdnControl)
	}
	return append(list, c.tags...)
}

// modelNumbers is the size of what metadata have that is the same for all answers of a model: what is in
// front, the status, the two times beyond the lifetime, and the sizes of what there is none of.
const modelNumbers = 3 + 3*8 + 2*4

// modelMeta makes the parts of the metadata of what is stored with v; see meta.append.
func (r *room) modelMeta(p *abi.ObjectModel, v *verdict) {
	b := r.modelText[:]
	b[0], b[1], b[2] = metaVersion, byte(v.kind), v.flags
	binary.LittleEndian.PutUint64(b[3:], uint64(v.status))
	binary.LittleEndian.PutUint64(b[11:], uint64(v.stale))
	binary.LittleEndian.PutUint64(b[19:], uint64(v.onError))
	if p.Meta != nil { // these have other numbers now
		return
	}
	p.Meta = []abi.ModelPart{
		{Text: text(b[:11])},
		{Kind: abi.ModelNow},
		{Kind: abi.ModelAge},
		{Kind: abi.ModelLifetime},
		{Kind: abi.ModelDate},
		{Text: text(b[11:27])},
		{Kind: abi.ModelField, Text: "etag"},
		{Kind: abi.ModelField, Text: "last-modified"},
		{Text: text(b[27:])}, // no Cache-Status of others, and nothing that is withheld
	}
}

// maxModelText and maxModelLines are the most bytes of a model, and lines that are compared, with which the
// host is asked: within its own bounds, so that one that refuses it takes none at all.
const (
	maxModelText  = abi.MaxModelText / 2
	maxModelLines = 16
)

// modelFits reports whether a model that was made of resp is within that.
func modelFits(p *abi.ObjectModel, resp *head) bool {
	n, lines := modelNumbers, 0
	for i := range p.Same {
		name := p.Same[i]
		if n += len(name) + 1; !resp.has(name) {
			continue
		}
		for j := range resp.pairs {
			if l := &resp.pairs[j]; l.Name == name {
				n, lines = n+len(name)+len(l.Value), lines+1
			}
		}
	}
	for i := range p.Edits {
		n += len(p.Edits[i].Name) + len(p.Edits[i].Value)
	}
	return n <= maxModelText && lines <= maxModelLines && len(p.Same)+len(p.Filled) <= abi.MaxModelNames
}
