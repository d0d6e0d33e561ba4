package host

import (
	"fmt"
	"strings"
)

// A Callback is a function of the guest that the host calls.
type Callback uint8

// Callbacks.
const (
	CallStart Callback = iota // instantiation, _initialize, main, _start
	CallMemoryAllocate
	CallContextCreate
	CallVMStart
	CallConfigure
	CallTick
	CallQueueReady
	CallForeignFunction
	CallRequestHeaders
	CallRequestBody
	CallRequestTrailers
	CallResponseHeaders
	CallResponseBody
	CallResponseTrailers
	CallNewConnection
	CallDownstreamData
	CallUpstreamData
	CallDownstreamClose
	CallUpstreamClose
	CallHTTPCallResponse
	CallGRPCReceiveInitialMetadata
	CallGRPCReceive
	CallGRPCReceiveTrailingMetadata
	CallGRPCClose
	CallDone
	CallLog
	CallDelete
	callbacks // how many there are
)

var callbackNames = [callbacks]string{
	"start", "on_memory_allocate", "on_context_create", "on_vm_start", "on_configure",
	"on_tick", "on_queue_ready", "on_foreign_function", "on_request_headers", "on_request_body", "on_request_trailers", "on_response_headers",
	"on_response_body", "on_response_trailers", "on_new_connection", "on_downstream_data",
	"on_upstream_data", "on_downstream_connection_close", "on_upstream_connection_close",
	"on_http_call_response",
	"on_grpc_receive_initial_metadata", "on_grpc_receive", "on_grpc_receive_trailing_metadata", "on_grpc_close",
	"on_done", "on_log", "on_delete",
}

// String returns the name of the callback as the ABI has it, without "proxy_".
func (c Callback) String() string {
	if c < callbacks {
		return callbackNames[c]
	}
	return fmt.Sprintf("Callback(%d)", uint8(c))
}

// ownRow reports whether it is the host's own goroutines that make the callback.
func (c Callback) ownRow() bool {
	switch c {
	case CallTick, CallQueueReady, CallHTTPCallResponse,
		CallGRPCReceiveInitialMetadata, CallGRPCReceive, CallGRPCReceiveTrailingMetadata, CallGRPCClose:
		return true
	default:
		return false
	}
}

// A Cause is a kind of reason why a VM died; a label of bounded cardinality.
type Cause string

// Causes.
const (
	CauseTrap  Cause = "trap"  // unreachable, access outside memory, division by zero, ...
	CauseExit  Cause = "exit"  // proc_exit
	CauseCPU   Cause = "cpu"   // more work than PluginOptions.CPU or Start
	CauseStack Cause = "stack" // calls deeper than PluginOptions.Stack
	CauseHost  Cause = "host"  // a panic in a host function: a bug of the host
)

// A TrapError tells how a VM died. All streams that were bound to the VM get the
// same one; it must not be changed.
type TrapError struct {
	Plugin   string
	Callback Callback // that was running
	Context  uint32   // id of the context it was running for
	Cause    Cause
	Detail   string   // what happened, in a few words: "unreachable", "exit status 2"
	Stack    []string // guest stack, innermost function first, at most 20
	Log      []string // the last lines that the VM logged, oldest first

	// Route and RequestID tell the exchange whose callback was running; "" outside of
	// one, and where its Stream is no Teller.
	Route, RequestID string
}

// Error returns one line: plugin, callback, cause and the innermost function.
func (e *TrapError) Error() string {
	s := fmt.Sprintf("plugin %s: %v: %s", e.Plugin, e.Callback, e.Detail)
	if len(e.Stack) > 0 {
		s += " in " + e.Stack[0]
	}
	return s
}

// A StartError tells why a root could not be started.
type StartError struct {
	Plugin   string
	Callback Callback   // that failed
	Trap     *TrapError // nil when the callback returned false
	Log      []string   // the last lines that the VM logged, oldest first
	Err      error      // what went wrong outside of the guest's code; else nil
}

// Error returns what failed, followed by the plugin's last log lines.
func (e *StartError) Error() string {
	var s strings.Builder
	fmt.Fprintf(&s, "plugin %s: ", e.Plugin)
	switch {
	case e.Err != nil:
		fmt.Fprintf(&s, "%v: %v", e.Callback, e.Err)
	case e.Trap != nil:
		fmt.Fprintf(&s, "%v: %s", e.Trap.Callback, e.Trap.Detail)
	default:
		fmt.Fprintf(&s, "%v returned false: it does not accept its configuration (or does not know its root_id)", e.Callback)
	}
	for _, l := range e.Log {
		s.WriteString("\n\t" + shownText(l))
	}
	return s.String()
}

// Unwrap returns the trap or the outer error.
func (e *StartError) Unwrap() error {
	if e.Err != nil {
		return e.Err
	}
	if e.Trap != nil {
		return e.Trap
	}
	return nil
}

// A LoadError tells why a module is refused.
type LoadError struct {
	Plugin   string
	Problems []string // all of them; never empty
}

// Error lists the problems.
func (e *LoadError) Error() string {
	if len(e.Problems) == 1 {
		return fmt.Sprintf("plugin %s: %s", e.Plugin, e.Problems[0])
	}
	return fmt.Sprintf("plugin %s: %d problems:\n\t%s", e.Plugin, len(e.Problems), strings.Join(e.Problems, "\n\t"))
}

// A ClosedError tells that a plugin or root has been closed.
type ClosedError struct{ Plugin string }

// Error says so.
func (e *ClosedError) Error() string { return "plugin " + e.Plugin + ": closed" }

// A NoVMError tells that all VMs of a plugin have died and none has been
// restarted yet.
type NoVMError struct {
	Plugin string
	Err    error // why the last one died or did not start
}

// Error names the plugin and the last cause.
func (e *NoVMError) Error() string {
	return fmt.Sprintf("plugin %s: waiting to be restarted: %v", e.Plugin, e.Err)
}

// Unwrap returns the last cause.
func (e *NoVMError) Unwrap() error { return e.Err }
