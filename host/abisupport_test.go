package host_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/host"
)

var update = flag.Bool("update", false, "write docs/abi-support.md anew")

const supportPath = "../docs/abi-support.md"

// inVersions are the versions whose specification has a name; all that are not here are in
// all of them.
var inVersions = map[string]string{
	abi.ImportGetConfiguration:  "0.1.0",
	abi.ImportContinueRequest:   "0.1.0",
	abi.ImportContinueResponse:  "0.1.0",
	abi.ImportClearRouteCache:   "0.1.0",
	abi.ImportContinueStream:    "0.2.0, 0.2.1",
	abi.ImportCloseStream:       "0.2.0, 0.2.1",
	abi.ImportGetLogLevel:       "0.2.1",
	abi.ExportOnForeignFunction: "0.2.0, 0.2.1",
}

// callStatuses are the statuses that each host function can answer (abi.md 1.2, 9.1).
var callStatuses = map[string]string{
	abi.ImportLog: "0 2 6", abi.ImportGetLogLevel: "0 6", abi.ImportGetCurrentTime: "0 6", abi.ImportSetTickPeriod: "0",
	abi.ImportGetConfiguration: "0 6", abi.ImportSetEffectiveContext: "0 2", abi.ImportDone: "0 1",
	abi.ImportGetBufferBytes: "0 1 2 6", abi.ImportSetBufferBytes: "0 1 2 6", abi.ImportGetBufferStatus: "0 1 2 6",
	abi.ImportGetHeaderMapSize: "0 2 6", abi.ImportGetHeaderMapPairs: "0 2 6", abi.ImportSetHeaderMapPairs: "0 2 6",
	abi.ImportGetHeaderMapValue: "0 1 2 6", abi.ImportAddHeaderMapValue: "0 2 6", abi.ImportReplaceHeaderMapValue: "0 2 6",
	abi.ImportRemoveHeaderMapValue: "0 2 6", abi.ImportContinueStream: "0 2", abi.ImportCloseStream: "0 2",
	abi.ImportContinueRequest: "0", abi.ImportContinueResponse: "0", abi.ImportClearRouteCache: "0",
	abi.ImportSendLocalResponse: "0 6", abi.ImportSetSharedData: "0 6 8 10", abi.ImportGetSharedData: "0 1 6",
	abi.ImportRegisterSharedQueue: "0 6 10", abi.ImportResolveSharedQueue: "0 1 6", abi.ImportEnqueueSharedQueue: "0 1 6 10",
	abi.ImportDequeueSharedQueue: "0 1 6 7", abi.ImportDefineMetric: "0 2 6", abi.ImportIncrementMetric: "0 1 2",
	abi.ImportRecordMetric: "0 1", abi.ImportGetMetric: "0 1 2 6", abi.ImportGetProperty: "0 1 6", abi.ImportSetProperty: "0 6",
	abi.ImportCallForeignFunction: "0 1 2 3 6", abi.ImportHTTPCall: "0 2 6 10", abi.ImportGetStatus: "0 6",
	abi.ImportGRPCCall: "0 4 6 10", abi.ImportGRPCStream: "0 4 6 10", abi.ImportGRPCSend: "0 1 2 6",
	abi.ImportGRPCCancel: "0 1", abi.ImportGRPCClose: "0 1",
}

// elsewhere are the tests of statuses that take more than one call.
var elsewhere = map[string]string{abi.ImportDone + " 0": "TestDoneOfAnother"}

// foreignTests are the foreign functions, with their tests.
var foreignTests = map[string]string{
	"clear_route_cache": "TestHostCalls, TestReroute, TestRepick", "compress": "TestCompress", "uncompress": "TestCompress",
	"declare_property": "TestDeclareProperty", "get_log_level": "TestForeignLogLevel", "set_envoy_filter_state": "TestFilterState",
	"sign": "TestSignatures", "verify_signature": "TestSignatures",
}

