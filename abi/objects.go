package abi

import (
	"encoding/binary"
	"errors"
)

// Functions that store messages, and answer with what is stored. They take the grant
// "objects". Keys are the guest's to choose and belong to its vm_id; by convention a key begins
// with the URL and a line feed, by which an operator can name it.
const (
	// ForeignObjectLookup finds what is stored under the key that is its argument. The
	// result is what [AppendObjectInfo] makes; the status is NotFound if there is nothing.
	ForeignObjectLookup = "wproxy.objects.v1.lookup"

	// ForeignObjectServe answers the exchange of the current callback, a headers callback
	// or the end of a join, with a stored object. Its argument is what [ObjectServe.Append] makes. The guest
	// returns Pause.
	ForeignObjectServe = "wproxy.objects.v1.serve"

	// ForeignObjectStore stores the response whose headers callback is running, or a
	// record without one. Its argument is what [ObjectStore.Append] makes. The guest returns
	// Continue.
	ForeignObjectStore = "wproxy.objects.v1.store"

	// ForeignObjectUpdate changes the head and the metadata of a stored object. Its argument is what
	// [ObjectUpdate.Append] makes.
	ForeignObjectUpdate = "wproxy.objects.v1.update"

	// ForeignObjectDelete removes objects. Its argument is a u32, an [ObjectDelete], and a
	// key, prefix or tag.
	ForeignObjectDelete = "wproxy.objects.v1.delete"

	// ForeignObjectJoin waits for what another exchange is getting. Its argument is a u32
	// that the host writes to, [ObjectLeads] or [ObjectWaits], and a key. Who waits
	// returns Pause, and is called back by proxy_on_foreign_function with
	// [ObjectJoined] and one of the outcomes as a u32.
	ForeignObjectJoin = "wproxy.objects.v1.join"

	// ForeignRefresh begins an exchange without a client: a copy of the request that is
	// in its headers callback, from this plugin on. It has no argument. The property
	// [PropertyRefresh] tells it apart.
	ForeignRefresh = "wproxy.exchange.v1.refresh"
)

// PropertyRefresh is a property of wproxy's host, as a path: "1" in an exchange without
// a client, which ForeignRefresh has begun, and not there otherwise.
const PropertyRefresh = "wproxy\x00refresh"

// ObjectJoined is the id with which proxy_on_foreign_function tells the end of a join.
const ObjectJoined = 1

// What a join comes to at once.
const (
	ObjectLeads uint32 = iota // nobody else is getting it: the guest goes on to the upstream
	ObjectWaits
)

// How a join ends.
const (
	ObjectStored   uint32 = iota // something was stored for the key: look it up
	ObjectUnstored               // there was an answer that was not stored
	ObjectFailed                 // there was none: who led is gone
)

// An ObjectDelete says what the argument of a delete names.
type ObjectDelete uint32

// What a delete may name.
const (
	ObjectKey ObjectDelete = iota
	ObjectPrefix
	ObjectTag
)

// ErrObjects is the error of an argument that is malformed.
var ErrObjects = errors.New("malformed argument of an object function")

// An ObjectInfo is the result of a lookup.
type ObjectInfo struct {
	Status int   // of the stored head; 0: a record without one
	Whole  bool  // all bytes are there; else they are still coming
	Flying bool  // an exchange that has joined with this key is getting another one
	Length int64 // bytes; -1: not known yet
	Meta   []byte
}

const (
	infoWhole  = 1
	infoFlying = 2
	infoSize   = 16
)

// AppendObjectInfo appends the result of a lookup: status and flags as u32, the length as
// i64, and the metadata.
func AppendObjectInfo(dst []byte, o *ObjectInfo) []byte {
	var flags uint32
	if o.Whole {
		flags |= infoWhole
	}
	if o.Flying {
		flags |= infoFlying
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(o.Status))
	dst = binary.LittleEndian.AppendUint32(dst, flags)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(o.Length))
	return append(dst, o.Meta...)
}

// ParseObjectInfo reads the result of a lookup; Meta is a part of b.
func ParseObjectInfo(b []byte) (ObjectInfo, error) {
	if len(b) < infoSize {
		return ObjectInfo{}, ErrObjects
	}
	flags := binary.LittleEndian.Uint32(b[4:])
	return ObjectInfo{
		Status: int(binary.LittleEndian.Uint32(b)), Whole: flags&infoWhole != 0, Flying: flags&infoFlying != 0,
		Length: int64(binary.LittleEndian.Uint64(b[8:])), Meta: b[infoSize:],
	}, nil
}

