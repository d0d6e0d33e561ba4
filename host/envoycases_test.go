package host_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
)

// notLive are the cases of hostCallCases that are not made on a live proxy.
func notLive(c *hostCallCase) bool {
	return isGRPC(c.call) || c.call == "pthread_equal"
}

// isGRPC reports whether a call, or callback, is about gRPC: no server is there for it.
func isGRPC(name string) bool { return strings.Contains(name, "_grpc_") }

// liveCalls returns the cases of hostCallCases, to be made on live proxies.
func liveCalls(t *testing.T) []*liveCase {
	t.Helper()
	var list []*liveCase
	for _, c := range slices.Concat(hostCallCases(), badAddresses()) {
		if notLive(&c) {
			continue
		}
		id := fmt.Sprintf("call%d", len(list))
		vmID := id
		if slices.Contains(c.args, any("vm7")) {
			vmID = "vm7"
		}
		want := c.want
		if c.name == "shared data, too big" {
			want = abi.StatusOK // the bound of a proxy is above what the test of the host has
		}
		list = append(list, &liveCase{
			id: id, name: caseName(c.call, c.name), want: fmt.Sprint(uint32(want)), wasm: liveCall(t, id, &c), vmID: vmID, config: "the plugin",
			body: needsBody(&c),
			read: func(r *liveResult) { readCall(id, &c, r) },
		})
	}
	return list
}

// badAddresses returns a case for each address that a host function takes, which is out of
// range there.
func badAddresses() []hostCallCase {
	var list []hostCallCase
	for _, name := range slices.Sorted(maps.Keys(shapes)) {
		if isGRPC(name) {
			continue
		}
		c := hostCallCase{call: name, want: abi.StatusInvalidMemoryAccess}
		if name == abi.ImportGetConfiguration {
			c.version = v010
		}
		for i, a := range shapes[name].args {
			switch a.(type) {
			case string:
				c.args = slices.Concat(shapes[name].args[:i], []any{raw(0xfffffff0), raw(8)}, shapes[name].args[i+1:])
			case out:
				c.args = slices.Concat(shapes[name].args[:i], []any{raw(0xffffffff)}, shapes[name].args[i+1:])
			default:
				continue
			}
			c.name = fmt.Sprintf("bad address %d", i)
			list = append(list, c)
		}
	}
	return list
}

// reports returns what the guest with this name has told, decoded: the status, or how
// often a callback was called, with what is behind it; the results; and the data.
func reports(id string, log []string) [][][]byte {
	var all [][][]byte
	for _, line := range log {
		at, ok := strings.CutPrefix(line, "@"+id+" ")
		if !ok {
			continue
		}
		var report [][]byte
		for part := range strings.SplitSeq(strings.TrimSpace(at), " ") {
			b, err := hex.DecodeString(part)
			if err != nil {
				b = []byte(part)
			}
			report = append(report, b)
		}
		all = append(all, report)
	}
	return all
}

// readCall makes facts of what came of a call.
func readCall(id string, c *hostCallCase, r *liveResult) {
	r.facts["client"] = r.answer
	r.facts["upstream"] = r.upstream
	if c.guest != "" {
		r.facts["log"] = fmt.Sprint(slices.Contains(r.log, c.guest))
	}
	told := reports(id, r.log)
	if len(told) == 0 || len(told[0]) < 2 {
		r.facts["status"] = "not called"
		return
	}
	status := binary.LittleEndian.Uint32(told[0][0])
	r.facts["status"] = fmt.Sprint(status)
	area := told[0][1][16:]
	switch {
	case !slices.ContainsFunc(c.args, func(a any) bool { _, is := a.(out); return is }):
	case status != 0:
		r.facts["result"] = "none"
		for _, b := range area[:16] {
			if b != guard {
				r.facts["result"] = "written"
			}
		}
	case hasData[c.call]:
		var data []byte
		if len(told[0]) > 2 {
			data = told[0][2]
		}
		r.facts["result"] = dataOf(c, area, data)
	default:
		r.facts["result"] = scalarOf(c, area)
	}
}

// hasData are the calls whose result is data that the guest's allocator found a place for.
var hasData = map[string]bool{
	abi.ImportGetBufferBytes: true, abi.ImportGetHeaderMapPairs: true, abi.ImportGetHeaderMapValue: true, abi.ImportGetSharedData: true,
	abi.ImportDequeueSharedQueue: true, abi.ImportGetProperty: true, abi.ImportCallForeignFunction: true, abi.ImportGetConfiguration: true,
}

