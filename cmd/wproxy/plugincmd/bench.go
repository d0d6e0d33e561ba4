package plugincmd

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"wproxy/core/exchange"
	"wproxy/core/objects"
	"wproxy/host"
	"wproxy/host/plugintest"
	"wproxy/host/wasmfilter"
	"wproxy/plugins/manifest"
)

const (
	maxBenchTime = 30 * time.Second
	warmUps      = 200             // exchanges before anything is measured
	heapRounds   = 50              // exchanges in which allocations are counted
	heldTime     = 2 * time.Second // without progress, the plugin waits for something
)

// A benchResult is what a step of the standard exchange costs.
type benchResult struct {
	Step      string   `json:"step"`
	Callbacks []string `json:"callbacks"`
	Calls     int      `json:"calls"`
	MeanNS    int64    `json:"mean_ns"` // in the guest and in what it calls of the host
	MinNS     int64    `json:"min_ns"`  // what it takes where nothing comes between
	P50NS     int64    `json:"p50_ns"`
	P99NS     int64    `json:"p99_ns"`
	Allocs    uint64   `json:"allocs"` // of the host, in a step; the median
	Bytes     uint64   `json:"bytes"`  // the same in bytes
}

// A benchReport is all that `wproxy plugin bench` tells.
type benchReport struct {
	File      string        `json:"file"`
	Request   string        `json:"request"` // its method, and the path that was asked for
	Exchanges int           `json:"exchanges"`
	CompileNS int64         `json:"compile_ns"` // or reading it from the cache
	StartNS   int64         `json:"start_ns"`   // of a VM with its settings
	Answered  bool          `json:"answered"`   // the plugin answers the request itself
	Memory    int64         `json:"memory"`     // bytes of the guest at the end
	Growth    int64         `json:"growth"`     // of it, since the warm-up
	Fuel      uint64        `json:"fuel"`       // units of work of the guest in an exchange, the mean
	Steps     []benchResult `json:"steps"`
}

type benchOptions struct {
	config string
	time   time.Duration
	asJSON bool
	fields []exchange.Field
	get    string // path; "": POST
}

// bench is `wproxy plugin bench`.
func bench(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fail := failer("bench", stderr)
	fs := flag.NewFlagSet("wproxy plugin bench", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	var o benchOptions
	fs.StringVar(&o.config, "config", "", "")
	fs.DurationVar(&o.time, "time", time.Second, "")
	fs.BoolVar(&o.asJSON, "json", false, "")
	fs.StringVar(&o.get, "get", "", "")
	fs.Func("H", "", func(s string) error {
		name, value, ok := strings.Cut(s, ":")
		if !ok {
			return errors.New(`want "name: value"`)
		}
		o.fields = append(o.fields, exchange.Field{Name: strings.ToLower(strings.TrimSpace(name)), Value: strings.TrimSpace(value)})
		return nil
	})
	rest, err := parse(fs, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usageOf("bench"))
		return exitOK
	case err != nil:
		return fail(exitFailed, err)
	case len(rest) != 1:
		return fail(exitFailed, errors.New("one FILE.wasm is needed"))
	case o.get != "" && !strings.HasPrefix(o.get, "/"):
		return fail(exitFailed, fmt.Errorf("--get %s: it is a path, which begins with /", o.get))
	case o.time <= 0 || o.time > maxBenchTime:
		return fail(exitFailed, fmt.Errorf("--time %v: it may be up to %v", o.time, maxBenchTime))
	}
	wasm, err := readModule(rest[0])
	if err != nil {
		return fail(exitFailed, err)
	}
	config, err := readConfig(o.config)
	if err != nil {
		return fail(exitFailed, err)
	}
	r, err := runBench(ctx, &o, wasm, config)
	if err != nil {
		return fail(exitRefused, err)
	}
	if r.File, r.Request = rest[0], "POST"; o.get != "" {
		r.Request = "GET " + o.get
	}
	if o.asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(r)
	} else {
		err = r.write(stdout)
	}
	if err != nil {
		return fail(exitFailed, err)
	}
	return exitOK
}

