package host

import (
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/tetratelabs/wazero/sys"

	"wproxy/abi"
	"wproxy/host/meter"
)

// trapError turns the error of a guest call into facts.
func (v *vm) trapError(cb Callback, id uint32, err error) *TrapError {
	if v.allocFault != nil { // the trap is in the nested call; the outer one was only unwound
		err, cb = v.allocFault, CallMemoryAllocate
		v.allocFault = nil
	}
	v.flushLines() // a panic message may end without a newline
	t := &TrapError{Plugin: v.p.o.Name, Callback: cb, Context: id, Cause: CauseTrap, Log: v.logs.kept()}
	var exit *sys.ExitError
	var fault guestFault
	var used *meterFault
	var goErr runtime.Error
	cause, stack, _ := strings.Cut(err.Error(), stackMark) // of the two, only the stack has names of the guest
	switch {
	case errors.As(err, &exit):
		t.Cause, t.Detail = CauseExit, fmt.Sprintf("exit status %d", exit.ExitCode())
	case errors.As(err, &used):
		t.Cause, t.Detail = used.cause, used.detail
	case errors.As(err, &fault):
		t.Detail = string(fault)
	case errors.As(err, &goErr):
		t.Cause, t.Detail = CauseHost, "panic in a host function: "+goErr.Error()
		v.p.h.log(v.p.o.Name, abi.LogCritical, cutLine(err.Error(), maxHostPanic)) // with the Go stack: a bug of the host
	case strings.Contains(cause, recoveredMark): // a panic with something that is no error
		t.Cause, t.Detail = CauseHost, "panic in a host function: "+cutLine(firstLine(cause), maxNameBytes)
	default:
		t.Detail = cutLine(firstLine(innermost(err).Error()), maxNameBytes)
	}
	if p := v.logs.panic; p != "" {
		t.Detail = shownText(p) + " (" + t.Detail + ")"
	}
	t.Stack = guestStack(stack)
	return t
}

// wazero gives the cause and the stack of a trap as text only.
const (
	recoveredMark = "(recovered by wazero)"
	stackMark     = "wasm stack trace:\n"
)

func innermost(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// guestStack cuts the function names out of the stack in the text of a wazero error. What
// it returns is bounded, whatever the guest calls its functions.
func guestStack(text string) []string {
	var stack []string
	for line := range strings.Lines(text) {
		name := strings.TrimSpace(line)
		if name == "" || !strings.HasPrefix(line, "\t") || len(stack) == maxStackFrames {
			break
		}
		if strings.HasPrefix(line, "\t\t") { // a source position
			continue
		}
		name, _, _ = strings.Cut(name, "(")
		if strings.HasPrefix(name, meter.Module) { // refill: the guest knows nothing of it
			continue
		}
		stack = append(stack, shownName(strings.TrimPrefix(name, ".")))
	}
	return stack
}
