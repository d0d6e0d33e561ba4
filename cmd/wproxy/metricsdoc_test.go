package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"wproxy/core/access"
	"wproxy/core/config"
	"wproxy/core/metrics"
)

var (
	descOf     = regexp.MustCompile(`fqName: "(wproxy_\w+)".*variableLabels: \{([^}]*)\}`)
	metricCode = regexp.MustCompile(`New(Counter|Gauge|Histogram)(?:Vec)?\(prometheus\.\w+Opts\{\s*Name: "(wproxy_\w+)"`)
	guestCode  = regexp.MustCompile(`(?:New(Counter|Gauge|Histogram)\(|metric := )"(wproxy_\w+)`)
	inTicks    = regexp.MustCompile("`([^`]+)`")
)

// A documented metric, or one that the code has.
type describedMetric struct{ kind, labels string }

// TestMetricsReference: docs/metrics.md tells of every metric, with its type and labels,
// and of no other.
func TestMetricsReference(t *testing.T) {
	code := map[string]describedMetric{}
	kinds := map[string]string{}
	for _, b := range goFiles(t, "core/metrics") {
		for _, m := range metricCode.FindAllStringSubmatch(b, -1) {
			kinds[m[2]] = strings.ToLower(m[1])
		}
	}
	all, ok := metrics.New().Gatherer().(prometheus.Collector)
	if !ok {
		t.Fatal("the registry does not describe itself")
	}
	descs := make(chan *prometheus.Desc, 1000)
	all.Describe(descs)
	close(descs)
	for d := range descs {
		if m := descOf.FindStringSubmatch(d.String()); m != nil {
			code[m[1]] = describedMetric{kinds[m[1]], m[2]}
		}
	}
	if len(code) < 25 {
		t.Fatalf("only %d metrics are found in the registry", len(code))
	}
	docs, guests := map[string]describedMetric{}, map[string]string{}
	for _, cells := range docRows(t, "docs/metrics.md", "## Metrics", "## The access log") {
		name := strings.Trim(cells[0], "`")
		var labels []string
		for _, m := range inTicks.FindAllStringSubmatch(cells[2], -1) {
			labels = append(labels, m[1])
		}
		if docs[name].kind != "" {
			t.Errorf("%s is explained twice", name)
		}
		docs[name] = describedMetric{cells[1], strings.Join(labels, ",")}
		if len(cells[3]) < 8 {
			t.Errorf("%s: what does it mean?", name)
		}
		if len(labels) > 0 && labels[0] == "plugin" && code[name].kind == "" {
			guests[name] = cells[1]
		}
	}
	for name, want := range code {
		if got := docs[name]; got != want {
			t.Errorf("%s: docs/metrics.md has %q, want %q", name, got, want)
		}
	}
	inPlugins := map[string]string{}
	for _, dir := range []string{"plugins/ratelimit", "plugins/cache", "plugins/breaker", "plugins/securityheaders"} {
		for _, b := range goFiles(t, dir) {
			for _, m := range guestCode.FindAllStringSubmatch(b, -1) {
				inPlugins[m[2]] = strings.ToLower(m[1])
			}
		}
	}
	if len(inPlugins) < 5 {
		t.Fatalf("only %d metrics are found in the plugins", len(inPlugins))
	}
	for name, kind := range inPlugins {
		if got, ok := guests[name]; !ok || kind != "" && got != kind {
			t.Errorf("%s of a plugin: docs/metrics.md has %q, want %q", name, got, kind)
		}
	}
	for name := range docs {
		if _, ok := inPlugins[name]; code[name].kind == "" && !ok {
			t.Errorf("docs/metrics.md explains %s, which nothing counts", name)
		}
	}
}

// TestNamesOfTheDesign: the names that dashboards and scripts were promised.
func TestNamesOfTheDesign(t *testing.T) {
	docs := map[string]bool{}
	for _, cells := range docRows(t, "docs/metrics.md", "## Metrics", "## The access log") {
		docs[strings.Trim(cells[0], "`")] = true // which TestMetricsReference holds against the code
	}
	for _, name := range []string{
		"requests_total", "request_seconds", "upstream_seconds", "refused_total", "retries_total", "upstream_server_up", "upstream_failures_total",
		"connections", "plugin_call_seconds", "plugin_fuel_total", "plugin_memory_bytes", "plugin_instances", "plugin_traps_total",
		"cache_requests_total", "limit_total", "breaker_state", "config_generation", "config_last_reload_ok", "certificate_expiry_seconds",
	} {
		if !docs["wproxy_"+name] {
			t.Errorf("there is no wproxy_%s", name)
		}
	}
}

// TestAccessLogReference: docs/metrics.md tells of every field of the access log, and the
// configuration takes their names and no others.
func TestAccessLogReference(t *testing.T) {
	names, usual := access.ColumnNames()
	var docs []string
	for _, cells := range docRows(t, "docs/metrics.md", "## The access log", "## wproxy's own log") {
		for _, m := range inTicks.FindAllStringSubmatch(cells[0], -1) {
			if strings.HasSuffix(m[1], ":NAME") {
				if err := access.CheckColumn(strings.ToLower(m[1])); err != nil {
					t.Error(err)
				}
				continue
			}
			if i := slices.Index(names, m[1]); i < 0 || (i < usual) == (cells[1] == "no") {
				t.Errorf("docs/metrics.md: %s: by default: %q", m[1], cells[1])
			}
			docs = append(docs, m[1])
		}
	}
	if !slices.Equal(docs, names) {
		t.Errorf("docs/metrics.md has %q\nthe code %q", docs, names)
	}
	if got := config.AccessFields(); !slices.Equal(got, append([]string{"default"}, names...)) {
		t.Errorf("the configuration takes %q\nthe access log %q", got, names)
	}
}

// TestTracingDoc: the examples of docs/tracing.md are settings that are accepted.
func TestTracingDoc(t *testing.T) {
	t.Setenv("WPROXY_DEBUG_TOKEN", "0123456789abcdef")
	b, err := os.ReadFile(filepath.Join(root, "docs/tracing.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```toml\n(.*?)^```").FindAllStringSubmatch(string(b), -1)
	if len(blocks) < 2 {
		t.Fatalf("there are %d examples", len(blocks))
	}
	for _, m := range blocks {
		if _, err := config.Parse("example.toml", []byte(m[1]+"\n[routes.a]\nto = \"127.0.0.1:1\"\n")); err != nil {
			t.Errorf("%s: %v", m[1], err)
		}
	}
}

// goFiles returns the files of a package that are no tests.
func goFiles(t *testing.T, dir string) (texts []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no files (%v)", dir, err)
	}
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(b))
	}
	return texts
}

// docRows returns the cells of the rows of tables between two headings of a document that
// begin with a name in ticks.
func docRows(t *testing.T, file, from, to string) (rows [][]string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), "\n"+from+"\n")
	text, _, end := strings.Cut(text, "\n"+to+"\n")
	if !ok || !end {
		t.Fatalf("%s has no %q and %q", file, from, to)
	}
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	return rows
}