func dataOf(c *hostCallCase, area, data []byte) string {
	at, size := binary.LittleEndian.Uint32(area), binary.LittleEndian.Uint32(area[4:])
	s := fmt.Sprintf("%q", data)
	switch {
	case size == 0 && at == 0:
		s = "nothing, at 0"
	case size == 0:
		s = "nothing, at an address"
	case size == 0xa5a5a5a5:
		s = "nothing was written"
	case int(size) != len(data):
		s = fmt.Sprintf("%d bytes", size)
	case c.call == abi.ImportGetHeaderMapPairs:
		s = pairsOf(data)
	}
	if c.call == abi.ImportGetSharedData {
		s += fmt.Sprintf(", cas 0: %t", binary.LittleEndian.Uint32(area[8:]) == 0)
	}
	return s
}

// pairsOf writes a map in the order of its names, without what proxies add.
func pairsOf(data []byte) string {
	pairs, err := abi.ParsePairs(nil, string(data))
	if err != nil {
		return err.Error()
	}
	var list []string
	for _, p := range pairs {
		if !slices.Contains(ownFields, p.Name) {
			list = append(list, p.Name+"="+p.Value)
		}
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func scalarOf(c *hostCallCase, area []byte) string {
	switch c.call {
	case abi.ImportGetCurrentTime:
		if d := time.Since(time.Unix(0, int64(binary.LittleEndian.Uint64(area)))); d < 0 || d > 10*time.Minute {
			return "another time"
		}
		return "now"
	case abi.ImportDefineMetric, abi.ImportRegisterSharedQueue, abi.ImportResolveSharedQueue, abi.ImportHTTPCall:
		return fmt.Sprintf("an id other than 0: %t", binary.LittleEndian.Uint32(area) != 0)
	case abi.ImportGetHeaderMapSize:
		if size, pairs := binary.LittleEndian.Uint32(area), binary.LittleEndian.Uint32(area[40:]); size != pairs {
			return "not the serialized size"
		}
		return "the serialized size"
	case abi.ImportGetStatus:
		return fmt.Sprintf("code %d, message of %d bytes", binary.LittleEndian.Uint32(area), binary.LittleEndian.Uint32(area[8:]))
	}
	var words []string
	for ; binary.LittleEndian.Uint32(area) != 0xa5a5a5a5 && len(words) < 3; area = area[4:] {
		words = append(words, fmt.Sprint(binary.LittleEndian.Uint32(area)))
	}
	return strings.Join(words, " ")
}

// liveCallbacks returns the cases of callbackCases. Nothing on a live proxy makes
// proxy_on_foreign_function happen.
func liveCallbacks(t *testing.T) []*liveCase {
	t.Helper()
	var list []*liveCase
	add := func(c callbackCase, version, name string, answer uint32) {
		id := fmt.Sprintf("back%d", len(list))
		list = append(list, &liveCase{
			id: id, name: caseName(c.name, name), wasm: liveCallback(t, id, c.name, version, answer), vmID: id, config: "plugin",
			body: strings.Contains(c.name, "request_body") || strings.Contains(c.name, "trailers"), trails: strings.Contains(c.name, "trailers"),
			read: func(r *liveResult) { readCallback(id, &c, answer, r) },
		})
	}
	for _, c := range callbackCases() {
		if c.name == abi.ExportOnForeignFunction || isGRPC(c.name) {
			continue
		}
		add(c, v010, "0.1.0", 0)
		add(c, v020, "0.2.0", 0)
		add(c, v021, "0.2.1", 0)
		if c.action {
			for _, answer := range []uint32{1, 2, 3, 4, 99, 0xffffffff} {
				add(c, v021, fmt.Sprintf("answers %d", int32(answer)), answer)
			}
		}
		if c.name == "proxy_on_request_headers" {
			add(c, v0100, "0.2.100", 0)
		}
	}
	return list
}

// readCallback makes facts of what came of a callback.
func readCallback(id string, c *callbackCase, answer uint32, r *liveResult) {
	r.facts["client"] = r.answer
	r.facts["upstream"] = r.upstream
	var calls []string
	size, most, end := 0, 0, uint32(0)
	for _, told := range reports(id, r.log) {
		var args []string
		words := make([]uint32, len(c.args))
		for i := range words {
			words[i] = binary.LittleEndian.Uint32(told[0][8+8*i:])
			args = append(args, fmt.Sprint(words[i]))
		}
		switch {
		case strings.HasSuffix(c.name, "_body"):
			// Where data are cut says nothing: only all of it counts, and the end. Of a
			// body that is held the largest piece counts: some hosts show it anew.
			if size += int(words[1]); answer != 0 {
				most = max(most, int(words[1]))
				size = most
			}
			end |= words[2]
			args[1], args[2] = fmt.Sprint(size), fmt.Sprint(end)
			calls = nil
		case strings.HasSuffix(c.name, "_headers"), c.name == "proxy_on_queue_ready":
			args[1] = notZero(words[1]) // of lines, some are the proxy's; the number of the queue
		case c.name == "proxy_on_http_call_response":
			args[1], args[2] = notZero(words[1]), notZero(words[2])
		case words[0] == 1 && slices.Contains([]string{"proxy_on_done", "proxy_on_delete"}, c.name):
			continue // of roots that were only tried
		}
		if call := strings.Join(args, " "); !slices.Contains(calls, call) {
			calls = append(calls, call)
		}
	}
	r.facts["called with"] = strings.Join(calls, ", ")
}

func notZero(n uint32) string {
	if n == 0 {
		return "0"
	}
	return "n"
}

// liveOrders returns cases of a guest that logs all callbacks.
func liveOrders() []*liveCase {
	list := []*liveCase{
		{name: "`order`: no body"},
		{name: "`order`: with a body", body: true},
		{name: "`order`: with trailers", body: true, trails: true},
		{name: "`order`: the upstream breaks off", dies: true},
	}
	for i, c := range list {
		c.id = fmt.Sprintf("order%d", i)
		c.vmID, c.config = c.id, "plugin"
		c.wasm = tracerOf("@"+c.id+" ", abi.Continue).Bytes()
		c.read = func(r *liveResult) {
			var order []string
			for _, line := range r.log {
				said, ok := strings.CutPrefix(line, "@"+c.id+" ")
				if ok && strings.HasSuffix(said, " 2") {
					order = append(order, strings.TrimSuffix(said, " 2"))
				}
			}
			order = slices.Compact(order)
			at := max(0, len(order)-3)
			r.facts["order"], r.facts["end"] = strings.Join(order[:at], ", "), strings.Join(order[at:], ", ")
		}
	}
	return list
}

// livePlugins returns cases of the shipped plugins.
func livePlugins(t *testing.T) []*liveCase {
	t.Helper()
	read := func(name string) []byte {
		wasm, err := os.ReadFile("../plugins/builtin/" + name + ".wasm")
		if err != nil {
			t.Fatal(err)
		}
		return wasm
	}
	list := []*liveCase{
		{name: "`securityheaders`: strict", wasm: read("securityheaders"), config: `{"preset":"strict","hsts":"1y"}`},
		{name: "`securityheaders`: nonces, remove", wasm: read("securityheaders"), config: `{"preset":"off","remove":["content-type"],"content-security-policy":"script-src 'nonce-{nonce}'"}`},
		{name: "`securityheaders`: add-if-missing", wasm: read("securityheaders"), config: `{"preset":"basic","mode":"add-if-missing"}`},
		{name: "`ratelimit`: by address", wasm: read("ratelimit"), config: `{"rate":"2/h","burst":2}`, repeat: 3},
		{name: "`ratelimit`: by header", wasm: read("ratelimit"), config: `{"rate":"2/h","burst":1,"key":"header:accept"}`, repeat: 2},
		{name: "`ratelimit`: report", wasm: read("ratelimit"), config: `{"rate":"1/h","mode":"report"}`, repeat: 2},
	}
	for i, c := range list {
		c.id, c.tcp = fmt.Sprintf("shipped%d", i), true
		c.vmID = c.id
		c.read = func(r *liveResult) {
			r.facts["client"] = changing.ReplaceAllString(r.answer, "$1=…")
			r.facts["upstream"] = changing.ReplaceAllString(r.upstream, "$1=…")
		}
	}
	return list
}

// changing are nonces, and the seconds until a bucket is full.
var changing = regexp.MustCompile(`\b(nonce|t)[-=][A-Za-z0-9+/_-]+=*`)
