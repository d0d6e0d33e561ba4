package main

import (
	"slices"
	"strings"

	"wproxy/abi"
	"wproxy/plugins/internal/settings"
)

// maxVary is the most fields that a response may vary by and be stored.
const maxVary = 32

// varyNames returns the names in Vary, sorted; ok is false if it says that nothing
// can be known (RFC 9111, 4.1), or too much.
func varyNames(h *head) (names []string, ok bool) {
	if !h.has("vary") {
		return nil, true
	}
	for i := range h.pairs {
		if h.pairs[i].Name != "vary" {
			continue
		}
		for _, name := range fieldNames(h.pairs[i].Value) {
			if name == "*" || !settings.IsToken(name) || len(names) == maxVary {
				return nil, false
			}
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return settings.Sort(names), true
}

// varyMark is between a key and what tells its variants apart.
const varyMark = "\nvary"

// appendVariant appends what tells the variants of a key apart: the names and what the request
// says of each, normalised. The host makes it too; see variantOf.
func appendVariant(dst []byte, names nameList, h *head) []byte {
	dst = add(dst, varyMark)
	for name, ok := names.next(); ok; name, ok = names.next() {
		dst = keyPart{name: name}.append(dst, h)
	}
	return dst
}

// maxVariantNames and maxVariantText are the most names, and bytes of them, of which the host is told: within its own
// bounds, so that one that refuses it takes none at all.
const (
	maxVariantNames = 16
	maxVariantText  = 400
)

// variantOf tells the host where variants by these names are; nil if they are too many.
func variantOf(names nameList) *abi.ObjectVariant {
	if names.left > maxVariantNames || len(names.b) > maxVariantText {
		return nil
	}
	v := &abi.ObjectVariant{Mark: varyMark}
	for name, ok := names.next(); ok; name, ok = names.next() {
		v.Key = addName(v.Key, keyPart{name: name}.kind()+name)
	}
	return v
}

// isSet reports whether the members of a list mean the same in any order and case.
func isSet(name string) bool { return name == "accept-language" || name == "accept-encoding" }

// appendNormal appends the value of a field in a form that does not depend on how it is
// split into lines, on white space, and, where they mean nothing, on order and case.
func appendNormal(dst []byte, name string, h *head) []byte {
	var buf [16]string // browsers send half a dozen
	members := buf[:0]
	there := false
	for _, p := range h.list() {
		if p.Name != name {
			continue
		}
		there = true
		for m := range strings.SplitSeq(p.Value, ",") {
			if m = strings.Trim(m, " \t"); m != "" {
				members = append(members, m)
			}
		}
	}
	if !there {
		return dst
	}
	if isSet(name) {
		for i, m := range members {
			if m = settings.Lower(m); strings.IndexByte(m, ' ') >= 0 || strings.IndexByte(m, '\t') >= 0 {
				m = strings.Join(settings.Words(nil, m, false), "")
			}
			members[i] = m
		}
		if len(members) <= abi.MaxSetMembers { // beyond that somebody wants it to take long; order then counts
			settings.Sort(members)
		}
	}
	dst = append(dst, ':') // an empty field is another thing than none
	for i, m := range members {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, m...)
	}
	return dst
}
