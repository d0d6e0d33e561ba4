package host

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"wproxy/abi"
)

// An errno is what a WASI function returns.
type errno uint32

const (
	errnoOK     errno = 0
	errnoBadF   errno = 8
	errnoFault  errno = 21
	errnoInval  errno = 28
	errnoNoEnt  errno = 44
	errnoNoSys  errno = 52
	errnoNotDir errno = 54
	errnoNotSup errno = 58

	errnoNotCapable errno = 76
)

// A wasiFunc is a function of wasi_snapshot_preview1, or of wasi_unstable, which
// has the same ones as far as guests use them. There are no files, no sockets and
// nothing of the process's environment (abi.md 1.5).
type wasiFunc struct {
	sig  string
	call func(v *vm, a []uint64) errno
}

func answer(e errno) func(*vm, []uint64) errno {
	return func(*vm, []uint64) errno { return e }
}

var wasiFuncs = map[string]wasiFunc{
	"args_get":                {"ii>i", answer(errnoOK)},
	"args_sizes_get":          {"ii>i", wasiArgsSizes},
	"environ_get":             {"ii>i", wasiEnviron},
	"environ_sizes_get":       {"ii>i", wasiEnvironSizes},
	"clock_res_get":           {"ii>i", wasiClockRes},
	"clock_time_get":          {"iIi>i", wasiClockTime},
	"random_get":              {"ii>i", wasiRandom},
	"proc_exit":               {"i", wasiExit},
	"proc_raise":              {"i>i", answer(errnoNotSup)},
	"sched_yield":             {">i", answer(errnoOK)},
	"poll_oneoff":             {"iiii>i", wasiPoll},
	"fd_write":                {"iiii>i", wasiWrite},
	"fd_pwrite":               {"iiiIi>i", wasiPWrite},
	"fd_read":                 {"iiii>i", wasiRead},
	"fd_pread":                {"iiiIi>i", answer(errnoNoSys)},
	"fd_seek":                 {"iIii>i", answer(errnoOK)},
	"fd_close":                {"i>i", answer(errnoOK)},
	"fd_fdstat_get":           {"ii>i", wasiFDStat},
	"fd_fdstat_set_flags":     {"ii>i", answer(errnoNoSys)},
	"fd_fdstat_set_rights":    {"iII>i", answer(errnoNotSup)},
	"fd_prestat_get":          {"ii>i", answer(errnoBadF)},
	"fd_prestat_dir_name":     {"iii>i", answer(errnoNoSys)},
	"fd_filestat_get":         {"ii>i", answer(errnoBadF)},
	"fd_filestat_set_size":    {"iI>i", wasiStdOnly},
	"fd_filestat_set_times":   {"iIIi>i", wasiStdOnly},
	"fd_advise":               {"iIIi>i", answer(errnoOK)},
	"fd_allocate":             {"iII>i", wasiStdOnly},
	"fd_datasync":             {"i>i", wasiStdOnly},
	"fd_sync":                 {"i>i", wasiStdOnly},
	"fd_tell":                 {"ii>i", wasiStdOnly},
	"fd_readdir":              {"iiiIi>i", answer(errnoNotDir)},
	"fd_renumber":             {"ii>i", answer(errnoNotSup)},
	"path_create_directory":   {"iii>i", answer(errnoNotSup)},
	"path_filestat_get":       {"iiiii>i", answer(errnoNotSup)},
	"path_filestat_set_times": {"iiiiIIi>i", answer(errnoNotSup)},
	"path_link":               {"iiiiiii>i", answer(errnoNotSup)},
	"path_open":               {"iiiiiIIii>i", answer(errnoNoEnt)},
	"path_readlink":           {"iiiiii>i", answer(errnoNotSup)},
	"path_remove_directory":   {"iii>i", answer(errnoNotSup)},
	"path_rename":             {"iiiiii>i", answer(errnoNotSup)},
	"path_symlink":            {"iiiii>i", answer(errnoNotSup)},
	"path_unlink_file":        {"iii>i", answer(errnoNotSup)},
	"sock_accept":             {"iii>i", answer(errnoNotSup)},
	"sock_recv":               {"iiiiii>i", answer(errnoNotSup)},
	"sock_send":               {"iiiii>i", answer(errnoNotSup)},
	"sock_shutdown":           {"ii>i", answer(errnoNotSup)},
}

// bind returns f as wazero calls it.
func (f wasiFunc) bind() api.GoModuleFunc {
	return func(ctx context.Context, mod api.Module, stack []uint64) {
		v := vmOf(ctx, mod)
		v.charge(hostCallUnits)
		e := f.call(v, stack)
		if len(stack) > 0 { // proc_exit has no result, and does not return
			stack[0] = uint64(e)
		}
	}
}

func wasiArgsSizes(v *vm, a []uint64) errno { return v.sizes(a, 0, 0) }

func wasiEnvironSizes(v *vm, a []uint64) errno {
	bytes := 0
	for _, kv := range v.p.env {
		bytes += len(kv) + 1
	}
	v.charge(int64(len(v.p.env)) * lineUnits)
	return v.sizes(a, len(v.p.env), bytes)
}

func (v *vm) sizes(a []uint64, count, bytes int) errno {
	if v.put32(a[0], uint32(count)) != abi.StatusOK || v.put32(a[1], uint32(bytes)) != abi.StatusOK {
		return errnoFault
	}
	return errnoOK
}

