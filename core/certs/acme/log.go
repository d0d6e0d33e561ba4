package acme

import (
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// quietLog returns the log for certmagic, all of whose lines become debug lines of
// log: what an operator has to know is said once, by us, and certmagic says
// it several times, with locks and retries in between.
func quietLog(log *zap.Logger) *zap.Logger {
	return log.Named("certmagic").WithOptions(
		zap.WrapCore(func(c zapcore.Core) zapcore.Core { return quietCore{c} }),
		zap.AddStacktrace(zapcore.InvalidLevel),
		zap.WithFatalHook(zapcore.WriteThenPanic), // certmagic has no fatal lines; one would not end the process
	)
}

// quietCore writes every entry at the debug level.
type quietCore struct{ zapcore.Core }

// Enabled implements zapcore.LevelEnabler.
func (c quietCore) Enabled(zapcore.Level) bool { return c.Core.Enabled(zapcore.DebugLevel) }

// With implements zapcore.Core.
func (c quietCore) With(fields []zapcore.Field) zapcore.Core { return quietCore{c.Core.With(fields)} }

// Check implements zapcore.Core.
func (c quietCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(e.Level) {
		return ce
	}
	e.Level = zapcore.DebugLevel
	return c.Core.Check(e, ce)
}