// An ObjectServe is the argument of [ForeignObjectServe].
type ObjectServe struct {
	Key      string
	Status   int   // instead of the stored one; 0: that
	HeadOnly bool  // no body: a 304, or a HEAD request, which is answered without one anyway
	Offset   int64 // of the first byte
	Length   int64 // bytes; -1: all that follow
	Edits    []FieldEdit

	// Repeat is names, as [AppendNames] has them, if the host may give this answer again by itself; "": it
	// may not. See [ObjectStanding.Repeats].
	Repeat string
}

const (
	serveHeadOnly = 1
	serveRepeat   = 2
	serveSize     = 28
)

// Append appends the argument: status, flags and the length of the key as u32, offset
// and length as i64, the key, Repeat, if there is one, and the edits as [AppendFieldEdits] has them after
// the kind.
func (o *ObjectServe) Append(dst []byte) []byte {
	var flags uint32
	if o.HeadOnly {
		flags |= serveHeadOnly
	}
	if o.Repeat != "" {
		flags |= serveRepeat
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(o.Status))
	dst = binary.LittleEndian.AppendUint32(dst, flags)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(o.Key)))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(o.Offset))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(o.Length))
	dst = append(dst, o.Key...)
	dst = append(dst, o.Repeat...)
	return appendEdits(dst, o.Edits)
}

// Parse reads the argument. Strings are parts of s; edits are appended to o.Edits[:0].
func (o *ObjectServe) Parse(s string) error {
	if len(s) < serveSize || uint64(le32(s[8:])) > uint64(len(s)-serveSize) {
		return ErrObjects
	}
	n := int(le32(s[8:]))
	edits, rest := o.Edits[:0], s[serveSize+n:]
	*o = ObjectServe{
		Key: s[serveSize : serveSize+n], Status: int(le32(s)), HeadOnly: le32(s[4:])&serveHeadOnly != 0,
		Offset: le64(s[12:]), Length: le64(s[20:]),
	}
	if le32(s[4:])&serveRepeat != 0 {
		size := namesSize(rest)
		if size == 0 {
			return ErrObjects
		}
		o.Repeat, rest = rest[:size], rest[size:]
	}
	if o.Offset < 0 || o.Length < -1 || o.Status != 0 && (o.Status < 200 || o.Status > 599) {
		return ErrObjects
	}
	var err error
	o.Edits, err = parseEdits(edits, rest)
	return err
}

// An ObjectStore is the argument of [ForeignObjectStore].
type ObjectStore struct {
	Key  string
	Meta string
	Tags string // joined by NUL

	Record    bool  // there is no message, only Meta
	MaxObject int64 // most bytes that are kept; 0: no bound but MaxSize
	MaxSize   int64 // what all objects of the vm_id take in memory; 0: as the host has it
	Gone      int64 // seconds from now after which nobody finds it; 0: never

	Promise ObjectPromise  // of the message
	Pass    *ObjectPass    // of a record, in on_response_headers; nil: none
	Model   *ObjectModel   // of a message with a promise, or a record with a pass, and without tags; nil: none
	Variant *ObjectVariant // of a record without a pass, or beside the model of a message; nil: none
}

const (
	storeRecord  = 1
	storePromise = 2
	storePass    = 4
	storeModel   = 8
	storeVariant = 16
	storeSize    = 40
)

// Append appends the argument: flags and the lengths of key, metadata and tags as u32,
// MaxObject, MaxSize and Gone as i64, the promise, if there is one, as three i64, the numbers of
// the pass, of the model and of the variant, if there is one, and then key, metadata, tags, and the texts of the variant, of the
// model and of the pass.
func (o *ObjectStore) Append(dst []byte) []byte {
	var flags uint32
	if o.Record {
		flags |= storeRecord
	}
	if o.Promise != (ObjectPromise{}) {
		flags |= storePromise
	}
	if o.Pass != nil {
		flags |= storePass
	}
	if o.Model != nil {
		flags |= storeModel
	}
	if o.Variant != nil {
		flags |= storeVariant
	}
	dst = binary.LittleEndian.AppendUint32(dst, flags)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(o.Key)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(o.Meta)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(o.Tags)))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(o.MaxObject))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(o.MaxSize))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(o.Gone))
	if flags&storePromise != 0 {
		dst = o.Promise.append(dst)
	}
	if o.Pass != nil {
		dst = o.Pass.appendHead(dst)
	}
	if o.Model != nil {
		dst = o.Model.appendHead(dst)
	}
	if o.Variant != nil {
		dst = o.Variant.appendHead(dst)
	}
	dst = append(dst, o.Key...)
	dst = append(dst, o.Meta...)
	dst = append(dst, o.Tags...)
	if o.Variant != nil {
		dst = o.Variant.appendTexts(dst)
	}
	if o.Model != nil {
		dst = o.Model.appendTexts(dst)
	}
	if o.Pass != nil { // behind all else: it is cut off first
		dst = o.Pass.appendTexts(dst)
	}
	return dst
}

