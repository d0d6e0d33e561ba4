package host

import (
	"strings"

	"wproxy/abi"
)

// replyCacheBytes bounds what a replyCache keeps of the fields of a reply.
const replyCacheBytes = 1 << 10

// A replyCache has what a VM's last local reply was made of, as strings of the host. A guest that meets a
// flood refuses it with the same words again and again: what it says is copied and taken apart once.
type replyCache struct {
	said, details string // as the guest said it, and cleaned

	fields string
	pairs  []abi.Pair // of fields; immutable
}

// clean returns details as one word, which the log wants it to be.
func (c *replyCache) clean(details []byte) string {
	if details = details[:min(len(details), maxNameBytes)]; c.said != string(details) {
		c.said = string(details)
		c.details = strings.Map(func(c rune) rune {
			if c <= ' ' || c == 0x7f {
				return '_'
			}
			return c
		}, c.said)
	}
	return c.details
}

// replyPairs is ownPairs for the fields of a local reply.
func (v *vm) replyPairs(fields []byte) ([]abi.Pair, error) {
	c := &v.replies
	if len(fields) > 0 && c.fields == string(fields) {
		v.charge(int64(len(fields)) * parseUnits)
		return c.pairs, nil
	}
	pairs, err := v.ownPairs(fields)
	if err == nil && len(fields) <= replyCacheBytes {
		c.fields, c.pairs = string(fields), pairs
	}
	return pairs, err
}
