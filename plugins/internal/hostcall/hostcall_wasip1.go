package hostcall

import (
	"unsafe"

	"wproxy/abi"
)

// A Status is what a host function returns.
type Status uint32

// The statuses the plugins tell apart.
const (
	OK          Status = 0
	NotFound    Status = 1
	BadArgument Status = 2
	CASMismatch Status = 8
)

// Places for results: static, because a stack may move while the host calls the
// allocator. out is 64 bits wide and the host writes its lower half, so that the
// collector sees the value as soon as it is written.
var (
	out     unsafe.Pointer
	outSize uint32
	outWord uint32
	outLong uint64
)

//go:wasmimport env proxy_get_property
//go:noescape
func getProperty(path unsafe.Pointer, pathSize uint32, value, valueSize unsafe.Pointer) uint32

//go:wasmimport env proxy_set_property
//go:noescape
func setProperty(path unsafe.Pointer, pathSize uint32, value unsafe.Pointer, valueSize uint32) uint32

//go:wasmimport env proxy_get_header_map_value
//go:noescape
func getHeader(kind uint32, key unsafe.Pointer, keySize uint32, value, valueSize unsafe.Pointer) uint32

//go:wasmimport env proxy_replace_header_map_value
//go:noescape
func replaceHeader(kind uint32, key unsafe.Pointer, keySize uint32, value unsafe.Pointer, valueSize uint32) uint32

//go:wasmimport env proxy_add_header_map_value
//go:noescape
func addHeader(kind uint32, key unsafe.Pointer, keySize uint32, value unsafe.Pointer, valueSize uint32) uint32

//go:wasmimport env proxy_get_header_map_pairs
//go:noescape
func getPairs(kind uint32, value, valueSize unsafe.Pointer) uint32

//go:wasmimport env proxy_get_buffer_bytes
//go:noescape
func getBuffer(kind, start, size uint32, value, valueSize unsafe.Pointer) uint32

//go:wasmimport env proxy_continue_stream
func continueStream(stream uint32) uint32

//go:wasmimport env proxy_get_shared_data
//go:noescape
func getSharedData(key unsafe.Pointer, keySize uint32, value, valueSize, cas unsafe.Pointer) uint32

//go:wasmimport env proxy_set_shared_data
//go:noescape
func setSharedData(key unsafe.Pointer, keySize uint32, value unsafe.Pointer, valueSize uint32, cas uint32) uint32

//go:wasmimport env proxy_send_local_response
//go:noescape
func sendLocalResponse(status uint32, details unsafe.Pointer, detailsSize uint32, body unsafe.Pointer, bodySize uint32, headers unsafe.Pointer, headersSize uint32, grpcStatus int32) uint32

//go:wasmimport env proxy_define_metric
//go:noescape
func defineMetric(kind uint32, name unsafe.Pointer, nameSize uint32, id unsafe.Pointer) uint32

//go:wasmimport env proxy_increment_metric
func incrementMetric(id uint32, delta int64) uint32

//go:wasmimport env proxy_record_metric
func recordMetric(id uint32, value uint64) uint32

//go:wasmimport env proxy_get_current_time_nanoseconds
//go:noescape
func currentTime(nanoseconds unsafe.Pointer) uint32

//go:wasmimport env proxy_call_foreign_function
//go:noescape
func callForeign(name unsafe.Pointer, nameSize uint32, args unsafe.Pointer, argsSize uint32, value, valueSize unsafe.Pointer) Status

//go:wasmimport wasi_snapshot_preview1 random_get
//go:noescape
func randomGet(buf unsafe.Pointer, size uint32) uint32

// room is what the adapter's allocator takes first (see there).
//
//go:linkname room wproxy_adapter.room
var room []byte

// most is the longest value there could be. Slicing it costs a guest less than unsafe.Slice, which
// multiplies to see whether the size of a byte is too much.
type most [1 << 31]byte

// offer has the result of the next host call go to buf, up to its capacity, if it fits there.
func offer(buf []byte) { room = buf[:cap(buf)] }

// result takes over the value that a host function wrote. In buf it has buf's capacity.
func result(buf []byte) []byte {
	room = nil
	p, n := (*most)(out), outSize
	out, outSize = nil, 0
	if unsafe.Pointer(p) == unsafe.Pointer(unsafe.SliceData(buf)) {
		return buf[:n]
	}
	if p == nil {
		return nil
	}
	return p[:n:n]
}

