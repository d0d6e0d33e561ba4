package access

import (
	"slices"
	"time"
	"unicode/utf8"

	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
)

// own are the names of a record's own fields: no plugin can write them again.
var own = [...]string{
	"ts", "request_id", "client", "listener", "method", "host", "path", "status", "bytes_in", "bytes_out", "route", "upstream",
	"server", "tries", "t_connect", "t_first_byte", "t_total", "reason", "plugins", "protocol",
}

// An encoder turns records into JSON lines with zap's encoder. It belongs to one
// goroutine at a time; its fields are scratch that is used again for each line.
type encoder struct {
	json   zapcore.Encoder
	fields []zapcore.Field
	list   pluginList
}

func newEncoder() *encoder {
	return &encoder{json: zapcore.NewJSONEncoder(zapcore.EncoderConfig{
		TimeKey:        "ts",
		LineEnding:     "\n",
		EncodeTime:     encodeTime,
		EncodeDuration: zapcore.SecondsDurationEncoder,
	})}
}

// encodeTime is RFC 3339 in UTC with milliseconds. It appends without a string
// in between, unlike zap's own, where the encoder lets it.
func encodeTime(t time.Time, e zapcore.PrimitiveArrayEncoder) {
	const layout = "2006-01-02T15:04:05.000Z07:00"
	if a, ok := e.(interface {
		AppendTimeLayout(t time.Time, layout string)
	}); ok {
		a.AppendTimeLayout(t.UTC(), layout)
		return
	}
	e.AppendString(t.UTC().Format(layout))
}

// line encodes r. The buffer must be freed by the caller.
func (e *encoder) line(r *Record) (*buffer.Buffer, error) {
	f := e.fields[:0]
	f = append(
		f,
		str("request_id", r.RequestID), str("client", r.Client), str("listener", r.Listener), str("method", r.Method),
		str("host", r.Host), str("path", r.Path), num("status", int64(r.Status)),
		num("bytes_in", r.BytesIn), num("bytes_out", r.BytesOut), str("route", r.Route),
	)
	if r.Upstream != "" {
		f = append(f, str("upstream", r.Upstream), str("server", r.Server), num("tries", int64(r.Tries)),
			duration("t_connect", r.Connect), duration("t_first_byte", r.FirstByte))
	}
	f = append(f, duration("t_total", r.Total))
	if r.Reason != "" {
		f = append(f, str("reason", r.Reason))
	}
	for _, x := range r.Fields[:min(len(r.Fields), maxFields)] {
		if !slices.Contains(own[:], x.Name) {
			f = append(f, str(cut(x.Name), x.Value))
		}
	}
	if len(r.Plugins) > 0 {
		e.list.plugins = r.Plugins[:min(len(r.Plugins), maxPlugins)]
		f = append(f, zapcore.Field{Key: "plugins", Type: zapcore.ArrayMarshalerType, Interface: &e.list})
	}
	b, err := e.json.EncodeEntry(zapcore.Entry{Time: r.Time}, f)
	clear(f) // strings of the exchange must not outlive it here
	e.fields, e.list.plugins = f[:0], nil
	return b, err
}

func str(key, v string) zapcore.Field {
	return zapcore.Field{Key: key, Type: zapcore.StringType, String: cut(v)}
}

func num(key string, v int64) zapcore.Field {
	return zapcore.Field{Key: key, Type: zapcore.Int64Type, Integer: v}
}

func duration(key string, d time.Duration) zapcore.Field {
	return zapcore.Field{Key: key, Type: zapcore.DurationType, Integer: int64(d)}
}

// cut bounds s to maxValue bytes, at the border of a character.
func cut(s string) string {
	if len(s) <= maxValue {
		return s
	}
	n := maxValue
	for n > maxValue-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// pluginList encodes Record.Plugins.
type pluginList struct {
	plugins []Plugin
	one     pluginEntry
}

// MarshalLogArray implements zapcore.ArrayMarshaler.
func (l *pluginList) MarshalLogArray(a zapcore.ArrayEncoder) error {
	for i := range l.plugins {
		l.one.p = &l.plugins[i]
		if err := a.AppendObject(&l.one); err != nil {
			return err
		}
	}
	l.one.p = nil
	return nil
}

type pluginEntry struct{ p *Plugin }

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (e *pluginEntry) MarshalLogObject(o zapcore.ObjectEncoder) error {
	o.AddString("name", e.p.Name)
	o.AddInt64("us", e.p.Took.Microseconds())
	if e.p.Verdict != "" {
		o.AddString("verdict", cut(e.p.Verdict))
	}
	return nil
}