// Parse reads the argument, of which the strings are parts.
func (o *ObjectStore) Parse(s string) error {
	if len(s) < storeSize {
		return ErrObjects
	}
	key, meta, tags, rest := uint64(le32(s[4:])), uint64(le32(s[8:])), uint64(le32(s[12:])), s[storeSize:]
	promise, rest, ok := cutPromise(le32(s)&storePromise != 0, rest)
	if !ok {
		return ErrObjects
	}
	pass, rest, ok := cutPass(le32(s)&storePass != 0, rest)
	if !ok {
		return ErrObjects
	}
	model, rest, ok := cutModel(le32(s)&storeModel != 0, rest)
	if !ok {
		return ErrObjects
	}
	variant, rest, ok := cutVariant(le32(s)&storeVariant != 0, rest)
	record := le32(s)&storeRecord != 0
	if !ok || pass != nil && !record || key+meta+tags != uint64(len(rest)) ||
		model != nil && (tags > 0 || !record && (promise.Lifetime == 0 || model.Extra == 0) || record && (pass == nil || !model.isRefusal())) ||
		variant != nil && (record && (pass != nil || variant.Meta != "") || !record && model == nil) {
		return ErrObjects
	}
	*o = ObjectStore{
		Record: record, Promise: promise, Pass: pass, Model: model, Variant: variant, MaxObject: le64(s[16:]), MaxSize: le64(s[24:]), Gone: le64(s[32:]),
		Key: rest[:key], Meta: rest[key : key+meta], Tags: rest[key+meta:],
	}
	if o.MaxObject < 0 || o.MaxSize < 0 || o.Gone < 0 {
		return ErrObjects
	}
	return nil
}

// An ObjectUpdate is the argument of [ForeignObjectUpdate].
type ObjectUpdate struct {
	Key   string
	Meta  string
	Gone  int64 // as in ObjectStore
	Edits []FieldEdit

	Promise ObjectPromise // from now on
}

const (
	updatePromise = 1 << 31
	updateSize    = 16
)

// Append appends the argument: the lengths of key and metadata as u32, Gone as i64, the
// promise, if there is one, which the highest bit of the first length says, as three i64, key,
// metadata, and the edits of the head.
func (o *ObjectUpdate) Append(dst []byte) []byte {
	n := uint32(len(o.Key))
	if o.Promise != (ObjectPromise{}) {
		n |= updatePromise
	}
	dst = binary.LittleEndian.AppendUint32(dst, n)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(o.Meta)))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(o.Gone))
	if n&updatePromise != 0 {
		dst = o.Promise.append(dst)
	}
	dst = append(dst, o.Key...)
	dst = append(dst, o.Meta...)
	return appendEdits(dst, o.Edits)
}

// Parse reads the argument. Strings are parts of s; edits are appended to o.Edits[:0].
func (o *ObjectUpdate) Parse(s string) error {
	if len(s) < updateSize {
		return ErrObjects
	}
	key, meta, rest := uint64(le32(s)&^updatePromise), uint64(le32(s[4:])), s[updateSize:]
	promise, rest, ok := cutPromise(le32(s)&updatePromise != 0, rest)
	if !ok || key+meta > uint64(len(rest)) {
		return ErrObjects
	}
	edits := o.Edits[:0]
	*o = ObjectUpdate{Key: rest[:key], Meta: rest[key : key+meta], Gone: le64(s[8:]), Promise: promise}
	if o.Gone < 0 {
		return ErrObjects
	}
	var err error
	o.Edits, err = parseEdits(edits, rest[key+meta:])
	return err
}

func le64(s string) int64 { return int64(uint64(le32(s)) | uint64(le32(s[4:]))<<32) }
