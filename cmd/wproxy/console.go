package main

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
)

// A consoleEncoder writes lines for a terminal. zap's own puts messages there as
// they are; those of guests, and what clients made them say, could move the
// cursor, forge lines, or worse.
type consoleEncoder struct{ zapcore.Encoder }

func newConsoleEncoder(c zapcore.EncoderConfig) zapcore.Encoder {
	return consoleEncoder{zapcore.NewConsoleEncoder(c)}
}

// Clone implements zapcore.Encoder.
func (e consoleEncoder) Clone() zapcore.Encoder { return consoleEncoder{e.Encoder.Clone()} }

// EncodeEntry implements zapcore.Encoder.
func (e consoleEncoder) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	entry.Message = printable(entry.Message, "")
	b, err := e.Encoder.EncodeEntry(entry, fields)
	if err != nil {
		return nil, err
	}
	// Fields are JSON, in which not all that terminals obey is escaped.
	if line := b.String(); !isPrintable(line, "\t\n") {
		b.Reset()
		b.AppendString(printable(line, "\t\n"))
	}
	return b, nil
}

func isPrintable(s, keep string) bool {
	for i, r := range s {
		if r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)) || !strconv.IsPrint(r) && !strings.ContainsRune(keep, r) {
			return false
		}
	}
	return true
}

// printable writes what is not printable, and not in keep, as in a Go string
// literal: control characters, those that change the direction of the text, and
// bytes that are not UTF-8.
func printable(s, keep string) string {
	if isPrintable(s, keep) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		_, n := utf8.DecodeRuneInString(s[i:])
		if c := s[i : i+n]; isPrintable(c, keep) {
			b.WriteString(c)
		} else {
			q := strconv.Quote(c)
			b.WriteString(q[1 : len(q)-1])
		}
		i += n
	}
	return b.String()
}
