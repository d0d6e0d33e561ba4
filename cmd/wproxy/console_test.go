package main

import (
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"wproxy/abi"
	"wproxy/host"
)

// TestConsoleQuotes: nothing that a guest says does anything to a terminal.
func TestConsoleQuotes(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"plain Ünicode 世界 \"quoted\" \\n", "plain Ünicode 世界 \"quoted\" \\n"},
		{"\x1b]0;title\x07\x1b[2J", `\x1b]0;title\a\x1b[2J`},
		{"a\n12:00:00\tERROR\tforged\r", `a\n12:00:00\tERROR\tforged\r`},
		{"c1 \u009b31m del \x7f", `c1 \u009b31m del \x7f`},
		{"bad \xff\xc3", `bad \xff\xc3`},
		{"bidi \u202e", `bidi \u202e`},
		{"real \uFFFD", "real \uFFFD"},
	} {
		var out strings.Builder
		log := zap.New(zapcore.NewCore(newConsoleEncoder(zapcore.EncoderConfig{MessageKey: "msg"}), zapcore.AddSync(&out), zapcore.DebugLevel))
		logGuest(log.With(zap.String("a", "b")), &guestSecrets{}, host.LogEntry{Plugin: "p", Level: abi.LogInfo, Message: tt.text})
		got, rest, _ := strings.Cut(out.String(), "\t{")
		if got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.text, got, tt.want)
		}
		if strings.Count(rest, "\n") != 1 {
			t.Errorf("%q: not one line: %q", tt.text, out.String())
		}
		out.Reset()
		log.Info("m", zap.String("f", tt.text))
		if line := strings.TrimSuffix(out.String(), "\n"); !isPrintable(line, "\t") {
			t.Errorf("%q as a field: %q", tt.text, line)
		}
	}
}

// TestTrapLine: the line about a trap names the exchange, if there was one.
func TestTrapLine(t *testing.T) {
	for id, want := range map[string]string{"r1": `"route":"api","request_id":"r1"`, "": ""} {
		var out strings.Builder
		log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), zapcore.AddSync(&out), zapcore.DebugLevel))
		trap := &host.TrapError{Plugin: "p", Route: "api", RequestID: id, Cause: host.CauseTrap}
		logGuest(log, &guestSecrets{}, host.LogEntry{Plugin: "p", Level: abi.LogError, Trap: trap})
		if got := out.String(); !strings.Contains(got, want) || strings.Contains(got, "request_id") != (want != "") {
			t.Errorf("request %q: %s, want %s", id, got, want)
		}
	}
}
