package tabletest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"wproxy/host"
	"wproxy/host/wasmfilter"
)

// maxFile is the most bytes of a table file.
const maxFile = 16 << 20

// A file is a *.test.toml file.
type file struct {
	Settings any        `toml:"settings"` // what every case starts from: a table, or a text
	Plugin   pluginKeys `toml:"plugin"`
	Tests    []test     `toml:"test"`

	name string
}

// pluginKeys say how the plugin is run, in the words of wproxy.toml.
type pluginKeys struct {
	RootID       string            `toml:"root_id"`
	VMID         string            `toml:"vm_id"`
	VMConfig     any               `toml:"vm_config"`
	Env          map[string]string `toml:"env"`
	Grant        []string          `toml:"grant"` // nil: what the host grants by default
	OnError      string            `toml:"on_error"`
	HeadersPause string            `toml:"headers_pause"`
	BodyBuffer   int               `toml:"body_buffer"` // bytes
}

// A test is one case.
type test struct {
	Name     string         `toml:"name"`
	Settings any            `toml:"settings"` // laid over the file's, if both are tables
	Refused  any            `toml:"refused"`  // the settings are not taken; matches why
	Route    string         `toml:"route"`
	Metadata map[string]any `toml:"metadata"` // of the route
	Traps    uint64         `toml:"traps"`    // how often the guest fails

	// A case without steps is its own only one.
	step
	Steps []step `toml:"step"`

	line int
}

// A step is a moment, or an exchange, and what must hold after it.
type step struct {
	Advance    duration    `toml:"advance"`    // the clock goes on by so much first
	Request    *request    `toml:"request"`    // none: no exchange
	Connection *connection `toml:"connection"` // instead of a request, for a plugin of kind "tcp"
	Response   response    `toml:"response"`   // what the upstream answers
	Calls      []call      `toml:"calls"`      // HTTP calls that the plugin makes, and what they bring
	Wait       duration    `toml:"wait"`       // for a plugin that holds a message back
	Repeat     int         `toml:"repeat"`     // the same exchange so many times; Expect is about the last
	Expect     *expect     `toml:"expect"`

	line int
}

// A request is what the client sends.
type request struct {
	Method    string         `toml:"method"`
	Scheme    string         `toml:"scheme"`
	Authority string         `toml:"authority"`
	Path      string         `toml:"path"`
	Protocol  string         `toml:"protocol"`
	Client    string         `toml:"client"`
	ClientIP  string         `toml:"client_ip"`
	Headers   map[string]any `toml:"headers"` // a string, or a list of strings for a repeated field
	Body      any            `toml:"body"`    // a string, or a list of strings that arrive one by one
	Trailers  map[string]any `toml:"trailers"`
}

// A response is what the upstream answers.
type response struct {
	Status   int            `toml:"status"`
	Headers  map[string]any `toml:"headers"`
	Body     any            `toml:"body"`
	Trailers map[string]any `toml:"trailers"`
}

// A call is an HTTP call of the plugin's (proxy_http_call): what must be asked of which
// upstream, and what comes back.
type call struct {
	Upstream string          `toml:"upstream"`
	Expect   *expectUpstream `toml:"expect"`
	Response response        `toml:"response"`
	Fail     string          `toml:"fail"` // instead of a response: unavailable, timeout, reset
}

// An expect says what must hold; what it does not name is not looked at. Values of type any
// are matchers, see match.
type expect struct {
	Status     int               `toml:"status"` // what the client gets
	Headers    map[string]any    `toml:"headers"`
	Body       any               `toml:"body"`
	Trailers   map[string]any    `toml:"trailers"`
	Local      *bool             `toml:"local"`  // the plugin has answered itself
	Reason     any               `toml:"reason"` // of that answer
	Upstream   *expectUpstream   `toml:"upstream"`
	Paused     *bool             `toml:"paused"` // a message is still held back
	Connection *expectConnection `toml:"connection"`

	Log       []any          `toml:"log"` // each in a line of the plugin's, so far in the case
	NoLog     []any          `toml:"no_log"`
	Metrics   map[string]any `toml:"metrics"`
	Shared    map[string]any `toml:"shared"` // shared data
	Verdict   any            `toml:"verdict"`
	LogFields map[string]any `toml:"log_fields"`
}

// An expectUpstream says what the upstream gets.
type expectUpstream struct {
	Method    any            `toml:"method"`
	Scheme    any            `toml:"scheme"`
	Authority any            `toml:"authority"`
	Path      any            `toml:"path"`
	Headers   map[string]any `toml:"headers"`
	Body      any            `toml:"body"`
	Trailers  map[string]any `toml:"trailers"`
}

// A duration is written "1.5s".
type duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err == nil && v < 0 {
		err = errors.New("a negative time")
	}
	*d = duration(v)
	return err
}

