package host_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const envoyPagePath = "../docs/abi-support-envoy.md"

// liveFacts are what is compared, in the order of the page.
var liveFacts = []string{"loaded", "status", "result", "called with", "order", "end", "upstream", "client", "log"}

// TestEnvoy runs the guests of testdata/wat, the callback orders and the shipped plugins
// on a live Envoy and on a built wproxy, with the same requests and upstreams, and holds
// what came of them against docs/abi-support-envoy.md. Every difference has its reason in
// liveDifferences. With -update the page is written anew.
func TestEnvoy(t *testing.T) {
	envoy := liveEnvoy{liveEnvoyBinary(t)}
	version := envoy.version(t)
	wproxy := liveWproxy{buildWproxy(t)}
	kinds := []struct {
		name  string
		cases []*liveCase
	}{
		{"host calls", liveCalls(t)},
		{"callbacks", liveCallbacks(t)},
		{"orders of callbacks", liveOrders()},
		{"shipped plugins", livePlugins(t)},
	}
	var cases []*liveCase
	for _, k := range kinds {
		cases = append(cases, k.cases...)
	}
	theirs := runLive(t, envoy, cases)
	ours := runLive(t, wproxy, cases)
	differ := map[string]bool{} // by id
	for _, c := range cases {
		readResult(c, ours[c.id])
		readResult(c, theirs[c.id])
		if ours[c.id].refused != "" {
			t.Errorf("%s: wproxy does not take the guest", c.name)
		}
		if c.want != "" && ours[c.id].facts["status"] != c.want {
			t.Errorf("%s: status %s on a live wproxy, want %s as in TestHostCalls", c.name, ours[c.id].facts["status"], c.want)
		}
		differ[c.id] = !maps.Equal(ours[c.id].facts, theirs[c.id].facts)
	}
	checkShipped(t, kinds[3].cases, theirs)

	var page strings.Builder
	fmt.Fprintf(&page, envoyHead, version)
	for _, k := range kinds {
		n := 0
		for _, c := range k.cases {
			if differ[c.id] {
				n++
			}
		}
		fmt.Fprintf(&page, "| %s | %d | %d | %d |\n", k.name, len(k.cases), len(k.cases)-n, n)
	}
	page.WriteString("\n## Where the two differ\n\n\"Spec\" is whose side the specification (0.2.1) is on. `3` is a status; what else is told is what the guest, the upstream or the client got.\n\n| case | wproxy | Envoy | spec | why |\n|---|---|---|---|---|\n")
	differenceRows(t, &page, cases, differ, ours, theirs)
	page.WriteString("\n## The shipped plugins\n\nThe same `.wasm` files, without the host extensions of wproxy, which Envoy does not have.\n\n| plugin | settings | on Envoy |\n|---|---|---|\n")
	for _, c := range kinds[3].cases {
		as := "as on wproxy"
		if differ[c.id] {
			as = "otherwise"
		}
		fmt.Fprintf(&page, "| %s | `%s` | %s: %s |\n", c.name, c.config, as, cell(c, theirs[c.id].facts["client"]))
	}
	skipped := 0
	for _, c := range hostCallCases() {
		if notLive(&c) {
			skipped++
		}
	}
	fmt.Fprintf(&page, notOnEnvoy, fmt.Sprintf("%d cases of host calls are left out: those of gRPC, for which no server is there, and `pthread_equal`. `proxy_on_foreign_function` is left out as well: Envoy never calls it, and nothing in a plain wproxy does.", skipped))
	checkPage(t, envoyPagePath, page.String(), "make conformance-envoy ARGS=-update")
}

// checkPage holds a page against what it should be, and writes it with -update.
func checkPage(t *testing.T, path, page, how string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil { //nolint:gosec // a page of documentation
			t.Fatal(err)
		}
	}
	was, err := os.ReadFile(path) //nolint:gosec // a constant
	if err == nil && string(was) == page {
		return
	}
	t.Errorf("%s is out of date (%v): %s", path, err, how)
	have := strings.Split(string(was), "\n")
	for line := range strings.SplitSeq(page, "\n") {
		if !slices.Contains(have, line) {
			t.Logf("new: %s", line)
		}
	}
}

func readResult(c *liveCase, r *liveResult) {
	if r.refused != "" {
		r.facts["loaded"] = "refused: " + r.refused
		return
	}
	r.facts["loaded"] = "taken"
	c.read(r)
}

// checkShipped looks at what the shipped plugins are for.
func checkShipped(t *testing.T, cases []*liveCase, theirs map[string]*liveResult) {
	t.Helper()
	for i, parts := range [][]string{
		{"x-content-type-options=nosniff", "x-frame-options=DENY", "content-security-policy=default-src 'self'"},
		{"content-security-policy=script-src 'nonce"},
		{"x-frame-options=SAMEORIGIN", "content-type=text/x"},
		{" / 429"},
		{" / 429"},
		{" / 200"},
	} {
		for _, part := range parts {
			if got := theirs[cases[i].id].answer; !strings.Contains(got, part) {
				t.Errorf("%s on Envoy: %q, want %q in it", cases[i].name, got, part)
			}
		}
	}
}