// wasiEnviron writes a pointer to each variable, and the variables, to where the
// guest has made room after environ_sizes_get.
func wasiEnviron(v *vm, a []uint64) errno {
	ptrs, at := a[0], uint32(a[1])
	for _, kv := range v.p.env {
		v.charge(lineUnits + int64(len(kv))*copyUnits)
		if v.put32(ptrs, at) != abi.StatusOK || !v.mem.WriteString(at, kv) || !v.mem.WriteByte(at+uint32(len(kv)), 0) {
			return errnoFault
		}
		ptrs, at = ptrs+4, at+uint32(len(kv))+1
	}
	return errnoOK
}

func wasiClockRes(v *vm, a []uint64) errno {
	if v.put64(a[1], 1) != abi.StatusOK {
		return errnoFault
	}
	return errnoOK
}

// wasiClockTime is clock_time_get(id, precision, *out): 0 is the wall clock, 1 a
// clock that never goes back.
func wasiClockTime(v *vm, a []uint64) errno {
	var ns int64
	switch uint32(a[0]) {
	case 0:
		ns = v.p.h.o.Now().UnixNano()
	case 1:
		ns = int64(v.p.now(time.Now()).Sub(v.p.h.born)) + 1 // some runtimes take 0 for unset
	default:
		return errnoNotSup
	}
	if v.put64(a[2], uint64(ns)) != abi.StatusOK {
		return errnoFault
	}
	return errnoOK
}

func wasiRandom(v *vm, a []uint64) errno {
	if uint32(a[1]) > maxRandomBytes {
		return errnoInval
	}
	b, ok := v.view(a[0], a[1])
	if !ok {
		return errnoFault
	}
	v.charge(int64(len(b)) * randomUnits)
	_, _ = rand.Read(b) // never fails
	return errnoOK
}

// wasiExit is proc_exit: it unwinds the guest. The instance is not closed here,
// since a start function may end this way.
func wasiExit(_ *vm, a []uint64) errno { panic(sys.NewExitError(uint32(a[0]))) }

// wasiPoll is poll_oneoff: no event has happened. It does not sleep, because a
// guest's sleep must not hold up a thread of the proxy, and it is no error, because
// Go's scheduler calls it when idle and gives up on one.
func wasiPoll(v *vm, a []uint64) errno {
	if v.put32(a[3], 0) != abi.StatusOK {
		return errnoFault
	}
	return errnoOK
}

func wasiWrite(v *vm, a []uint64) errno { return v.fdWrite(a[0], a[1], a[2], a[3]) }

func wasiPWrite(v *vm, a []uint64) errno { return v.fdWrite(a[0], a[1], a[2], a[4]) }

// fdWrite logs what the guest writes to fd 1 (info) and 2 (error), by lines. It takes the
// first maxWritten bytes: all C libraries, and the runtimes of Go and Rust, write the rest
// in another call.
func (v *vm) fdWrite(fd, iovs, n, written uint64) errno {
	if uint32(fd) != 1 && uint32(fd) != 2 {
		return errnoBadF
	}
	if uint32(n) > maxIOVecs {
		return errnoInval
	}
	vecs, ok := v.view(iovs, uint64(uint32(n)*8))
	if !ok || !v.writable32(written) {
		return errnoFault
	}
	total := uint32(0)
	for ; len(vecs) > 0 && total < maxWritten; vecs = vecs[8:] {
		s, ok := v.text(uint64(u32at(vecs)), uint64(min(u32at(vecs[4:]), maxWritten-total)))
		if !ok {
			return errnoFault
		}
		v.writeLines(int(uint32(fd)), s)
		total += uint32(len(s))
	}
	v.put32(written, total)
	return errnoOK
}

// A partialLine is the beginning of a line whose end has not been written yet.
type partialLine []byte

func (v *vm) writeLines(fd int, s string) {
	held := &v.out[fd-1]
	for {
		line, rest, whole := strings.Cut(s, "\n")
		if !whole {
			break
		}
		v.charge(hostCallUnits) // as for a call of proxy_log
		if len(*held) > 0 {
			*held = append(*held, line[:min(len(line), maxPartialLine)]...)
			line = string(*held)
			*held = (*held)[:0]
		}
		if line != "" {
			v.logWritten(fd, line)
		}
		s = rest
	}
	*held = append(*held, s[:min(len(s), max(maxPartialLine-len(*held), 0))]...)
}

// flushLines logs what was written without a newline at its end.
func (v *vm) flushLines() {
	for i := range v.out {
		if len(v.out[i]) > 0 {
			v.logWritten(i+1, string(v.out[i]))
			v.out[i] = v.out[i][:0]
		}
	}
}

func (v *vm) logWritten(fd int, line string) {
	if fd == 2 {
		v.logStderr(line)
		return
	}
	v.logGuest(abi.LogInfo, line)
}

// wasiRead is fd_read: fd 0 is at its end.
func wasiRead(v *vm, a []uint64) errno {
	if uint32(a[0]) != 0 {
		return errnoNoSys
	}
	if v.put32(a[3], 0) != abi.StatusOK {
		return errnoFault
	}
	return errnoOK
}

// wasiFDStat is fd_fdstat_get(fd, *record): fd 1 and 2 are character devices that
// can be written to.
func wasiFDStat(v *vm, a []uint64) errno {
	if !isStd(a[0]) {
		return errnoBadF
	}
	const characterDevice, rightWrite = 2, 1 << 6
	record := [24]byte{0: characterDevice, 8: rightWrite}
	if !v.mem.Write(uint32(a[1]), record[:]) {
		return errnoFault
	}
	return errnoOK
}

func wasiStdOnly(_ *vm, a []uint64) errno {
	if !isStd(a[0]) {
		return errnoBadF
	}
	return errnoOK
}

func isStd(fd uint64) bool { return uint32(fd) == 1 || uint32(fd) == 2 }
