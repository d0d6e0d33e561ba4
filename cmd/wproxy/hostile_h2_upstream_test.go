package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"wproxy/cmd/wproxy/internal/strict"
)

// An h2Attack is what an HTTP/2 origin does to a connection with a request on it, and with
// what reason that request fails.
type h2Attack struct {
	name   string
	run    func(o *h2Attacker, stream uint32)
	reason string // of the request; alternatives with "|"
	kept   bool   // what it does costs the request, and not the connection
}

// flood sends a frame again and again, until it cannot.
func flood(frame func(o *h2Attacker, stream uint32, i int) error) func(*h2Attacker, uint32) {
	return func(o *h2Attacker, stream uint32) {
		for i := 0; i < 1_000_000 && frame(o, stream, i) == nil; i++ {
		}
	}
}

var h2Attacks = []h2Attack{
	{name: "PING", reason: "control_flood", run: flood(func(o *h2Attacker, _ uint32, i int) error { return o.fr.WritePing(false, [8]byte{byte(i)}) })},
	{name: "PING without reading", reason: "control_flood|output_backlog", run: func(o *h2Attacker, s uint32) {
		o.deaf.Store(true)
		flood(func(o *h2Attacker, _ uint32, i int) error { return o.fr.WritePing(false, [8]byte{byte(i)}) })(o, s)
	}},
	{name: "SETTINGS", reason: "control_flood", run: flood(func(o *h2Attacker, _ uint32, i int) error {
		return o.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i % 1000)})
	})},
	{name: "a thousand settings in a frame", reason: "control_flood", run: func(o *h2Attacker, _ uint32) {
		many := make([]http2.Setting, 2000)
		for i := range many {
			many[i] = http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i)}
		}
		_ = o.fr.WriteSettings(many...)
	}},
	{name: "GOAWAY", reason: "control_flood", run: flood(func(o *h2Attacker, _ uint32, _ int) error { return o.fr.WriteGoAway(1<<31-1, 0, []byte("storm")) })},
	{name: "WINDOW_UPDATE", reason: "window_update_flood", run: flood(func(o *h2Attacker, _ uint32, _ int) error { return o.fr.WriteWindowUpdate(0, 1) })},
	{name: "PRIORITY", reason: "priority_flood", run: flood(func(o *h2Attacker, s uint32, _ int) error {
		return o.fr.WritePriority(s, http2.PriorityParam{StreamDep: 99})
	})},
	{name: "unknown frames", reason: "unknown_frame_flood", run: flood(func(o *h2Attacker, s uint32, _ int) error { return o.fr.WriteRawFrame(0xbe, 0, s, nil) })},
	{name: "CONTINUATION", reason: "continuation_flood", run: func(o *h2Attacker, s uint32) {
		_ = o.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: s, BlockFragment: []byte{0x88}})
		flood(func(o *h2Attacker, s uint32, _ int) error { return o.fr.WriteContinuation(s, false, nil) })(o, s)
	}},
	{name: "a head without end", reason: "head_too_large", run: func(o *h2Attacker, s uint32) {
		_ = o.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: s, BlockFragment: []byte{0x88}})
		field := append([]byte{0x00, 0x01, 'x', 0x7f, 0xe1, 0x7d}, bytes.Repeat([]byte{'v'}, 16_000)...)
		flood(func(o *h2Attacker, s uint32, _ int) error { return o.fr.WriteContinuation(s, false, field) })(o, s)
	}},
	{name: "HPACK bomb", reason: "head_too_large|too_many_fields", kept: true, run: func(o *h2Attacker, s uint32) {
		// One field of 3,000 bytes goes into the table; then 16,000 references to it, of a byte each.
		block := append([]byte{0x88, 0x40, 0x01, 'x', 0x7f, 0xb9, 0x16}, bytes.Repeat([]byte{'v'}, 3000)...)
		_ = o.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: s, BlockFragment: block})
		_ = o.fr.WriteContinuation(s, true, bytes.Repeat([]byte{0xbe}, 16_000))
	}},
	{name: "1xx", reason: "too_many_interim|head_too_large", kept: true, run: func(o *h2Attacker, s uint32) {
		for range 1000 {
			if o.head(s, false, ":status", "103", "link", "</"+strings.Repeat("a", 1000)+">") != nil {
				return
			}
		}
	}},
	{name: "empty DATA", reason: "empty_data_flood|late_frame_flood", run: func(o *h2Attacker, s uint32) {
		_ = o.head(s, false, ":status", "200")
		flood(func(o *h2Attacker, s uint32, _ int) error { return o.fr.WriteData(s, false, nil) })(o, s)
	}},
	{name: "RST_STREAM", reason: "reset", run: flood(func(o *h2Attacker, s uint32, _ int) error { return o.fr.WriteRSTStream(s, http2.ErrCodeCancel) })},
	{name: "pushes", reason: "h2_protocol", run: flood(func(o *h2Attacker, s uint32, i int) error {
		return o.fr.WritePushPromise(http2.PushPromiseParam{StreamID: s, PromiseID: uint32(2 * (i + 1)), BlockFragment: []byte{0x82}, EndHeaders: true})
	})},
	{name: "a window that overflows", reason: "h2_flow_control", run: func(o *h2Attacker, _ uint32) { _ = o.fr.WriteWindowUpdate(0, 1<<31-1) }},
	{name: "more than the window", reason: "h2_flow_control|late_frame_flood", run: func(o *h2Attacker, s uint32) {
		_ = o.head(s, false, ":status", "200")
		block := make([]byte, 16<<10)
		flood(func(o *h2Attacker, s uint32, _ int) error { return o.fr.WriteData(s, false, block) })(o, s)
	}},
	{name: "bytes that are no frames", reason: "h2_frame_size", run: func(o *h2Attacker, _ uint32) {
		junk := bytes.Repeat([]byte{0xff}, 16<<10)
		for range 1000 {
			if _, err := o.w.Write(junk); err != nil {
				return
			}
		}
	}},
}