// checklist is what "complete" means beyond single calls and callbacks.
var checklist = [][2]string{
	{"every address and length that a call takes, out of range", "TestHostCallAddresses, TestEmptyAtAnyAddress"},
	{"empty and huge values, numbers beyond all enums", "TestHostCallExtremes"},
	{"one allocation for a value, of exactly its size; empty results; memory that grows meanwhile", "TestAllocator, TestMemoryGrowsDuringCall"},
	{"markers 0.1.0, 0.2.0, 0.2.1 and 0.2.100, the first counts", "TestMarkers"},
	{"signatures of early SDKs; names that nobody knows", "TestSignatureVariants, TestUnknownImport"},
	{"start functions: _initialize, _initialize and main, _start, a start section, none", "TestStartKinds, TestStartFunctions"},
	{"host calls during the start and inside of the allocator", "TestEarlyHostCalls"},
	{"allocators proxy_on_memory_allocate and malloc", "TestAllocator"},
	{"WASI under wasi_snapshot_preview1 and wasi_unstable", "TestWASI, TestWASILinks"},
	{"header callbacks with two parameters, callbacks without results", "TestCallbackTypes, TestCallbackArguments"},
	{"roots: context_create, vm_start, configure; plugin_root_id at context_create", "TestRootOrder, TestRootCallbacks"},
	{"vm_start and configure that answer false", "TestStartRefused, TestRefusedSettings"},
	{"callback orders of an exchange", "TestCallbackOrders, TestLifecycle, TestHammer"},
	{"the end: done, log, delete, also of reset streams; proxy_done on streams and roots; never log on a root", "TestCallbackOrders, TestDelayedDone, TestDoneOfAnother"},
	{"set_effective_context from ticks and other streams; bodies seen from elsewhere", "TestEffectiveContext, TestForeignBodyIsCopied"},
	{"continue and close for both sides; nothing re-enters", "TestContinueSides, TestCloseStream, TestTickResumesMany"},
	{"Pause in headers: stop-all and hold; body and trailers results", "TestStopAllHoldsBody, TestHoldReadsBodyThenEditsHead, TestBodyActions"},
	{"local replies in each phase", "TestLocalReply, TestLocalReplyFromTick, TestLocalReplyForms, TestReplyInChain"},
	{"set_buffer_bytes: prepend, append, replace, in the middle", "TestReplaceBody, TestFraming"},
	{"trailers: edited, added in the last body callback, seen in on_log", "TestTrailers, TestAddTrailers, TestMapsAfterRelease"},
	{"the response in reverse order; plugins that have not seen the request", "TestChainOrder, TestUnseen"},
	{"TCP: what is paused accumulates, in both directions; backpressure; a pause that does not end", "TestTCPPause, TestTCPBackpressure"},
	{"TCP: continue_stream for both sides, from elsewhere, in 0.1.0, 0.2.0 and 0.2.1; a connection held in on_new_connection", "TestTCPContinue"},
	{"TCP: set_buffer_bytes: prepend, append, replace, in the middle, in three versions", "TestTCPEdit"},
	{"TCP: close callbacks with who has closed; done, log, delete; close_stream", "TestTCPCallbackOrder, TestTCPFailures"},
	{"TCP: a guest that traps, loops, pauses for ever, closes; nothing is left of 10,000 connections", "TestTCPFailures, TestTCPNothingIsLeft"},
	{"TCP: a plugin of the Go SDK", "TestGoNetworkPlugin"},
	{"routes matched again after edits, on demand, and not at all", "TestRepick, TestReroute, TestPluginMovesRoute"},
	{"properties, in both spellings", "TestProperties, TestPeerCertificate, TestWellKnownPropertiesAreNotForged, TestPropertyBag"},
	{"shared data: cas, bounds, over reloads", "TestSharedData, TestSharedDataCAS, TestSharedDataBound"},
	{"shared queues: consumers, bounds, over reloads, several VMs", "TestQueue, TestQueueConsumers, TestQueueBounds, TestQueueHammer"},
	{"on_foreign_function, buffer 8", "TestOnForeignFunction"},
	{"HTTP calls: answered once, also when the stream has gone; failures; many at once; never before the callback is over", "TestHTTPCallAnswers, TestHTTPCallOutlivesStream, TestHTTPCallResumes, TestHTTPCallNeverReenters, TestHTTPCallFromEverywhere, TestHTTPCallHammer"},
	{"gRPC calls: a message or a status, once, also when the stream has gone; both types of early SDKs; an Envoy GrpcService", "TestGRPCCallAnswers, TestGRPCCallArguments, TestGRPCService, TestGRPCOutlivesStream"},
	{"gRPC streams: metadata, messages and status in their order, what is readable when; close, cancel, and what is sent after; bounds", "TestGRPCStream, TestGRPCViews, TestGRPCCloseAndCancel, TestGRPCSendLimits, TestGRPCIsGivenUp, TestGRPCHammer"},
	{"gRPC against real servers, and ones that flood, lie or never end", "TestGRPCOverTheEngine, TestGRPCHostileUpstream, TestGRPCStreamOverReloads"},
	{"what is not granted answers 10, or ENOTCAPABLE", "TestGrants"},
	{"metrics of the three kinds", "TestMetrics, TestMetricBound"},
	{"a trap in each callback; a dead instance is never called", "TestTrapInEachCallback, TestTrapCauses, TestRestart"},
	{"instances replaced alive; generations drained and closed", "TestRecycle, TestRecycleHammer, TestGenerations, TestSwapUnderLoad"},
}

