package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"wproxy/abi"
	"wproxy/core/config"
	"wproxy/host"
)

// serverLog is wproxy's own log. Where it goes and how much of it there is
// changes with a reload; the *zap.Logger that everybody has stays the same.
type serverLog struct {
	stdout, stderr io.Writer
	level          zap.AtomicLevel

	mu   sync.Mutex
	to   io.Writer // guarded by mu
	file *os.File  // guarded by mu; what to is, if it was opened for it
}

// newServerLog returns a log that writes to stderr until it is configured. On a
// terminal a line is for people, elsewhere it is JSON.
func newServerLog(stdout, stderr io.Writer) (*serverLog, *zap.Logger) {
	l := &serverLog{stdout: stdout, stderr: stderr, level: zap.NewAtomicLevel(), to: stderr}
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	enc.EncodeDuration = zapcore.SecondsDurationEncoder
	enc.TimeKey = "ts"
	encoder := zapcore.NewJSONEncoder(enc)
	if isTerminal(stderr) {
		enc.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		enc.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = newConsoleEncoder(enc)
	}
	return l, zap.New(zapcore.NewCore(encoder, l, l.level))
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	fi, err := f.Stat()
	return err == nil && fi.Mode()&os.ModeCharDevice != 0
}

// Write implements zapcore.WriteSyncer.
func (l *serverLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(b)
}

// Sync implements zapcore.WriteSyncer. Lines are not buffered.
func (l *serverLog) Sync() error { return nil }

// open opens what c names and returns what makes it the log, or gives it up:
// a configuration that is refused must not have moved the log. A file is opened
// again even if its name is the same: it may have been rotated away.
func (l *serverLog) open(c config.Log) (use, giveUp func(), err error) {
	level, err := zapcore.ParseLevel(c.Level)
	if err != nil {
		return nil, nil, err
	}
	var to io.Writer
	var file *os.File
	switch c.To {
	case "stderr":
		to = l.stderr
	case "stdout":
		to = l.stdout
	default:
		if file, err = openLog(c.To); err != nil {
			return nil, nil, fmt.Errorf("log: %w", err)
		}
		to = file
	}
	use = func() {
		l.level.SetLevel(level)
		l.mu.Lock()
		defer l.mu.Unlock()
		was := l.file
		l.to, l.file = to, file
		closeFile(was)
	}
	return use, func() { closeFile(file) }, nil
}

// openLog does not wait for the other end of a named pipe: without a reader it
// is an error.
func openLog(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY|syscall.O_NONBLOCK, 0o640)
}

// reopen opens the file again under its name. If that fails, the log goes on
// with the file it has.
func (l *serverLog) reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	f, err := openLog(l.file.Name())
	if err != nil {
		return err
	}
	closeFile(l.file)
	l.to, l.file = f, f
	return nil
}

// close makes stderr the log again.
func (l *serverLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	closeFile(l.file)
	l.to, l.file = l.stderr, nil
}

func closeFile(f *os.File) {
	if f != nil {
		_ = f.Close() // nowhere left to say that it failed
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

// logGuest writes down what plugins, and the host about them, have to say.
func logGuest(log *zap.Logger, e host.LogEntry) {
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
