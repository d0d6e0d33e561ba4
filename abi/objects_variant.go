package abi

import "encoding/binary"

// An ObjectVariant is where what is stored for a key is, as it is told apart by more of a request than that has (RFC
// 9111, 4.1): under the key of the request, Mark, and the parts of Key, made of that request as those of
// [ObjectStanding.Key].
//
// Beside a record without a pass, the host may answer a request by a standing order with the message that is there, as if it had
// been under the key of the record. Beside a model, answers that are like the other are stored there; and under
// the key of the request a record with the metadata Meta and the same variant, unless there is one with the same Mark,
// or, if that is of the guest's making and something else, not at all: then the answer is shown to the guest.
type ObjectVariant struct {
	Mark string
	Key  []string // as in ObjectStanding
	Meta string   // of the record beside a model; else ""
}

// Bounds of an ObjectVariant.
const (
	MaxVariantParts = 32   // in Key
	MaxVariantText  = 2048 // bytes of all of it
)

// variantHead is what stands before the bytes of a variant: the lengths of Mark, of Key joined by NUL, and of Meta, as u32.
const variantHead = 12

func (v *ObjectVariant) appendHead(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(v.Mark)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(joinedSize(v.Key)))
	return binary.LittleEndian.AppendUint32(dst, uint32(len(v.Meta)))
}

func (v *ObjectVariant) appendTexts(dst []byte) []byte {
	return append(appendJoined(append(dst, v.Mark...), v.Key), v.Meta...)
}

// cutVariant cuts a variant off the ends of s, if there is one, as cutPass does.
func cutVariant(there bool, s string) (v *ObjectVariant, rest string, ok bool) {
	if !there {
		return nil, s, true
	}
	if len(s) < variantHead {
		return nil, s, false
	}
	mark, key, meta := uint64(le32(s)), uint64(le32(s[4:])), uint64(le32(s[8:]))
	s = s[variantHead:]
	if mark+key+meta > uint64(min(len(s), MaxVariantText)) {
		return nil, s, false
	}
	at := uint64(len(s)) - mark - key - meta
	rest, s = s[:at], s[at:]
	v = &ObjectVariant{Mark: s[:mark], Meta: s[mark+key:]}
	v.Key, ok = splitNames(s[mark:mark+key], MaxVariantParts)
	return v, rest, ok && mark > 0 && key > 0
}
