package wasmfilter

import (
	"slices"
	"strings"
	"unsafe"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/objects"
	"wproxy/host"
	"wproxy/host/objectkey"
)

// A variant is where what is stored for a key is (abi.ObjectVariant). It is immutable. It is no policy of who has said
// it, but a fact about what is stored, and so belongs to no order.
type variant struct {
	mark  string
	key   []string
	parts objectkey.Parts
	meta  string // beside a model: of the record

	note *repeats // of a record beside which it was said, or that a model has it for
}

// newVariant returns what a guest says, which is borrowed; nil if a part is none.
func newVariant(a *abi.ObjectVariant) *variant {
	v := &variant{mark: strings.Clone(a.Mark), key: make([]string, len(a.Key)), meta: strings.Clone(a.Meta)}
	for i := range a.Key {
		v.key[i] = strings.Clone(a.Key[i])
	}
	var ok bool
	if v.parts, ok = objectkey.New(v.key, host.IsToken); !ok {
		return nil
	}
	v.note = &repeats{variant: v}
	v.note.measure()
	return v
}

// equal reports whether two variants, which may be nil, are at the same place, under the same record.
func (v *variant) equal(o *variant) bool {
	if v == nil || o == nil {
		return v == o
	}
	return v.mark == o.mark && v.meta == o.meta && slices.Equal(v.key, o.key)
}

// variantItem is what a part of a variant costs beside its text, in bytes.
const variantItem = 64

func (v *variant) size() int64 {
	n := int64(len(v.mark) + len(v.meta))
	for _, p := range v.key {
		n += int64(len(p)) + variantItem
	}
	return n
}

// appendKey appends what the key of a variant has beside that of a request, if it is not too long then.
func (v *variant) appendKey(dst []byte, r *exchange.Request) ([]byte, bool) {
	if len(dst)+len(v.mark) > maxStandingKey {
		return dst, false
	}
	return v.parts.Append(append(dst, v.mark...), (*keyFields)(&r.Fields), maxStandingKey)
}

// hasVariants reports whether a record says where variants are.
func hasVariants(record *objects.Record) bool {
	n, ok := record.Note.(*repeats)
	return ok && n.variant != nil
}

// findVariant looks for the variant for the request, with a reference, if its key has variants, record says where, and that is
// not too long a key.
func (f *Filter) findVariant(record *objects.Record) (o *objects.Object, looked bool) {
	n, ok := record.Note.(*repeats)
	if !ok || n.variant == nil {
		return nil, false
	}
	a := &f.alone
	if a.variant, ok = n.variant.appendKey(append(a.variant[:0], a.key...), f.x.Request); !ok {
		return nil, false
	}
	return f.factory.space.Find(unsafe.String(unsafe.SliceData(a.variant), len(a.variant))), true
}

// indexed is what is known of the record under a key that has variants.
type indexed uint8

const (
	indexNone  indexed = iota // it is not there
	indexSame                 // it says the same as the model
	indexOther                // what to make of it is the guest's to say
)

// indexOf looks at what is stored under the key of a request that has gone by as nothing was there.
func (f *Filter) indexOf(v *variant) indexed {
	o := f.factory.space.Find(f.key)
	if o == nil {
		return indexNone
	}
	defer o.Release()
	n, ok := o.Record().Note.(*repeats)
	if ok && n.variant != nil && n.variant.mark == v.mark && slices.Equal(n.variant.key, v.key) {
		return indexSame
	}
	return indexOther
}
