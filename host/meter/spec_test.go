package meter_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"wproxy/host/meter"
)

// specVar names the directory of the WebAssembly core test suite as wazero's
// repository holds it: scripts in the JSON of wast2json, and their modules.
const specVar = "WASM_SPECTEST"

const specHow = "run make spec, or set " + specVar + " to internal/integration_test/spectest in the source of wazero, for instance " +
	specVar + "=$(go list -m -f '{{.Dir}}' github.com/tetratelabs/wazero)/internal/integration_test/spectest"

// A script is one file of the suite.
type script struct {
	Commands []command `json:"commands"`
}

type command struct {
	Type       string  `json:"type"`
	Line       int     `json:"line"`
	Name       string  `json:"name"`
	Filename   string  `json:"filename"`
	As         string  `json:"as"`
	ModuleType string  `json:"module_type"`
	Text       string  `json:"text"`
	Action     action  `json:"action"`
	Expected   []value `json:"expected"`
}

type action struct {
	Type   string  `json:"type"`
	Module string  `json:"module"`
	Field  string  `json:"field"`
	Args   []value `json:"args"`
}

type value struct {
	Type  string `json:"type"`
	Lane  string `json:"lane_type"`
	Value any    `json:"value"`
}

// TestSpec runs the suite twice at a time, as it is and rewritten, and wants the same
// results, to the bit, the same traps and the same refusals; and those that the
// suite wants.
func TestSpec(t *testing.T) {
	dir := os.Getenv(specVar)
	if dir == "" {
		t.Skip(specHow)
	}
	var scripts []string
	for _, version := range []string{"v1", "v2", "tail-call"} {
		some, err := filepath.Glob(filepath.Join(dir, version, "testdata", "*.json"))
		if err != nil || len(some) == 0 {
			t.Fatalf("%d scripts for %s in %s (%v): %s", len(some), version, dir, err, specHow)
		}
		scripts = append(scripts, some...)
	}
	spectest, err := os.ReadFile(filepath.Join(dir, "testdata", "spectest.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range scripts {
		version := filepath.Base(filepath.Dir(filepath.Dir(name)))
		t.Run(version+"/"+strings.TrimSuffix(filepath.Base(name), ".json"), func(t *testing.T) {
			runScript(t, name, version, skips(t, version), spectest)
		})
	}
}

// skips returns what is left out of the suite, with reasons, by script and line.
func skips(t *testing.T, version string) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "skip", version+".json"))
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// A world is a runtime with the instances of a script.
type world struct {
	t       *testing.T
	rt      wazero.Runtime
	rewrite bool
	options meter.Options
	named   map[string]api.Module
	last    api.Module
}

func newWorld(t *testing.T, version string, rewrite bool, spectest []byte) *world {
	t.Helper()
	features := api.CoreFeaturesV2
	var o meter.Options
	switch version {
	case "v1":
		features = api.CoreFeaturesV1
	case "tail-call":
		features |= experimental.CoreFeaturesTailCall
		o.TailCalls = true
	}
	w := &world{
		t: t, rewrite: rewrite, options: o, named: map[string]api.Module{},
		rt: wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfig().WithCoreFeatures(features)),
	}
	t.Cleanup(func() { _ = w.rt.Close(context.Background()) })
	(&tank{left: -1}).link(t, w.rt)
	if _, err := w.instantiate(spectest, "spectest"); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) instantiate(wasm []byte, name string) (api.Module, error) {
	if w.rewrite {
		var err error
		if wasm, _, err = meter.Rewrite(wasm, w.options); err != nil {
			return nil, err
		}
	}
	return w.rt.InstantiateWithConfig(w.t.Context(), wasm, wazero.NewModuleConfig().WithName(name).WithStartFunctions())
}

// run runs an action.
func (w *world) run(a action) ([]uint64, []api.ValueType, error) {
	mod := w.last
	if a.Module != "" {
		mod = w.named[a.Module]
	}
	if a.Type == "get" {
		g := mod.ExportedGlobal(a.Field)
		return []uint64{g.Get()}, []api.ValueType{g.Type()}, nil
	}
	if w.rewrite {
		mod.ExportedGlobal(meter.Room).(api.MutableGlobal).Set(meter.InitialRoom) // a trap does not give it back
	}
	f := mod.ExportedFunction(a.Field)
	stack := make([]uint64, 0, 64)
	for _, v := range a.Args {
		stack = v.bits(stack)
	}
	types, slots := f.Definition().ResultTypes(), 0
	for _, r := range types {
		slots++
		if r == 0x7b { // vectors take two
			slots++
		}
	}
	for len(stack) < slots {
		stack = append(stack, 0)
	}
	err := f.CallWithStack(w.t.Context(), stack)
	return stack[:slots], types, err
}