// An h2Attacker is a connection of the origin.
type h2Attacker struct {
	nc   net.Conn
	w    *bufio.Writer // to nc: a flood of writes would be one of system calls
	fr   *http2.Framer
	buf  bytes.Buffer
	enc  *hpack.Encoder
	deaf atomic.Bool // it does not read
}

func (o *h2Attacker) head(stream uint32, end bool, fields ...string) error {
	o.buf.Reset()
	for i := 0; i+1 < len(fields); i += 2 {
		if err := o.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1], Sensitive: true}); err != nil {
			return err
		}
	}
	return o.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: o.buf.Bytes(), EndHeaders: true, EndStream: end})
}

// serve attacks once there is a request, and counts the connection for as long as the
// other end has it.
func (o *h2Attacker) serve(current *atomic.Pointer[h2Attack]) {
	if _, err := io.ReadFull(o.nc, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	o.w = bufio.NewWriterSize(o.nc, 64<<10)
	o.fr = http2.NewFramer(o.w, o.nc)
	o.fr.AllowIllegalWrites = true
	o.enc = hpack.NewEncoder(&o.buf)
	if o.fr.WriteSettings() != nil || o.w.Flush() != nil {
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for begun := false; !o.deaf.Load(); {
		f, err := o.fr.ReadFrame()
		if err != nil {
			return
		}
		if h, ok := f.(*http2.HeadersFrame); ok && !begun {
			attack := current.Load()
			if begun = !attack.kept; !begun {
				attack.run(o, h.StreamID)
				_ = o.w.Flush() // the other end may have had enough
				continue
			}
			wg.Go(func() {
				attack.run(o, h.StreamID)
				_ = o.w.Flush() // as above
			})
		}
	}
}

// startAttacker serves attacks; open is how many connections it has.
func startAttacker(t *testing.T, current *atomic.Pointer[h2Attack]) (address string, open *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open = new(atomic.Int64)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			open.Add(1)
			wg.Go(func() {
				defer open.Add(-1)
				defer nc.Close()
				_ = nc.SetDeadline(time.Now().Add(20 * time.Second)) // nothing hangs here
				(&h2Attacker{nc: nc}).serve(current)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().String(), open
}

const h2AttackConfig = `version = 1
[listeners.http]
address = "@ADDR"
[routes.bad]
path = "/bad/*"
upstream = "bad"
[routes.good]
upstream = "good"
[upstreams.bad]
servers = ["@BAD"]
connect = { protocol = "h2", read_timeout = "3s" }
[upstreams.good]
servers = ["@GOOD"]
connect = { protocol = "h2" }
[admin]
address = "@ADMIN"
[log.access]
to = "@ACCESS"
`

// TestHostileHTTP2Upstreams: what an HTTP/2 origin does to its connection costs that
// connection, and those who are on it: the reason is in the log, failures are counted,
// memory stays flat, and requests to another upstream go on as if nothing were.
func TestHostileHTTP2Upstreams(t *testing.T) {
	if raceDetector {
		t.Skip("floods at a tenth of the speed measure the race detector; core/h2 has them with it")
	}
	var current atomic.Pointer[h2Attack]
	bad, open := startAttacker(t, &current)
	good := h2Origin(t)
	in := startInstance(t, strings.NewReplacer("@BAD", bad, "@GOOD", good).Replace(h2AttackConfig))
	want := 0 // requests: of a test that is run again alone, too
	for i, a := range h2Attacks {
		t.Run(a.name, func(t *testing.T) {
			current.Store(&a)
			want += attackRequests
			growth := heapGrowth(func() {
				stop, slowest := make(chan struct{}), make(chan time.Duration)
				go func() { slowest <- in.keepAsking(t, stop) }() // ends with stop
				for range attackRequests {                        // each meets a connection of its own, or what is left of the last
					if err := in.askAttacker(t, i); err != nil {
						t.Error(err)
					}
				}
				close(stop)
				if took := <-slowest; took > 2*time.Second {
					t.Errorf("a request to the other upstream took %v", took)
				}
			})
			if growth > maxGrowth {
				t.Errorf("the heap grew by %d MiB", growth>>20)
			}
			if !a.kept {
				strict.Eventually(t, "without its connections", func() bool { return open.Load() == 0 })
			}
		})
	}
	if n := in.sum(t, "wproxy_upstream_failures_total"); n != float64(want) {
		t.Errorf("%v failures are counted, want %d", n, want)
	}
	line := regexp.MustCompile(`"path":"/bad/(\d+)".*"reason":"(upstream_)?([a-z0-9_]+)"`)
	var found [][]string
	strict.Eventually(t, "all lines in the log", func() bool {
		b, err := os.ReadFile(in.access)
		found = line.FindAllStringSubmatch(string(b), -1)
		return err == nil && len(found) >= want
	})
	for _, m := range found {
		i, err := strconv.Atoi(m[1])
		if err != nil || !slices.Contains(strings.Split(h2Attacks[i].reason, "|"), m[3]) {
			t.Errorf("%s: the reason is %q, want %s", h2Attacks[i].name, m[3], h2Attacks[i].reason)
		}
	}
	if strings.Contains(in.stderr.String(), "panic") {
		t.Errorf("panic: %s", in.stderr)
	}
}

// attackRequests is how many requests meet an attack, one after the other.
const attackRequests = 3

// askAttacker makes one request to the attacker's route, and says what is wrong with the
// answer: it is a 502, or one that was under way and is cut, by a FIN or a reset.
func (in *instance) askAttacker(t *testing.T, attack int) error {
	w := in.connect(t)
	defer w.Close()
	if _, err := fmt.Fprintf(w, "GET /bad/%d HTTP/1.1\r\nHost: a.test\r\n\r\n", attack); err != nil {
		return err
	}
	resp, err := w.r.ReadResponse("GET")
	switch {
	case err == nil && resp.Status == http.StatusBadGateway:
		return nil
	case errors.Is(err, io.ErrUnexpectedEOF) && resp.Status == http.StatusOK:
		return nil
	case errors.Is(err, syscall.ECONNRESET) && (resp.Status == http.StatusOK || resp.Status == 0): // it may overtake the head
		return nil
	case err == nil:
		return fmt.Errorf("the client got status %d", resp.Status)
	}
	return fmt.Errorf("the client got status %d, then %w", resp.Status, err)
}

// keepAsking asks for something else until stop, which has to be answered each time, and
// returns how long that took at most.
func (in *instance) keepAsking(t *testing.T, stop <-chan struct{}) (slowest time.Duration) {
	w := in.connect(t)
	defer w.Close()
	for i := 0; ; i++ {
		select {
		case <-stop:
			if i > 0 {
				return slowest
			}
		default:
		}
		begin := time.Now()
		if _, err := fmt.Fprintf(w, "GET /good/%d HTTP/1.1\r\nHost: a.test\r\n\r\n", i); err != nil {
			t.Error(err)
			return slowest
		}
		resp, err := w.r.ReadResponse("GET")
		if err != nil || resp.Status != 200 || string(resp.Body) != fmt.Sprintf("/good/%d", i) {
			t.Errorf("the other upstream: %d %q, %v", resp.Status, resp.Body, err)
			return slowest
		}
		slowest = max(slowest, time.Since(begin))
	}
}

// h2Origin answers requests over HTTP/2, by prior knowledge, with their path.
func h2Origin(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) }),
		Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute,
	}
	s.Protocols.SetUnencryptedHTTP2(true)
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) }) // ends with s
	t.Cleanup(func() {
		_ = s.Close()
		wg.Wait()
	})
	return l.Addr().String()
}