// TestABISupport holds docs/abi-support.md against what there is: every host function and
// callback has its row, every row its test, and each status of a call a case that brings
// it about. With -update the page is written anew.
func TestABISupport(t *testing.T) {
	tests := testNames(t)
	names := func(list string) string {
		for name := range strings.SplitSeq(list, ", ") {
			if !tests[name] {
				t.Errorf("there is no test %s", name)
			}
		}
		return list
	}
	var page strings.Builder
	page.WriteString(supportHead)
	page.WriteString("## Host calls\n\nStatuses are those that a call can answer; each has a test. While an instance starts, and inside of its allocator,\nevery call but `proxy_log` answers 10.\n\n| call | specified in | supported | statuses | test |\n|---|---|---|---|---|\n")
	answered := answeredStatuses(t)
	calls := host.HostFuncNames()
	slices.Sort(calls)
	for _, name := range calls {
		for s := range strings.FieldsSeq(callStatuses[name]) {
			if !answered[name][s] && elsewhere[name+" "+s] == "" {
				t.Errorf("%s: no case is answered with status %s", name, s)
			}
			delete(answered[name], s)
		}
		for s := range answered[name] {
			t.Errorf("%s answers status %s, which is not listed", name, s)
		}
		test := names("TestHostCalls") + "/" + name
		for _, key := range slices.Sorted(maps.Keys(elsewhere)) {
			if strings.HasPrefix(key, name+" ") {
				test += ", " + names(elsewhere[key])
			}
		}
		fmt.Fprintf(&page, "| `%s` | %s | yes | %s | %s |\n", name, versionsOf(name), callStatuses[name], test)
	}
	page.WriteString("\n## Callbacks\n\n| callback | specified in | supported | test |\n|---|---|---|---|\n")
	var callbacks []string
	for _, c := range callbackCases() {
		callbacks = append(callbacks, c.name)
	}
	slices.Sort(callbacks)
	for _, name := range callbacks {
		fmt.Fprintf(&page, "| `%s` | %s | yes | %s/%s |\n", name, versionsOf(name), names("TestCallbacks"), name)
	}
	page.WriteString("\n## Foreign functions\n\n| name | test |\n|---|---|\n")
	foreign := host.ForeignNames()
	slices.Sort(foreign)
	for _, name := range foreign {
		fmt.Fprintf(&page, "| `%s` | %s |\n", name, names(foreignTests[name]))
	}
	page.WriteString(supportForeign)
	page.WriteString("## The rest\n\n| what | test |\n|---|---|\n")
	for _, row := range checklist {
		fmt.Fprintf(&page, "| %s | %s |\n", row[0], names(row[1]))
	}
	page.WriteString(supportTail)

	if *update {
		if err := os.WriteFile(supportPath, []byte(page.String()), 0o644); err != nil { //nolint:gosec // a page of documentation
			t.Fatal(err)
		}
	}
	was, err := os.ReadFile(supportPath)
	if err != nil || string(was) != page.String() {
		t.Errorf("%s is out of date (%v): go test ./host -run TestABISupport -update", supportPath, err)
	}
}

