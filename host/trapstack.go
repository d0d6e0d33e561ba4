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
	switch {
	case errors.As(err, &exit):
		t.Cause, t.Detail = CauseExit, fmt.Sprintf("exit status %d", exit.ExitCode())
	case errors.As(err, &used):
		t.Cause, t.Detail = used.cause, used.detail
	case errors.As(err, &fault):
		t.Detail = string(fault)
	case errors.As(err, &goErr):
		t.Cause, t.Detail = CauseHost, "panic in a host function: "+goErr.Error()
		v.p.h.log(v.p.o.Name, abi.LogCritical, err.Error()) // with the Go stack: a bug of the host
	case strings.Contains(err.Error(), recoveredMark): // a panic with something that is no error
		t.Cause, t.Detail = CauseHost, "panic in a host function: "+firstLine(err.Error())
	default:
		t.Detail = firstLine(innermost(err).Error())
	}
	if p := v.logs.panic; p != "" {
		t.Detail = p + " (" + t.Detail + ")"
	}
	t.Stack = guestStack(err.Error())
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

// guestStack cuts the function names out of the text of a wazero error.
func guestStack(text string) []string {
	_, rest, ok := strings.Cut(text, stackMark)
	if !ok {
		return nil
	}
	var stack []string
	for line := range strings.Lines(rest) {
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
		stack = append(stack, strings.TrimPrefix(name, "."))
	}
	return stack
}
