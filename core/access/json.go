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
// goroutine at a time. It hands zap one inline object instead of a list of fields:
// the values go straight into the line, which takes a sixth less time.
type encoder struct {
	json  zapcore.Encoder
	field [1]zapcore.Field
	r     *Record // of the line being encoded
	list  pluginList
	stamp [len("2006-01-02T15:04:05.000Z")]byte // scratch of encodeTime
}

func newEncoder() *encoder {
	e := new(encoder)
	e.json = zapcore.NewJSONEncoder(zapcore.EncoderConfig{
		TimeKey:    "ts",
		LineEnding: "\n",
		EncodeTime: e.encodeTime,
	})
	e.field[0] = zapcore.Field{Type: zapcore.InlineMarshalerType, Interface: e}
	return e
}

// encodeTime is RFC 3339 in UTC with milliseconds. It is written digit by digit:
// time's layouts were a third of the cost of a line.
func (e *encoder) encodeTime(t time.Time, to zapcore.PrimitiveArrayEncoder) {
	b := &e.stamp
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	digits(b[0:4], year)
	b[4] = '-'
	digits(b[5:7], int(month))
	b[7] = '-'
	digits(b[8:10], day)
	b[10] = 'T'
	digits(b[11:13], hour)
	b[13] = ':'
	digits(b[14:16], minute)
	b[16] = ':'
	digits(b[17:19], second)
	b[19] = '.'
	digits(b[20:23], t.Nanosecond()/int(time.Millisecond))
	b[23] = 'Z'
	to.AppendByteString(b[:])
}

// digits writes the decimal digits of n, as many as b has room for.
func digits(b []byte, n int) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}

// line encodes r. The buffer must be freed by the caller.
func (e *encoder) line(r *Record) (*buffer.Buffer, error) {
	e.r = r
	b, err := e.json.EncodeEntry(zapcore.Entry{Time: r.Time}, e.field[:])
	e.r = nil
	return b, err
}

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (e *encoder) MarshalLogObject(o zapcore.ObjectEncoder) error {
	r := e.r
	o.AddString("request_id", cut(r.RequestID))
	o.AddString("client", cut(r.Client))
	o.AddString("listener", r.Listener)
	o.AddString("method", cut(r.Method))
	o.AddString("host", cut(r.Host))
	o.AddString("path", cut(r.Path))
	o.AddInt64("status", int64(r.Status))
	o.AddInt64("bytes_in", r.BytesIn)
	o.AddInt64("bytes_out", r.BytesOut)
	o.AddString("route", r.Route)
	if r.Upstream != "" {
		o.AddString("upstream", r.Upstream)
		o.AddString("server", r.Server)
		o.AddInt64("tries", int64(r.Tries))
		o.AddFloat64("t_connect", seconds(r.Connect))
		o.AddFloat64("t_first_byte", seconds(r.FirstByte))
	}
	o.AddFloat64("t_total", seconds(r.Total))
	if r.Reason != "" {
		o.AddString("reason", cut(r.Reason))
	}
	for _, x := range r.Fields[:min(len(r.Fields), maxFields)] {
		if !slices.Contains(own[:], x.Name) {
			o.AddString(cut(x.Name), cut(x.Value))
		}
	}
	if len(r.Plugins) == 0 {
		return nil
	}
	e.list.plugins = r.Plugins[:min(len(r.Plugins), maxPlugins)]
	err := o.AddArray("plugins", &e.list)
	e.list.plugins = nil
	return err
}

// seconds are whole microseconds: finer is noise, and longer to write.
func seconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e6 }

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