func versionsOf(name string) string {
	if v := inVersions[name]; v != "" {
		return v
	}
	return "all"
}

// answeredStatuses returns which statuses the table tests bring about, by call.
func answeredStatuses(t *testing.T) map[string]map[string]bool {
	t.Helper()
	all := map[string]map[string]bool{}
	note := func(name string, status abi.Status) {
		if all[name] == nil {
			all[name] = map[string]bool{}
		}
		all[name][fmt.Sprint(uint32(status))] = true
	}
	for _, c := range hostCallCases() {
		note(c.call, c.want)
	}
	for name, shape := range shapes {
		for _, a := range shape.args {
			switch a.(type) {
			case string, out:
				note(name, abi.StatusInvalidMemoryAccess)
			}
		}
	}
	return all
}

// testNames returns the names of all tests of the packages that take part.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, dir := range []string{".", "wasmfilter", "plugintest", "../core/proxy", "../cmd/wproxy"} {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no tests: %v", dir, err)
		}
		for _, file := range files {
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
					all[fn.Name.Name] = true
				}
			}
		}
	}
	return all
}

const supportHead = `# Proxy-Wasm support

<!-- Made by the tests: go test ./host -run TestABISupport -update -->

wproxy runs guests of Proxy-Wasm ABI 0.1.0, 0.2.0 and 0.2.1, and of Higress's 0.2.100. Every function is there for
guests of every version, since real guests mix them; the marker that a guest exports decides only what
differs: what a missing header answers, what ` + "`proxy_get_configuration`" + ` means, and what Pause in a headers callback holds.
The guests of these tests are texts in ` + "`testdata/wat`" + `, one for each call and callback.

`

const supportForeign = `
` + "`uncompress`" + ` makes 4 MiB at most, and arguments have 1 MiB at most. A property that is declared read-only keeps its
first value; the second set_property answers OK all the same. The span of a property is the exchange.
What CEL expressions need (` + "`expr_create`" + `, ` + "`expr_evaluate`" + `, ` + "`expr_delete`" + `) is not there: NotFound.

`