func bytesPtr(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

func textPtr(s string) unsafe.Pointer { return unsafe.Pointer(unsafe.StringData(s)) }

// Property returns the property at path, whose parts are joined by NUL. It is in buf if
// it fits there, and in memory of its own otherwise.
func Property(buf []byte, path string) ([]byte, bool) {
	offer(buf)
	if getProperty(textPtr(path), uint32(len(path)), unsafe.Pointer(&out), unsafe.Pointer(&outSize)) != 0 {
		room = nil
		return nil, false
	}
	return result(buf), true
}

// SetProperty sets the property at path, whose parts are joined by NUL.
func SetProperty(path, value string) {
	setProperty(textPtr(path), uint32(len(path)), textPtr(value), uint32(len(value)))
}

// RequestHeader returns the first value of a request header.
func RequestHeader(name string) (string, bool) {
	if getHeader(0, textPtr(name), uint32(len(name)), unsafe.Pointer(&out), unsafe.Pointer(&outSize)) != 0 {
		return "", false
	}
	v := result(nil)
	return unsafe.String(unsafe.SliceData(v), len(v)), true
}

// ResponseHeader returns the first value of a response header. It is in buf if it fits
// there, and in memory of its own otherwise.
func ResponseHeader(buf []byte, name string) ([]byte, bool) {
	offer(buf)
	if getHeader(2, textPtr(name), uint32(len(name)), unsafe.Pointer(&out), unsafe.Pointer(&outSize)) != 0 {
		room = nil
		return nil, false
	}
	return result(buf), true
}

// Pairs returns all fields of a header map as abi.AppendPairs encodes them. They are in buf
// if they fit there, and in memory of their own otherwise.
func Pairs(buf []byte, kind uint32) ([]byte, bool) {
	offer(buf)
	if getPairs(kind, unsafe.Pointer(&out), unsafe.Pointer(&outSize)) != 0 {
		room = nil
		return nil, false
	}
	return result(buf), true
}

// SetRequestHeader leaves exactly one request header called name.
func SetRequestHeader(name, value string) Status {
	return Status(replaceHeader(0, textPtr(name), uint32(len(name)), textPtr(value), uint32(len(value))))
}

// CallData returns size bytes of the argument of on_foreign_function.
func CallData(buf []byte, size int) ([]byte, bool) {
	offer(buf)
	if getBuffer(8, 0, uint32(size), unsafe.Pointer(&out), unsafe.Pointer(&outSize)) != 0 {
		room = nil
		return nil, false
	}
	return result(buf), true
}

// ContinueRequest lets go of the request that the current stream holds.
func ContinueRequest() { continueStream(0) }

// SetResponseHeader leaves exactly one response header called name.
func SetResponseHeader(name, value string) Status {
	return Status(replaceHeader(2, textPtr(name), uint32(len(name)), textPtr(value), uint32(len(value))))
}

// AddResponseHeader adds a response header; the host copies the value.
func AddResponseHeader(name, value string) Status {
	return Status(addHeader(2, textPtr(name), uint32(len(name)), textPtr(value), uint32(len(value))))
}

// SharedData returns the value of key and its compare-and-swap number, which is never 0
// where there is a value. The value is in buf if it fits there, and in memory of its own
// otherwise.
func SharedData(buf, key []byte) (value []byte, cas uint32, s Status) {
	offer(buf)
	s = Status(getSharedData(bytesPtr(key), uint32(len(key)),
		unsafe.Pointer(&out), unsafe.Pointer(&outSize), unsafe.Pointer(&outWord)))
	if s != OK {
		room = nil
		return nil, 0, s
	}
	return result(buf), outWord, OK
}

// SetSharedData stores a value if the number of what is there is cas, or nothing is
// there, or cas is 0.
func SetSharedData(key, value []byte, cas uint32) Status {
	return Status(setSharedData(bytesPtr(key), uint32(len(key)), bytesPtr(value), uint32(len(value)), cas))
}

// Reply answers the request. details is the reason, for logs; pairs are header fields
// as abi.AppendPairs encodes them.
func Reply(status uint32, details, body string, pairs []byte) {
	sendLocalResponse(status, textPtr(details), uint32(len(details)), textPtr(body), uint32(len(body)),
		bytesPtr(pairs), uint32(len(pairs)), -1)
}

// Foreign calls a function by name that has no result but what it writes to args, if
// anything: one of the extensions in package abi. A host without it answers NotFound.
func Foreign(name string, args []byte) Status {
	return callForeign(unsafe.Pointer(unsafe.StringData(name)), uint32(len(name)), // spelt out, it is inlined
		unsafe.Pointer(unsafe.SliceData(args)), uint32(len(args)), unsafe.Pointer(&out), unsafe.Pointer(&outSize))
}

// ForeignText is Foreign for an argument that is text.
func ForeignText(name, arg string) Status {
	return Foreign(name, unsafe.Slice(unsafe.StringData(arg), len(arg)))
}

// Values are values of the current exchange that are read together: header lines and properties.
// A host without that function is asked for each.
type Values struct {
	record  abi.ReadRecord
	entries []valueEntry // in record
	asked   []abi.ReadValue
	single  bool // the host has no such function
}

// A valueEntry is what a record has of a value.
type valueEntry struct{ kind, nameSize, at, size uint32 }

// NewValues returns values to read, whose order gives them numbers. The first room bytes of them are
// kept in memory that is used again and again; what is longer is allocated.
func NewValues(room int, values ...abi.ReadValue) Values {
	v := Values{record: abi.NewReadRecord(room, values...), asked: values}
	v.entries = unsafe.Slice((*valueEntry)(unsafe.Pointer(&v.record[v.record.Names(0)])), len(values))
	return v
}

// Read reads all of them.
func (v *Values) Read() {
	if v.single {
		return
	}
	v.single = Foreign(abi.ForeignReadValues, v.record) != OK
}

// Get returns the value with that number, as Read has found it; it may be overwritten by the next
// Read. False if it is not there.
func (v *Values) Get(i int) ([]byte, bool) {
	if e := &v.entries[i]; e.at != 0 {
		return v.record[e.at : e.at+e.size], true
	}
	return v.other(i)
}

// other returns a value that is not in the record.
func (v *Values) other(i int) ([]byte, bool) {
	if !v.single && v.entries[i].size == 0 {
		return nil, false
	}
	a := &v.asked[i]
	if a.Kind == abi.ReadProperty {
		return Property(nil, a.Name)
	}
	if getHeader(uint32(a.Kind), textPtr(a.Name), uint32(len(a.Name)), unsafe.Pointer(&out), unsafe.Pointer(&outSize)) != 0 {
		return nil, false
	}
	return result(nil), true
}

// A Gauge is a metric with a value. The zero Gauge has none.
type Gauge struct {
	id      uint32
	defined bool
}

// NewGauge defines a gauge, see NewCounter.
func NewGauge(name string) Gauge {
	status := defineMetric(1, textPtr(name), uint32(len(name)), unsafe.Pointer(&outWord))
	return Gauge{outWord, status == 0}
}

// Set sets the value.
func (g Gauge) Set(value uint64) {
	if g.defined {
		recordMetric(g.id, value)
	}
}

// ForeignResult is Foreign for a function that has a result, which is in buf if it fits
// there, and in memory of its own otherwise.
func ForeignResult(buf []byte, name string, args []byte) ([]byte, Status) {
	offer(buf)
	s := callForeign(textPtr(name), uint32(len(name)), bytesPtr(args), uint32(len(args)), unsafe.Pointer(&out), unsafe.Pointer(&outSize))
	if s != OK {
		room = nil
		out, outSize = nil, 0
		return nil, s
	}
	return result(buf), OK
}

// A Counter is a metric that only grows. The zero Counter counts nothing.
type Counter struct {
	id      uint32
	defined bool
}

// NewCounter defines a counter, or finds the one of that name. Where the host refuses,
// for instance because there are too many, it is one that counts nothing.
func NewCounter(name string) Counter {
	status := defineMetric(0, textPtr(name), uint32(len(name)), unsafe.Pointer(&outWord))
	return Counter{outWord, status == 0}
}

// ID returns the number that the host knows the metric by; false if there is none.
func (c Counter) ID() (id uint32, ok bool) { return c.id, c.defined }

// Inc adds one.
func (c Counter) Inc() {
	if c.defined {
		incrementMetric(c.id, 1)
	}
}

// Now returns the wall clock in nanoseconds since 1970.
func Now() int64 {
	currentTime(unsafe.Pointer(&outLong))
	return int64(outLong)
}

// Random fills b with random bytes of the host, fit for secrets. False if it has none.
func Random(b []byte) bool {
	return randomGet(bytesPtr(b), uint32(len(b))) == 0
}
