package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"wproxy/abi"
	"wproxy/core/access"
	"wproxy/core/config"
	"wproxy/host"
)

// serverLog is wproxy's own log. Where it goes and how much of it there is
// changes with a reload; the *zap.Logger that everybody has stays the same.
//
// Lines go through an access.Logger: nobody waits for who reads them, or does not.
// What is lost is counted, and told in a line of its own once lines get through.
type serverLog struct {
	// Immutable.
	stdout, stderr io.Writer
	level          zap.AtomicLevel
	encoder        zapcore.Encoder
	logger         *zap.Logger

	lost  atomic.Uint64                // lines, since that was told last
	count atomic.Pointer[func(uint64)] // is told about lost lines too; see countTo

	mu   sync.Mutex
	to   *access.Logger // guarded by mu; nil: the log is closed
	name string         // guarded by mu; what to is, as in config.Log.To
}

// newServerLog returns a log that writes to stderr until it is configured. On a
// terminal a line is for people, elsewhere it is JSON. It starts a goroutine, which
// close ends.
func newServerLog(stdout, stderr io.Writer) *serverLog {
	l := &serverLog{stdout: stdout, stderr: stderr, level: zap.NewAtomicLevel(), name: "stderr"}
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	enc.EncodeDuration = zapcore.SecondsDurationEncoder
	enc.TimeKey = "ts"
	l.encoder = zapcore.NewJSONEncoder(enc)
	if isTerminal(stderr) {
		enc.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		enc.EncodeLevel = zapcore.CapitalLevelEncoder
		l.encoder = newConsoleEncoder(enc)
	}
	l.to, _ = l.openWriter(l.name)                                                 // only a file can fail to open
	l.logger = zap.New(zapcore.NewCore(l.encoder, l, l.level), zap.ErrorOutput(l)) // not stderr itself
	return l
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	fi, err := f.Stat()
	return err == nil && fi.Mode()&os.ModeCharDevice != 0
}

// openWriter opens what name, as in config.Log.To, says.
func (l *serverLog) openWriter(name string) (*access.Logger, error) {
	o := access.Options{OnDrop: l.lose, FlushEvery: time.Hour} // each line asks to be written
	switch {
	case name == "stderr":
		o.Writer = l.stderr
	case name == "stdout":
		o.Writer = l.stdout
	case filepath.IsAbs(name):
		o.To = name
	default:
		o.To = "./" + name // a file, whatever it is called
	}
	return access.Open(o)
}

// Write implements zapcore.WriteSyncer. It does not block, and does not fail: zap would
// complain on stderr, which is what may be stuck.
func (l *serverLog) Write(b []byte) (int, error) {
	for {
		l.mu.Lock()
		to := l.to
		l.mu.Unlock()
		_, err := to.Write(b) // to nobody, if the log is closed
		if errors.Is(err, os.ErrClosed) {
			continue // there is another one
		}
		if err == nil {
			l.tellLost(to)
		}
		return len(b), nil
	}
}

// lose notes lines that are lost.
func (l *serverLog) lose(lines uint64) {
	l.lost.Add(lines)
	if f := l.count.Load(); f != nil {
		(*f)(lines)
	}
}

// countTo has f told about lines that are lost from now on.
func (l *serverLog) countTo(f func(lines uint64)) { l.count.Store(&f) }

// tellLost writes down how many lines have been lost, if there are any.
func (l *serverLog) tellLost(to *access.Logger) {
	n := l.lost.Swap(0)
	if n == 0 {
		return
	}
	b, err := l.encoder.Clone().EncodeEntry(
		zapcore.Entry{Level: zapcore.WarnLevel, Time: time.Now(), Message: "lines of this log are lost: nobody took them in time"},
		[]zapcore.Field{zap.Uint64("lines", n)})
	if err == nil {
		_, err = to.Write(b.Bytes())
		b.Free()
	}
	if err != nil {
		l.lost.Add(n) // next time
	}
}

// Sync implements zapcore.WriteSyncer: zap calls it when a line says that the process
// is about to end.
func (l *serverLog) Sync() error {
	l.mu.Lock()
	to := l.to
	l.mu.Unlock()
	return to.Flush()
}

// open opens what c names and returns what makes it the log, or gives it up:
// a configuration that is refused must not have moved the log. What is open already
// stays open: see reopen for a file that was rotated away.
func (l *serverLog) open(c config.Log) (use, giveUp func(), err error) {
	level, err := zapcore.ParseLevel(c.Level)
	if err != nil {
		return nil, nil, err
	}
	l.mu.Lock()
	same := l.to != nil && l.name == c.To
	l.mu.Unlock()
	if same {
		return func() { l.level.SetLevel(level) }, func() {}, nil
	}
	to, err := l.openWriter(c.To)
	if err != nil {
		return nil, nil, fmt.Errorf("log: %w", err)
	}
	use = func() {
		l.level.SetLevel(level)
		l.mu.Lock()
		was := l.to
		l.to, l.name = to, c.To
		l.mu.Unlock()
		_ = was.Close() // lines that cannot be written any more are counted
	}
	return use, func() { _ = to.Close() }, nil
}

// reopen opens the file again under its name. If that fails, the log goes on
// with the file it has.
func (l *serverLog) reopen() error {
	l.mu.Lock()
	to, name := l.to, l.name
	l.mu.Unlock()
	if name == "stderr" || name == "stdout" {
		return nil
	}
	return to.Reopen()
}

// close writes what is to be written, unless nobody takes it, and ends the log:
// further lines are dropped. Closing again has no effect.
func (l *serverLog) close() {
	l.mu.Lock()
	to := l.to
	l.to = nil
	l.mu.Unlock()
	if to != nil {
		l.tellLost(to)
		_ = to.Close() // nowhere left to say that it failed
	}
}

// guestLevel converts the configured level to the one guests are told.
func guestLevel(level string) abi.LogLevel {
	switch level {
	case "debug":
		return abi.LogDebug
	case "warn":
		return abi.LogWarn
	case "error":
		return abi.LogError
	default:
		return abi.LogInfo
	}
}

// logGuest writes down what plugins, and the host about them, have to say, without
// secrets.
func logGuest(log *zap.Logger, secrets *guestSecrets, e host.LogEntry) {
	level := zapcore.InfoLevel
	switch e.Level {
	case abi.LogTrace, abi.LogDebug:
		level = zapcore.DebugLevel
	case abi.LogInfo:
	case abi.LogWarn:
		level = zapcore.WarnLevel
	default:
		level = zapcore.ErrorLevel
	}
	ce := log.Check(level, e.Message)
	if ce == nil {
		return
	}
	ce.Message = secrets.redact(e.Plugin, e.Message)
	fields := []zap.Field{zap.String("plugin", e.Plugin)}
	if e.Guest {
		fields = append(fields, zap.Bool("guest", true))
	}
	if e.Context != 0 {
		fields = append(fields, zap.Uint32("context", e.Context))
	}
	if t := e.Trap; t != nil {
		fields = append(fields, zap.Stringer("callback", t.Callback), zap.String("cause", string(t.Cause)),
			zap.Strings("stack", t.Stack))
		if t.RequestID != "" {
			fields = append(fields, zap.String("route", t.Route), zap.String("request_id", t.RequestID))
		}
	}
	ce.Write(fields...)
}