// differenceRows writes what differs. Cases that differ for the same reason in the same
// way share a row.
func differenceRows(t *testing.T, page *strings.Builder, cases []*liveCase, differ map[string]bool, ours, theirs map[string]*liveResult) {
	t.Helper()
	byName := map[string]*liveCase{}
	for _, c := range cases {
		byName[c.name] = c
	}
	explained := map[string]bool{}
	for _, d := range liveDifferences {
		type row struct{ a, b string }
		var order []row
		names := map[row][]string{}
		call := ""
		for _, part := range d.cases {
			if strings.HasPrefix(part, "proxy_") || part == "order" {
				call = part
				continue
			}
			name := caseName(call, part)
			c := byName[name]
			if c == nil {
				t.Errorf("there is no case %s", name)
				continue
			}
			explained[c.id] = true
			if !differ[c.id] {
				t.Errorf("%s does not differ any more", name)
				continue
			}
			a, b := differing(c, ours[c.id], theirs[c.id])
			if names[row{a, b}] == nil {
				order = append(order, row{a, b})
			}
			names[row{a, b}] = append(names[row{a, b}], name)
		}
		for _, r := range order {
			fmt.Fprintf(page, "| %s | %s | %s | %s | %s |\n", strings.Join(shortNames(names[r]), "; "), r.a, r.b, d.side, d.why)
		}
	}
	for _, c := range cases {
		if differ[c.id] && !explained[c.id] {
			a, b := differing(c, ours[c.id], theirs[c.id])
			t.Errorf("%s differs, and liveDifferences has no reason:\n\twproxy %s\n\tEnvoy  %s", c.name, a, b)
		}
	}
}

func caseName(call, name string) string { return "`" + call + "`: " + name }

// shortNames names the call once where several cases of it follow.
func shortNames(names []string) []string {
	var list []string
	last := ""
	for _, name := range names {
		call, rest, _ := strings.Cut(name, ": ")
		if call == last {
			list[len(list)-1] += ", " + rest
			continue
		}
		list, last = append(list, name), call
	}
	return list
}

// differing tells what is not the same on the two.
func differing(c *liveCase, ours, theirs *liveResult) (a, b string) {
	var list [2][]string
	for _, fact := range liveFacts {
		x, y := ours.facts[fact], theirs.facts[fact]
		if x == y {
			continue
		}
		for i, v := range []string{x, y} {
			list[i] = append(list[i], tell(c, fact, v))
		}
		if fact == "loaded" {
			break // nothing else came of it
		}
	}
	return strings.Join(list[0], "; "), strings.Join(list[1], "; ")
}

// tell words a fact for the page.
func tell(c *liveCase, fact, v string) string {
	switch {
	case fact == "loaded", fact == "end":
		return cell(c, v)
	case fact == "status":
		return "`" + v + "`"
	case fact == "upstream" && v == "":
		return "nothing upstream"
	}
	return fact + ": " + cell(c, v)
}

// cell makes text fit for a table.
func cell(c *liveCase, v string) string {
	v = strings.ReplaceAll(v, c.id, "probe")
	v = strings.ReplaceAll(v, "content-type=text/x; answer", "answer")
	return strings.ReplaceAll(strings.TrimSpace(v), "|", "\\|")
}

// version returns the version of Envoy.
func (e liveEnvoy) version(t *testing.T) string {
	t.Helper()
	said, err := exec.CommandContext(t.Context(), e.binary, "--version").CombinedOutput() //nolint:gosec // named by who runs the tests
	m := regexp.MustCompile(`version: \w+/([\w.-]+)/`).FindSubmatch(said)
	if err != nil || m == nil {
		t.Fatalf("%s --version: %v\n%s", e.binary, err, said)
	}
	return string(m[1])
}

// liveEnvoyBinary returns where Envoy is, or skips the test.
func liveEnvoyBinary(t *testing.T) string {
	t.Helper()
	binary := os.Getenv("WPROXY_ENVOY")
	if binary == "" {
		t.Skip("WPROXY_ENVOY names no Envoy; make conformance-envoy installs one and runs this")
	}
	return binary
}

// buildWproxy builds this proxy.
func buildWproxy(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "wproxy")
	if said, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "wproxy/cmd/wproxy").CombinedOutput(); err != nil { //nolint:gosec // nothing from outside
		t.Fatalf("%v\n%s", err, said)
	}
	return binary
}

const envoyHead = `# The conformance guests on Envoy

<!-- Made by a run on Envoy: make conformance-envoy ARGS=-update -->

The guests of ` + "`testdata/wat`" + ` that [abi-support.md](abi-support.md) rests on, and the shipped plugins, on Envoy %s (V8) and on wproxy: the same modules,
both proxies as programs of their own, with the same requests and the same upstreams. Compared are the status and the results of each host call, the arguments of each callback, lines that guests log,
what the upstream got and what the client got.

| what | cases | agree | differ |
|---|---|---|---|
`
