package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"wproxy/core/metrics"
	"wproxy/plugins"
)

// TestRootFS puts the image's root file system together, and runs what is in it as the
// image does: alone in there, as nobody in particular.
func TestRootFS(t *testing.T) {
	switch _, err := plugins.Builtin("ratelimit"); {
	case os.Geteuid() != 0:
		t.Skip("only root can change its root")
	case err != nil:
		t.Skip("the shipped plugins are not built: make plugins")
	case runtime.GOOS != "linux" || raceDetector || testing.Short():
		t.Skip("builds a binary, once is enough; Linux only")
	}
	if _, err := os.Stat("/etc/ssl/certs/ca-certificates.crt"); err != nil {
		missing(t, "ca-certificates", err)
	}
	dir := t.TempDir()
	for d := dir; d != "/"; d = filepath.Dir(d) { // the user of the image has to get in
		if err := os.Chmod(d, 0o755); err != nil { //nolint:gosec // temporary
			break
		}
		if filepath.Dir(d) == os.TempDir() {
			break
		}
	}
	binary, tree := filepath.Join(dir, "wproxy"), filepath.Join(dir, "root")
	command := func(name string, args ...string) *exec.Cmd {
		c := exec.Command(name, args...)
		c.Dir = root
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		return c
	}
	for _, c := range []*exec.Cmd{
		command("go", "build", "-trimpath", "-o", binary, "./cmd/wproxy"),
		command("./deploy/rootfs", binary, tree),
	} {
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", c, err, out)
		}
	}
	compiled := func() int {
		entries, err := filepath.Glob(filepath.Join(tree, "var/cache/wproxy/wasm/*/*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := compiled()
	if before < 4 {
		t.Errorf("%d compiled plugins are in the image, want those that ship with wproxy", before)
	}
	config := filepath.Join(tree, "etc/wproxy/wproxy.toml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range []string{":8080", ":9901"} { // on loopback here
		if !bytes.Contains(text, []byte(`"`+port+`"`)) {
			t.Fatalf("container.toml does not listen on %s, which the Dockerfile exposes", port)
		}
		text = bytes.ReplaceAll(text, []byte(`"`+port+`"`), []byte(`"127.0.0.1:0"`))
	}
	if err := os.WriteFile(config, text, 0o644); err != nil { //nolint:gosec // the image's user reads it
		t.Fatal(err)
	}
	inside := func(args ...string) *exec.Cmd {
		c := exec.Command("/wproxy", append(args, "-c", "/etc/wproxy/wproxy.toml")...)
		c.Path, c.Dir, c.Err = "/wproxy", "/", nil
		c.Env = []string{"CACHE_DIRECTORY=/var/cache/wproxy"}
		c.SysProcAttr = &syscall.SysProcAttr{Chroot: tree, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
		return c
	}
	run := inside("run")
	var log bytes.Buffer
	run.Stdout, run.Stderr = &log, &log
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- run.Wait() }()
	t.Cleanup(func() {
		_ = run.Process.Kill() // if it runs still
	})
	var st Status
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) { // polling another process
		out, err := inside("status", "--json").Output()
		if err == nil {
			err = json.Unmarshal(out, &st)
		}
		if err == nil {
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("it ended: %v\n%s", err, log.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not serve: %v", err)
		}
	}
	res, err := http.Get("http://" + st.Listeners[0].Address + "/get")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK || res.Header.Get("x-content-type-options") != "nosniff" || res.Header.Get("ratelimit") == "" {
		t.Errorf("got %d %v", res.StatusCode, res.Header)
	}
	if n := compiled(); n != before {
		t.Errorf("%d plugins were compiled when it started: what the image has was of no use", n-before)
	}
	if err := run.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("SIGTERM: %v\n%s", err, log.String())
	}
}

// TestImage: what the Dockerfile says is what TestRootFS tries out, and what the compose
// file mounts is there.
func TestImage(t *testing.T) {
	t.Parallel()
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(root, "deploy", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	docker := read("Dockerfile")
	_, final, ok := strings.Cut(docker, "\nFROM scratch\n")
	if !ok || strings.Contains(final, "\nFROM ") {
		t.Error("the last stage is not from scratch")
	}
	for _, want := range []string{"COPY --from=build /rootfs/ /\n", "USER 65532:65532\n", "ENV CACHE_DIRECTORY=/var/cache/wproxy\n", "EXPOSE 8080 9901\n", "STOPSIGNAL SIGTERM\n"} {
		if !strings.Contains(final, want) {
			t.Errorf("the last stage has no %q", want)
		}
	}
	if !strings.Contains(docker, "./deploy/rootfs bin/wproxy /rootfs\n") || strings.Contains(final, "RUN") {
		t.Error("the root file system is not made by deploy/rootfs alone")
	}
	mounts := regexp.MustCompile(`(?m)^[^#\n]*?\./([\w./-]+):/`).FindAllStringSubmatch(strings.ReplaceAll(read("compose.yaml"), ", ", "\n"), -1)
	if len(mounts) < 5 {
		t.Errorf("compose.yaml mounts %d files", len(mounts))
	}
	for _, m := range mounts {
		read(m[1])
	}
}

// TestUnitFile has systemd's own opinion of the units.
func TestUnitFile(t *testing.T) {
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		missing(t, "systemd", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"wproxy.service", "wproxy.socket"} { // the socket names the service
		b, err := os.ReadFile(filepath.Join(root, "deploy/systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(b), "/usr/local/bin/wproxy", self) // which has to be there
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(tool, "verify", "--man=no", filepath.Join(dir, "wproxy.service"), filepath.Join(dir, "wproxy.socket")).CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("wproxy.s")) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

var metricName = regexp.MustCompile(`\bwproxy_[a-z0-9_]+`)

// TestDashboards: every metric that the dashboard and the alerts name is there.
func TestDashboards(t *testing.T) {
	known := map[string]bool{}
	descs := make(chan *prometheus.Desc, 1000)
	metrics.New().Gatherer().(*prometheus.Registry).Describe(descs)
	close(descs)
	for d := range descs {
		known[metricName.FindString(d.String())] = true
	}
	for _, file := range []string{"deploy/grafana/dashboard.json", "deploy/alerts.yml"} {
		b, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, ".json") && !json.Valid(b) {
			t.Errorf("%s is no JSON", file)
		}
		found := metricName.FindAllString(string(b), -1)
		if len(found) < 5 {
			t.Errorf("%s names %d metrics", file, len(found))
		}
		for _, name := range found {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				name = strings.TrimSuffix(name, suffix)
			}
			if !known[name] {
				t.Errorf("%s: there is no metric %s", file, name)
			}
		}
	}
}

// missing skips a test that needs a program which is not there; in CI it fails.
func missing(t *testing.T, program string, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is needed in CI: %v", program, err)
	}
	t.Skipf("%s is not here: %v", program, err)
}
