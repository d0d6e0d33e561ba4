package tabletest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"testing"
	"time"

	"wproxy/host"
	"wproxy/host/plugintest"
	"wproxy/plugins/manifest"
)

// pluginName is what the plugin is called in metrics and logs while it is tested.
const pluginName = "plugin"

// A Result is how one case went.
type Result struct {
	File     string    `json:"file"`
	Line     int       `json:"line"`
	Name     string    `json:"name"`
	OK       bool      `json:"ok"`
	Failures []Failure `json:"failures,omitempty"`
	Log      []string  `json:"log,omitempty"` // of the plugin, where the case failed
}

// A Failure is one thing that is not as a case expects it.
type Failure struct {
	Line int    `json:"line"` // of the step, or of the case
	What string `json:"what"`
	Want string `json:"want"`
	Got  string `json:"got"`
}

// A Suite is the cases of some files.
type Suite struct {
	files    []*file
	wasm     []byte
	manifest *manifest.Manifest
}

// Load reads table files for a module. The errors about files are *FileErrors; a module
// whose manifest is broken is refused too.
func Load(wasm []byte, names []string) (*Suite, error) {
	m, err := manifest.Read(wasm)
	if err != nil {
		return nil, fmt.Errorf("the module: %w", err)
	}
	s := &Suite{wasm: wasm, manifest: m}
	for _, name := range names {
		f, err := readFile(name)
		if err != nil {
			return nil, err
		}
		s.files = append(s.files, f)
	}
	return s, nil
}

// Run runs the cases whose names match (nil: all) and reports each when it is over.
// t is from a test, or from plugintest.Outside.
func (s *Suite) Run(t *testing.T, names *regexp.Regexp, report func(Result)) {
	t.Helper()
	for _, f := range s.files {
		for i := range f.Tests {
			if c := &f.Tests[i]; names == nil || names.MatchString(c.Name) {
				report(s.run(t, f, c))
			}
		}
	}
}

// run runs one case.
func (s *Suite) run(t *testing.T, f *file, c *test) Result {
	t.Helper()
	r := Result{File: f.name, Line: c.line, Name: c.Name}
	settings, err := settingsOf(f.Settings, c.Settings)
	if err == nil {
		err = s.checkSettings(settings)
	}
	started := false
	if err == nil {
		o := f.Plugin.pluginOptions(c, settings)
		err = plugintest.Try(t, s.wasm, o, func(_ *testing.T, p *plugintest.Plugin) {
			started = true
			if c.Refused == nil {
				s.steps(&r, c, p)
			}
		})
	}
	switch {
	case c.Refused != nil && err == nil:
		r.Failures = append(r.Failures, Failure{c.line, "settings", "refused: " + wanted(c.Refused), "(taken)"})
	case c.Refused != nil && !matchLine(c.Refused, err.Error()):
		r.Failures = append(r.Failures, Failure{c.line, "settings", "refused: " + wanted(c.Refused), err.Error()})
	case c.Refused == nil && err != nil && !started:
		r.Failures = append(r.Failures, Failure{c.line, "start", "the plugin starts", why(err)})
	case c.Refused == nil && err != nil:
		r.Failures = append(r.Failures, Failure{c.line, "end", "the plugin ends", why(err)})
	}
	r.OK = len(r.Failures) == 0
	return r
}

// steps runs the steps of a case, up to the first that fails.
func (s *Suite) steps(r *Result, c *test, p *plugintest.Plugin) {
	for i := range c.Steps {
		st := &c.Steps[i]
		line := st.line
		if line == 0 {
			line = c.line
		}
		cmp := comparer{p: p}
		if st.Advance > 0 {
			p.Advance(time.Duration(st.Advance))
		}
		for n := range st.Repeat {
			if st.Connection != nil {
				x := st.connect(&cmp)
				if n == st.Repeat-1 {
					cmp.compare(st.Expect, nil, false)
					cmp.connection(st.Expect, x)
				}
				continue
			}
			x, paused, err := st.run(&cmp)
			if err != nil {
				cmp.fail("step", "a request that a client can send", err.Error())
				break
			}
			if n == st.Repeat-1 {
				cmp.compare(st.Expect, x, paused)
			}
		}
		if i == len(c.Steps)-1 {
			cmp.traps(c.Traps)
		}
		for _, f := range cmp.failures {
			f.Line = line
			r.Failures = append(r.Failures, f)
		}
		if len(r.Failures) > 0 {
			r.Log = logLines(p.Logs())
			return
		}
	}
}

// checkSettings does what wproxy does before it starts the guest.
func (s *Suite) checkSettings(settings []byte) error {
	if s.manifest == nil || s.manifest.Settings == nil {
		return nil
	}
	var texts []string
	for _, p := range s.manifest.Settings.Check(settings) {
		texts = append(texts, p.Text)
	}
	if len(texts) == 0 {
		return nil
	}
	return errors.New(strings.Join(texts, "\n"))
}

// pluginOptions says how the plugin of a case is run.
func (k *pluginKeys) pluginOptions(c *test, settings []byte) plugintest.Options {
	on, pause, _ := k.options() // check has tried
	vmConfig, _ := settingsOf(nil, k.VMConfig)
	return plugintest.Options{
		Name: pluginName, Config: settings, Route: c.Route, Metadata: c.Metadata,
		VMID: k.VMID, RootID: k.RootID, VMConfig: vmConfig, Env: k.Env, Grants: k.Grant,
		OnError: on, HeadersPause: pause, BodyBuffer: k.BodyBuffer,
	}
}

// settingsOf returns what the guest gets: over laid over base where both are tables, a text
// as it is, a table as JSON, and nothing for an empty one, as wproxy does.
func settingsOf(base, over any) ([]byte, error) {
	v := over
	if b, ok := base.(map[string]any); ok {
		if o, ok := over.(map[string]any); ok || over == nil {
			v = merge(b, o)
		}
	} else if over == nil {
		v = base
	}
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return []byte(v), nil
	case map[string]any:
		if len(v) == 0 {
			return nil, nil
		}
		return json.Marshal(v)
	}
	return nil, fmt.Errorf("settings are %v; they may be a table or a text", v)
}

// merge lays over over base: tables deeply, lists and scalars replaced.
func merge(base, over map[string]any) map[string]any {
	m := maps.Clone(base)
	if m == nil {
		m = map[string]any{}
	}
	for k, v := range over {
		bt, ok1 := m[k].(map[string]any)
		ot, ok2 := v.(map[string]any)
		if ok1 && ok2 {
			m[k] = merge(bt, ot)
		} else {
			m[k] = v
		}
	}
	return m
}

// why returns what a plugin said when it did not start.
func why(err error) string {
	if e, ok := errors.AsType[*host.LoadError](err); ok {
		return strings.Join(e.Problems, "\n")
	}
	return err.Error()
}