// bits appends the words of a value to a stack.
func (v value) bits(stack []uint64) []uint64 {
	lanes, ok := v.Value.([]any)
	if !ok {
		s, _ := v.Value.(string)
		n, err := strconv.ParseUint(s, 10, 64)
		if err == nil && v.Type == "externref" {
			n++ // 0 is null here
		}
		return append(stack, n) // null is 0; a kind of NaN is not compared
	}
	bits := map[string]int{"i8": 8, "i16": 16, "i32": 32, "f32": 32, "i64": 64, "f64": 64}[v.Lane]
	var w [2]uint64
	for i, lane := range lanes {
		n, _ := strconv.ParseUint(lane.(string), 10, 64)
		w[i*bits/64] |= n << (i * bits % 64)
	}
	return append(stack, w[0], w[1])
}

func runScript(t *testing.T, name, version string, skip map[string]string, spectest []byte) {
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var s script
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	was, now := newWorld(t, version, false, spectest), newWorld(t, version, true, spectest)
	ran := 0
	for i := range s.Commands {
		c := &s.Commands[i]
		where := fmt.Sprintf("%s:%d", strings.TrimSuffix(filepath.Base(name), ".json"), c.Line)
		if skip[where] != "" {
			continue
		}
		as := ""
		if next := i + 1; next < len(s.Commands) && s.Commands[next].Type == "register" {
			as = s.Commands[next].As
		}
		if err := c.compare(was, now, filepath.Dir(name), as); err != nil {
			t.Errorf("%s %s %s: %v", where, c.Type, c.Action.Field, err)
		}
		ran++
	}
	if ran == 0 {
		t.Error("nothing was run")
	}
}

// compare runs one command in both worlds.
func (c *command) compare(was, now *world, dir, as string) error {
	switch c.Type {
	case "register":
		return nil // by compare of the module before
	case "action", "assert_return", "assert_trap", "assert_exhaustion":
		return c.act(was, now)
	}
	if c.ModuleType == "text" {
		return nil
	}
	wasm, err := os.ReadFile(filepath.Join(dir, c.Filename))
	if err != nil {
		return err
	}
	m, err1 := was.instantiate(wasm, as)
	n, err2 := now.instantiate(wasm, as)
	if (err1 == nil) != (err2 == nil) {
		return fmt.Errorf("plain: %w; rewritten: %w", err1, err2)
	}
	if c.Type != "module" {
		if err2 == nil && c.Text != "out of bounds table access" { // as the runtime has it, see its own test
			return fmt.Errorf("accepted, want %s", c.Text)
		}
		return nil
	}
	if err2 != nil {
		return err2
	}
	was.last, now.last = m, n
	if c.Name != "" {
		was.named[c.Name], now.named[c.Name] = m, n
	}
	return nil
}

func (c *command) act(was, now *world) error {
	r1, types, err1 := was.run(c.Action)
	r2, _, err2 := now.run(c.Action)
	traps := c.Type == "assert_trap" || c.Type == "assert_exhaustion"
	if (err2 != nil) != traps {
		return fmt.Errorf("%w, want %s", err2, c.Text)
	}
	if traps {
		if t1, t2 := firstLine(err1), firstLine(err2); t1 != t2 && c.Type != "assert_exhaustion" {
			return fmt.Errorf("plain: %s; rewritten: %s", t1, t2)
		}
		return nil
	}
	var want []uint64
	for _, v := range c.Expected {
		want = v.bits(want)
	}
	at := 0
	for i, typ := range types {
		words, mask := 1, ^uint64(0)
		switch typ {
		case api.ValueTypeI32, api.ValueTypeF32:
			mask = 1<<32 - 1
		case 0x7b:
			words = 2
		}
		for range words {
			if typ != 0x70 && r1[at]&mask != r2[at]&mask { // references to functions are addresses
				return fmt.Errorf("result %d: plain %#x, rewritten %#x", i, r1[at]&mask, r2[at]&mask)
			}
			if i < len(c.Expected) && (typ == api.ValueTypeI32 || typ == api.ValueTypeI64) && r2[at]&mask != want[at]&mask {
				return fmt.Errorf("result %d is %#x, want %#x", i, r2[at]&mask, want[at]&mask)
			}
			at++
		}
	}
	return nil
}

func firstLine(err error) string {
	if err == nil {
		return "no error"
	}
	s, _, _ := strings.Cut(err.Error(), "\n")
	return s
}