// A FileError is what is wrong with a table file: its form, not what it tests.
type FileError struct {
	File   string
	Line   int // 0: the whole file
	Reason string
}

func (e *FileError) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Reason
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Reason)
}

// readFile reads and checks a table file. The error is a *FileError.
func readFile(name string) (*file, error) {
	info, err := os.Stat(name)
	if err == nil && info.Size() > maxFile {
		return nil, &FileError{name, 0, fmt.Sprintf("has %d bytes; the most is %d", info.Size(), maxFile)}
	}
	text, err := os.ReadFile(name) //nolint:gosec // named by whoever runs the tests
	if err != nil {
		return nil, &FileError{name, 0, err.Error()}
	}
	return parseFile(name, text)
}

func parseFile(name string, text []byte) (*file, error) {
	f := &file{name: name}
	d := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
	err := d.Decode(f)
	if missing, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(missing.Errors) > 0 {
		e := &missing.Errors[0]
		line, _ := e.Position()
		key := e.Key()
		return nil, &FileError{name, line, fmt.Sprintf("unknown key %q", key[len(key)-1])}
	}
	if e, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, _ := e.Position()
		return nil, &FileError{name, line, e.Error()}
	}
	if err != nil {
		return nil, &FileError{name, 0, err.Error()}
	}
	f.place(text)
	return f, f.check()
}

// place gives cases and steps their lines, which the decoder does not keep.
func (f *file) place(text []byte) {
	var p unstable.Parser
	p.Reset(text)
	test := -1
	steps := 0
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind != unstable.ArrayTable {
			continue
		}
		var key []string
		line := 0
		for it := e.Key(); it.Next(); {
			n := it.Node()
			if line == 0 {
				line = bytes.Count(text[:n.Raw.Offset], []byte("\n")) + 1
			}
			key = append(key, string(n.Data))
		}
		switch {
		case len(key) == 1 && key[0] == "test":
			test, steps = test+1, 0
			if test < len(f.Tests) {
				f.Tests[test].line = line
			}
		case len(key) == 2 && key[1] == "step" && test >= 0 && test < len(f.Tests):
			if steps < len(f.Tests[test].Steps) {
				f.Tests[test].Steps[steps].line = line
			}
			steps++
		}
	}
}

// check looks for what no case can mean, and makes a step of a case that has none.
func (f *file) check() error {
	if len(f.Tests) == 0 {
		return &FileError{f.name, 0, "has no [[test]]"}
	}
	if _, _, err := f.Plugin.options(); err != nil {
		return &FileError{f.name, 0, "plugin." + err.Error()}
	}
	for i := range f.Tests {
		t := &f.Tests[i]
		fail := func(line int, format string, args ...any) error {
			if line == 0 {
				line = t.line
			}
			return &FileError{f.name, line, fmt.Sprintf(format, args...)}
		}
		own := t.Request != nil || t.Connection != nil || t.Expect != nil || t.Advance != 0
		switch {
		case t.Name == "":
			return fail(t.line, "a test without a name")
		case t.Refused != nil && (own || len(t.Steps) > 0):
			return fail(t.line, "test %q: refused settings start no plugin: it has no request, step or expect", t.Name)
		case t.Refused == nil && len(t.Steps) == 0 && !own:
			return fail(t.line, "test %q has neither a request nor a step", t.Name)
		case len(t.Steps) > 0 && own:
			return fail(t.line, "test %q has steps and a request of its own", t.Name)
		}
		if len(t.Steps) == 0 && own {
			t.Steps = []step{t.step}
		}
		if why := checkMatcher(t.Refused); why != "" {
			return fail(t.line, "refused: %s", why)
		}
		for j := range t.Steps {
			s := &t.Steps[j]
			if why := s.check(); why != "" {
				return fail(s.line, "test %q: %s", t.Name, why)
			}
			s.Repeat = max(s.Repeat, 1)
		}
	}
	return nil
}

// options converts how the plugin is run.
func (k *pluginKeys) options() (wasmfilter.OnError, host.HeadersPause, error) {
	var on wasmfilter.OnError
	switch k.OnError {
	case "", "close":
	case "open":
		on = wasmfilter.OnErrorOpen
	default:
		return 0, 0, fmt.Errorf(`on_error is %q; it may be "close" and "open"`, k.OnError)
	}
	var pause host.HeadersPause
	switch k.HeadersPause {
	case "":
	case "stop-all":
		pause = host.HeadersPauseStopAll
	case "hold":
		pause = host.HeadersPauseHold
	default:
		return 0, 0, fmt.Errorf(`headers_pause is %q; it may be "stop-all" and "hold"`, k.HeadersPause)
	}
	if k.BodyBuffer < 0 {
		return 0, 0, errors.New("body_buffer is negative")
	}
	return on, pause, nil
}