// readConfig returns the settings that --config names: JSON as it is, or the content of a file.
func readConfig(arg string) ([]byte, error) {
	switch {
	case arg == "":
		return nil, nil
	case strings.HasPrefix(strings.TrimSpace(arg), "{"):
		return []byte(arg), nil
	}
	b, err := os.ReadFile(arg) //nolint:gosec // named by the user
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	return b, nil
}

// runBench measures. The error is what is wrong with the plugin or its settings.
func runBench(ctx context.Context, o *benchOptions, wasm, config []byte) (*benchReport, error) {
	about, err := checkConfig(wasm, config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b, err := newBencher(ctx, o.get, o.fields)
	if err != nil {
		return nil, err
	}
	var logs []string
	h, err := host.NewHost(host.HostOptions{
		CacheDir: plugintest.CacheDir(),
		Log:      func(e host.LogEntry) { logs = append(logs[max(0, len(logs)-9):], e.Message) },
	})
	if err != nil {
		return nil, err
	}
	defer h.Close()
	r := &benchReport{}
	start := time.Now()
	p, err := h.Load(ctx, wasm, host.PluginOptions{Name: "plugin", Instances: 1, Grants: grantsOf(about), OnCall: b.onCall})
	if err != nil {
		return nil, err
	}
	defer p.Close()
	r.CompileNS = time.Since(start).Nanoseconds()
	start = time.Now()
	root, err := p.NewRoot(ctx, config)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	r.StartNS = time.Since(start).Nanoseconds()
	b.calls = [steps][]host.Callback{} // those of the start
	b.factory = wasmfilter.New(root, wasmfilter.Options{Objects: objects.New(objects.Options{})})
	if err := measure(b, p, r, o.time, cancel); err != nil {
		if len(logs) > 0 {
			err = fmt.Errorf("%w; the last line of the log: %s", err, logs[len(logs)-1])
		}
		return nil, err
	}
	return r, nil
}

// grantsOf returns what the plugin asks to use; nil, the host's defaults, if it does not say.
func grantsOf(about *manifest.Manifest) []string {
	if about == nil {
		return nil
	}
	return about.Grants
}

// checkConfig holds the settings against the module's schema, as wproxy does. It returns what
// the module says about itself; nil: nothing.
func checkConfig(wasm, config []byte) (*manifest.Manifest, error) {
	m, err := manifest.Read(wasm)
	if err != nil || m == nil || m.Settings == nil {
		return m, err
	}
	var texts []string
	for _, p := range m.Settings.Check(config) {
		texts = append(texts, p.Text)
	}
	if len(texts) > 0 {
		return m, errors.New(strings.Join(texts, "\n") + "\n(--config gives settings)")
	}
	return m, nil
}

// measure runs the exchanges on a goroutine of its own, so that a plugin that holds one
// back can be given up.
func measure(b *bencher, p *host.Plugin, r *benchReport, budget time.Duration, cancel func()) error {
	progress := make(chan struct{}, 1)
	done := make(chan error, 1)
	go func() { // ends with the measurement, or when cancel has freed a waiting exchange
		done <- b.measure(p, r, budget, func() {
			select {
			case progress <- struct{}{}:
			default:
			}
		})
	}()
	held := time.NewTimer(heldTime)
	defer held.Stop()
	given := false
	for {
		select {
		case err := <-done:
			if given {
				return errHeld
			}
			return err
		case <-progress:
			held.Reset(heldTime)
		case <-held.C:
			given = true
			cancel()
		}
	}
}

func (b *bencher) measure(p *host.Plugin, r *benchReport, budget time.Duration, progress func()) error {
	for range warmUps {
		if err := b.exchange(); err != nil {
			return err
		}
		progress()
	}
	r.Answered = b.answered
	traps := func() (n uint64) {
		for _, k := range p.Stats().Traps {
			n += k
		}
		return n
	}
	if traps() > 0 {
		return errors.New("the plugin fails")
	}
	before := p.Stats().MemoryBytes
	var allocs, bytes [steps][]uint64
	b.onStep = func(step int, run func()) {
		o, n := heap()
		run()
		o2, n2 := heap()
		allocs[step], bytes[step] = append(allocs[step], o2-o), append(bytes[step], n2-n)
	}
	for range heapRounds {
		if err := b.exchange(); err != nil {
			return err
		}
		progress()
	}
	b.onStep = func(_ int, run func()) { run() }
	b.record = true
	fuel := p.Stats().Fuel
	for start := time.Now(); time.Since(start) < budget; r.Exchanges++ {
		if err := b.exchange(); err != nil {
			return err
		}
		if r.Exchanges%64 == 0 {
			progress()
		}
	}
	if traps() > 0 {
		return errors.New("the plugin fails")
	}
	r.Memory = p.Stats().MemoryBytes
	r.Growth = r.Memory - before
	// The host books fuel in lots, of which the last is missing: nothing among thousands.
	r.Fuel = (p.Stats().Fuel - fuel) / uint64(max(r.Exchanges, 1)) //nolint:gosec // a count
	var whole [2]uint64
	for step := range steps {
		objects, size := median(allocs[step]), median(bytes[step])
		whole[0], whole[1] = whole[0]+objects, whole[1]+size
		if step != stepWhole && len(b.samples[step]) > 0 {
			r.Steps = append(r.Steps, b.result(step, objects, size))
		}
	}
	r.Steps = append(r.Steps, b.result(stepWhole, whole[0], whole[1]))
	return nil
}

func (b *bencher) result(step int, allocs, bytes uint64) benchResult {
	s := b.samples[step]
	slices.Sort(s)
	sum := time.Duration(0)
	for _, d := range s {
		sum += d
	}
	r := benchResult{
		Step: stepNames[step], Calls: len(s), MeanNS: int64(sum) / int64(len(s)),
		MinNS: int64(s[0]), P50NS: int64(s[len(s)/2]), P99NS: int64(s[len(s)*99/100]), Allocs: allocs, Bytes: bytes,
	}
	for _, cb := range b.calls[step] {
		r.Callbacks = append(r.Callbacks, cb.String())
	}
	return r
}

func median(v []uint64) uint64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// write tells people.
func (r *benchReport) write(w io.Writer) error {
	var b strings.Builder
	what := "POST, 1 KiB each way, trailers"
	if r.Request != "POST" {
		what = r.Request + ", answered with 1 KiB"
	}
	fmt.Fprintf(&b, "%s: %d exchanges (%s); loaded in %v, started in %v\n",
		r.File, r.Exchanges, what, time.Duration(r.CompileNS).Round(time.Millisecond), time.Duration(r.StartNS).Round(10*time.Microsecond))
	if r.Answered {
		b.WriteString("the plugin answers this request itself; -H 'name: value' adds to it what it asks for\n")
	}
	fmt.Fprintf(&b, "%-18s %9s %9s %9s %9s %7s %7s  %s\n", "step", "mean", "min", "p50", "p99", "allocs", "bytes", "callbacks")
	ns := func(n int64) string { return fmt.Sprintf("%d ns", n) }
	for _, s := range r.Steps {
		fmt.Fprintf(&b, "%-18s %9s %9s %9s %9s %7d %7d  %s\n", s.Step, ns(s.MeanNS), ns(s.MinNS), ns(s.P50NS), ns(s.P99NS), s.Allocs, s.Bytes, strings.Join(s.Callbacks, " "))
	}
	if len(r.Steps) == 1 {
		b.WriteString("no callback was made: the host does it alone\n")
	}
	fmt.Fprintf(&b, "fuel %d units an exchange; %d units are a microsecond of sandbox.cpu\n", r.Fuel, host.FuelPerMicrosecond)
	fmt.Fprintf(&b, "guest memory %s, %s more than after the warm-up; allocs and bytes are the host's\n", size(int(r.Memory)), size(int(r.Growth)))
	_, err := io.WriteString(w, b.String())
	return err
}