const supportTail = `
## Properties

Parts are separated by NUL in a path, written as dots here.

| property | notes |
|---|---|
| ` + "`plugin_name`, `plugin_root_id`, `plugin_vm_id`, `plugin_vm_memory`" + ` | always, on roots too |
| ` + "`request.path`, `url_path`, `query`, `host`, `scheme`, `method`, `headers`, `headers.NAME`, `referer`, `useragent`, `id`, `time`, `protocol`, `size`, `headers_bytes`" + ` | with the edits made so far |
| ` + "`request.duration`, `total_size`" + ` | at the end |
| ` + "`response.code`, `headers`, `headers.NAME`, `trailers`, `trailers.NAME`, `grpc_status`, `flags`, `size`, `headers_bytes`, `backend_latency`, `code_details`, `total_size`" + ` | from the response's head on, the last two at the end |
| ` + "`source.address`, `source.port`, `destination.address`, `destination.port`" + ` | the client's is that after ` + "`trust_proxy`" + ` |
| ` + "`connection.id`, `mtls`, `requested_server_name`, `tls_version`, `subject_peer_certificate`, `dns_san_peer_certificate`, `uri_san_peer_certificate`, `sha256_peer_certificate_digest`, `peer_certificate`" + ` | what is of TLS is not found on other connections; ` + "`requested_server_name`" + ` is what a PROXY header in front of the connection says (its authority), else the SNI |
| ` + "`upstream.address`, `port`, `cluster`, `attempts`, `request_attempt_count`, `failure`, `transport_failure_reason`, `connect_time`, `cx_pool_ready_duration`, `first_byte_time`, `tls_version`, `subject_peer_certificate`, `dns_san_peer_certificate`, `uri_san_peer_certificate`, `sha256_peer_certificate_digest`, `peer_certificate`" + ` | from the response's head on |
| ` + "`route_name`, `cluster_name`, `listener_direction`, `listener_name`, `route_metadata`, `route_metadata.filter_metadata.…`" + `, each also below ` + "`xds.`" + `, and ` + "`connection_id`" + ` | ` + "`route_metadata`" + ` is the route's ` + "`metadata`" + `; whole, an ` + "`envoy.config.core.v3.Metadata`" + ` |
| ` + "`filter_state`, `filter_state.NAME`, `filter_state.wasm.NAME`" + ` | what plugins have set |

Not found, as nothing here stands for them: ` + "`node`" + ` and ` + "`node.…`, `cluster_metadata`, `listener_metadata`, `upstream_host_metadata`, `connection.*_local_certificate`, `connection.transport_failure_reason`, `connection.termination_details`, `upstream.local_address`, `upstream.locality`, `xds.virtual_host_name`, `xds.filter_chain_name`" + `. A plugin cannot set them for others.

What ` + "`proxy_set_property`" + ` stores is read by all plugins of the exchange. Some names mean something: ` + "`clear_route_cache`" + ` = "off" keeps the edits of this plugin from moving the
route, ` + "`set_decoder_buffer_limit`" + ` and ` + "`set_encoder_buffer_limit`" + ` (decimal) are how much of a body this plugin may hold, ` + "`wasm_need_rebuild`" + ` = "true" has the VM replaced, ` + "`wproxy.log.KEY`" + ` sets a field of the access log, ` + "`trace_span_tag.KEY`" + ` an attribute of the request's span
and ` + "`wproxy.verdict`" + ` the plugin's verdict.

## Where wproxy differs from Envoy

The guests above, run on a real Envoy, and case by case what differs: [abi-support-envoy.md](abi-support-envoy.md). In short, and beyond it:

- ` + "`proxy_set_property`, `proxy_send_local_response`" + ` and changes of maps that are not there answer OK where guests written in Rust would panic on anything else; a line of the log says what was ignored.
- An :authority must be a host and a port that is a number: what is appended to ` + "`localhost:8080`" + ` is refused (2), as no upstream could read it. Where the listener has ` + "`strip_port`" + `, the plugin sees ` + "`localhost`" + ` and may append to that.
- On TCP connections Pause in on_new_connection holds everything until continue_stream, as in headers callbacks; with ` + "`sandbox.headers_pause = \"hold\"`" + ` the guest sees data meanwhile and lets go by Continue, as in Envoy. The upstream can be paused and continued. on_upstream_connection_close tells who has closed (Remote or Local; Envoy: Unknown), and closing either side closes the connection. The continue calls of 0.1.0 stand for both sides of a connection.
- ` + "`proxy_continue_stream`" + ` works for both sides, ` + "`proxy_set_buffer_bytes`" + ` in the middle of a body, ` + "`proxy_get_buffer_status`" + ` tells the end of the stream, ` + "`proxy_done`" + ` is waited for on streams (30 s at most), and request trailers can be read in on_log.
- ` + "`proxy_on_request_metadata`, `proxy_on_response_metadata`" + ` (HTTP/2 METADATA), ` + "`proxy_validate_configuration`" + ` and ` + "`proxy_on_grpc_create_initial_metadata`" + ` are not called; the latter two are not by Envoy either.
- A queue's token is known only to plugins whose vm_id has registered or resolved it.
`
