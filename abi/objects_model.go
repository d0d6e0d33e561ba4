package abi

import "encoding/binary"

// An ObjectModel is what the owner of a message that it stores ([ObjectStore]) says about others
// ahead: how the host stores answers that are like this one by itself, if a standing order
// ([ForeignObjectStanding], [ObjectStanding.Misses]) has let their requests go by.
//
// A model is about answers to requests that have one of the fields in [ObjectStanding.MissAlone], or about those to
// requests that have none, as the request has whose answer it was said at. An answer is like another if it has the same status, the same lines, in the same order, of the
// fields in Same, where to have none is the same as well, and of each field in Filled a first line
// that is not empty if, and only if, the other has one. Its Date, if it has one, is one that the host can
// read, its age is less than the promise's Lifetime, and it is within MaxObject.
//
// It is stored under the key of its request, without tags, with the metadata that Meta makes, and
// with the promise that it has now, for as long as that is after its age: [ObjectStore.Promise] gives
// Lifetime alone. Its age is that of RFC 9111, 4.2.3, where of the first line
// of Age what is before a comma counts, if that is a number, up to [MaxPromise].
//
// Beside a pass ([ObjectStore.Pass]) a model is about answers that are not stored: what is like them is what
// the pass says, and Meta and Extra alone are the model's. The host notes a record with the pass, which is
// good from then on, under the key of such an answer's request, as the guest would. Meta then has no parts
// that are about age. If Extra is 0 nothing is noted, under the key of the store neither: such answers go by, as the pass says, and that
// is all.
//
// With Tenth, Lifetime is not that of the promise, but a tenth of the time from Last-Modified to Date (RFC 9111,
// 4.2.2), and an answer is like the other only if the host can read both of these.
type ObjectModel struct {
	Extra  int64    // seconds after the end of its promise after which nobody finds it, at least 1 but for what is not noted
	Tenth  int64    // how many seconds Lifetime is at most; 0: it is that of the promise
	Same   []string // names of fields of the answer, in lower case
	Filled []string // likewise
	Edits  []FieldEdit
	Meta   []ModelPart
}

// A ModelPart is a part of the metadata of a message that the host stores by itself.
type ModelPart struct {
	Kind ModelKind
	Text string // ModelText: the text; ModelField: the name of a field, in lower case; else ""
}

// A ModelKind says what a part stands for. Integers are i64, little endian.
type ModelKind uint32

// The kinds.
const (
	ModelText     ModelKind = iota
	ModelNow                // when the answer's head came to the plugin, in seconds since 1970 by the guest's clock
	ModelAge                // how old it was then, in seconds
	ModelDate               // what its Date says, in seconds since 1970; when it came if it has none
	ModelLifetime           // how old it may become, in seconds
	ModelField              // the first line of a field of it: its length as u32, and its bytes; an empty one if there is none

	modelKinds
)

// Bounds of an ObjectModel.
const (
	MaxModelNames = 32   // in Same and Filled together
	MaxModelEdits = 16   // in Edits
	MaxModelParts = 32   // in Meta
	MaxModelText  = 2048 // bytes of all names, edits, parts, and lines that are compared
)

// Sizes of what stands before the bytes of a model, and of a part of one: Extra and Tenth as i64, and the
// lengths of what follows tags as u32: the names in Same and in Filled, joined by NUL, the edits, and
// the parts; and the kind of a part and the length of its text, as u32.
const (
	modelHead     = 32
	modelPartHead = 8
)

func (m *ObjectModel) appendHead(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(m.Extra))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(m.Tenth))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(joinedSize(m.Same)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(joinedSize(m.Filled)))
	n := 0
	for i := range m.Edits {
		n += fieldEditHead + len(m.Edits[i].Name) + len(m.Edits[i].Value)
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(n))
	n = 0
	for i := range m.Meta {
		n += modelPartHead + len(m.Meta[i].Text)
	}
	return binary.LittleEndian.AppendUint32(dst, uint32(n))
}

func (m *ObjectModel) appendTexts(dst []byte) []byte {
	dst = appendJoined(appendJoined(dst, m.Same), m.Filled)
	dst = appendEdits(dst, m.Edits)
	for i := range m.Meta {
		p := &m.Meta[i]
		dst = binary.LittleEndian.AppendUint32(dst, uint32(p.Kind))
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(p.Text)))
		dst = append(dst, p.Text...)
	}
	return dst
}

// cutModel cuts a model off the ends of s, if there is one, as cutPass does.
func cutModel(there bool, s string) (m *ObjectModel, rest string, ok bool) {
	if !there {
		return nil, s, true
	}
	if len(s) < modelHead {
		return nil, s, false
	}
	m = &ObjectModel{Extra: le64(s), Tenth: le64(s[8:])}
	same, filled, edits, parts := uint64(le32(s[16:])), uint64(le32(s[20:])), uint64(le32(s[24:])), uint64(le32(s[28:]))
	s = s[modelHead:]
	if m.Extra < 0 || m.Extra > MaxPromise || m.Tenth < 0 || m.Tenth > MaxPromise || same+filled+edits+parts > uint64(len(s)) {
		return nil, s, false
	}
	at := uint64(len(s)) - same - filled - edits - parts
	rest, s = s[:at], s[at:]
	if m.Same, ok = splitNames(s[:same], MaxModelNames); !ok {
		return nil, rest, false
	}
	if m.Filled, ok = splitNames(s[same:same+filled], MaxModelNames); !ok {
		return nil, rest, false
	}
	s = s[same+filled:]
	var err error
	if m.Edits, err = parseEdits(nil, s[:edits]); err != nil {
		return nil, rest, false
	}
	return m, rest, m.parseParts(s[edits:]) && m.bounded()
}

// isRefusal reports whether m may be there beside a pass.
func (m *ObjectModel) isRefusal() bool {
	for i := range m.Meta {
		switch m.Meta[i].Kind {
		case ModelText, ModelNow, ModelField:
		default:
			return false
		}
	}
	return m.Tenth == 0 && len(m.Same)+len(m.Filled)+len(m.Edits) == 0 && (m.Extra > 0 || len(m.Meta) == 0)
}

func (m *ObjectModel) parseParts(s string) bool {
	for s != "" {
		if len(s) < modelPartHead || len(m.Meta) == MaxModelParts {
			return false
		}
		kind, n := ModelKind(le32(s)), uint64(le32(s[4:]))
		s = s[modelPartHead:]
		if kind >= modelKinds || n > uint64(len(s)) || n > 0 && kind != ModelText && kind != ModelField {
			return false
		}
		m.Meta, s = append(m.Meta, ModelPart{kind, s[:n]}), s[n:]
	}
	return true
}

// bounded reports whether m is within the bounds that it can be held against here.
func (m *ObjectModel) bounded() bool {
	n := joinedSize(m.Same) + joinedSize(m.Filled)
	for i := range m.Edits {
		n += len(m.Edits[i].Name) + len(m.Edits[i].Value)
	}
	for i := range m.Meta {
		n += len(m.Meta[i].Text)
	}
	return len(m.Same)+len(m.Filled) <= MaxModelNames && len(m.Edits) <= MaxModelEdits && n <= MaxModelText
}

// appendJoined appends list joined by NUL.
func appendJoined(dst []byte, list []string) []byte {
	for i, name := range list {
		if i > 0 {
			dst = append(dst, 0)
		}
		dst = append(dst, name...)
	}
	return dst
}
