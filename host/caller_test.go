package host_test

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host"
	"wproxy/host/wasmtest"
)

// callHead is what a call has to have.
var callHead = []abi.Pair{{Name: ":method", Value: "GET"}, {Name: ":path", Value: "/check"}, {Name: ":authority", Value: "auth.example.com"}}

// A fakeCaller is a Caller whose upstreams are the test. It knows the upstreams u and v.
type fakeCaller struct {
	reject error
	now    *host.CallResponse // every call is answered so, at once
	calls  chan *fakeCall
}

// A fakeCall is a call that waits for its answer.
type fakeCall struct {
	*host.CallRequest
	ctx    context.Context
	answer chan host.CallResponse
}

func newFakeCaller() *fakeCaller { return &fakeCaller{calls: make(chan *fakeCall, 2000)} }

func (f *fakeCaller) Prepare(r *host.CallRequest) (func(context.Context) host.CallResponse, error) {
	if f.reject != nil {
		return nil, f.reject
	}
	if r.Upstream != "u" && r.Upstream != "v" {
		return nil, host.ErrNoUpstream
	}
	return func(ctx context.Context) host.CallResponse {
		c := &fakeCall{r, ctx, make(chan host.CallResponse, 1)}
		f.calls <- c
		if f.now != nil {
			return *f.now
		}
		select {
		case resp := <-c.answer:
			return resp
		case <-ctx.Done():
			return host.CallResponse{Outcome: host.CallCanceled}
		}
	}, nil
}

// next returns the next call.
func (f *fakeCaller) next(t *testing.T) *fakeCall {
	t.Helper()
	select {
	case c := <-f.calls:
		return c
	case <-time.After(30 * time.Second):
		t.Fatal("no call was made")
		return nil
	}
}

var answered = host.CallResponse{
	Outcome: host.CallAnswered, Status: 200, Body: []byte("the answer"),
	Fields:   []abi.Pair{{Name: "x-a", Value: "1"}, {Name: "x-a", Value: "2"}},
	Trailers: []abi.Pair{{Name: "x-end", Value: "y"}},
}

// A calling is a guest that makes HTTP calls, and writes down in its memory what it is
// told of the answers.
type calling struct {
	m      *wasmtest.Module
	make   wasmtest.Instr // makes the usual call and drops the status
	told   int32          // how often it was answered
	args   int32          // the five arguments of the last answer
	head   int32          // ptr and len of map 6, as read there
	trail  int32          // of map 7
	body   int32          // of buffer 4
	status int32          // code, ptr, len of get_status
	id     int32          // of the call made last
}

// newCalling makes the guest; in its callback for answers it runs then.
func newCalling(then ...wasmtest.Instr) *calling {
	m := wasmtest.NewGuest()
	c := &calling{m: m, told: m.Slot(4), args: m.Slot(20), head: m.Slot(8), trail: m.Slot(8), body: m.Slot(8), status: m.Slot(12), id: m.Slot(4)}
	c.make = wasmtest.Seq(c.call("u", callHead, "body", 1000), drop())
	pairs := m.Env("proxy_get_header_map_pairs", "iii>i")
	buffer := m.Env("proxy_get_buffer_bytes", "iiiii>i")
	status := m.Env("proxy_get_status", "iii>i")
	body := []wasmtest.Instr{wasmtest.Store32(i32(c.told), wasmtest.Add(wasmtest.Load32(i32(c.told)), i32(1)))}
	for i := range 5 {
		body = append(body, wasmtest.Store32(i32(c.args+int32(4*i)), wasmtest.Local(i)))
	}
	body = append(body,
		call(pairs, i32(6), i32(c.head), i32(c.head+4)), drop(),
		call(pairs, i32(7), i32(c.trail), i32(c.trail+4)), drop(),
		call(buffer, i32(4), i32(0), i32(0x7fffffff), i32(c.body), i32(c.body+4)), drop(),
		call(status, i32(c.status), i32(c.status+4), i32(c.status+8)), drop())
	m.Func("proxy_on_http_call_response", "iiiii", append(body, then...)...)
	return c
}

// call makes a call and leaves its status.
func (c *calling) call(upstream string, head []abi.Pair, body string, timeout int32) wasmtest.Instr {
	return c.send(upstream, head, body, "", timeout)
}

// send is call with encoded trailers.
func (c *calling) send(upstream string, head []abi.Pair, body, trailers string, timeout int32) wasmtest.Instr {
	f := c.m.Env("proxy_http_call", "iiiiiiiiii>i")
	return call(f, c.m.Str(upstream), c.m.Str(string(abi.AppendPairs(nil, head))), c.m.Str(body), c.m.Str(trailers), i32(timeout), i32(c.id))
}

func u32(mem []byte, at int32) uint32 { return binary.LittleEndian.Uint32(mem[at:]) }

// text returns what a ptr and a len at that address lead to.
func text(mem []byte, at int32) string {
	ptr, n := u32(mem, at), u32(mem, at+4)
	return string(mem[ptr : ptr+n])
}

func pairsText(t *testing.T, data string) string {
	t.Helper()
	pairs, err := abi.ParsePairs(nil, data)
	if err != nil {
		t.Fatal(err)
	}
	return (&fakeMap{pairs: pairs}).String()
}

// outcomes makes options whose plugin tells outcomes to the channel.
func outcomes(o options) (options, chan host.CallOutcome) {
	told := make(chan host.CallOutcome, 5000)
	o.plugin.OnCallout = func(_ string, out host.CallOutcome) { told <- out }
	return o, told
}

func wantOutcome(t *testing.T, told chan host.CallOutcome, want host.CallOutcome) {
	t.Helper()
	select {
	case got := <-told:
		if got != want {
			t.Fatalf("outcome %v, want %v", got, want)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("no outcome, want %v", want)
	}
}
