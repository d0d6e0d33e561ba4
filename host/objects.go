package host

import "wproxy/abi"

// An ObjectCall is one of the functions for stored messages (abi.ForeignObjectLookup and
// so on).
type ObjectCall uint8

// The calls.
const (
	ObjectLookup ObjectCall = iota
	ObjectServe
	ObjectStore
	ObjectUpdate
	ObjectDelete
	ObjectJoin
	ObjectRefresh
)

// An ObjectStream is a Stream that stores messages and answers with them. Other streams
// answer these functions with NotFound, as a host without them does.
type ObjectStream interface {
	// Object does what a guest asks for, or marks it to be done after the callback, as
	// all of Stream. args are borrowed from guest memory, and may be written to by a join. A result is
	// appended to dst.
	Object(call ObjectCall, dst, args []byte) ([]byte, abi.Status)
}

// objectFuncs are the calls by name.
var objectFuncs = map[string]ObjectCall{
	abi.ForeignObjectLookup: ObjectLookup,
	abi.ForeignObjectServe:  ObjectServe,
	abi.ForeignObjectStore:  ObjectStore,
	abi.ForeignObjectUpdate: ObjectUpdate,
	abi.ForeignObjectDelete: ObjectDelete,
	abi.ForeignObjectJoin:   ObjectJoin,
	abi.ForeignRefresh:      ObjectRefresh,
}

// objectFunc calls the stream of the current callback, and hands the result over.
func objectFunc(v *vm, call ObjectCall, a []uint64) abi.Status {
	c := v.current()
	if c.stream == nil { // a root context: there is no exchange that it could be about
		return abi.StatusBadArgument
	}
	s, ok := c.stream.(ObjectStream)
	if !ok {
		return abi.StatusNotFound
	}
	args, _ := v.view(a[2], a[3]) // it is inside, as the caller has seen
	v.charge(objectUnits + int64(len(args))*parseUnits)
	result, status := s.Object(call, v.objects[:0], args)
	if cap(result) <= keepObjectResult {
		v.objects = result
	}
	if status != abi.StatusOK {
		return status
	}
	return v.give(result, a[4], a[5])
}
