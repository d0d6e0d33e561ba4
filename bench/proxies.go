package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"time"
)

// A proxy is one program that bench knows how to set up.
type proxy struct {
	name    string
	binary  string   // looked up on PATH, or a path
	version []string // arguments that make it print its version
	native  bool     // whether configure knows withPolicies and withTLS
	caches  caching  // whether it knows withCache

	// configure returns the files to write (name in the setup's directory to
	// content) and how to run the program.
	configure func(s setup) (files map[string]string, args []string)
	env       []string

	path    string // of the program, once found
	release string // what it printed about its version, first line
}

// A caching is what a proxy has to do with withCache.
type caching uint8

const (
	noCache caching = iota
	alsoCaches
	onlyCaches // it runs in no other scenario
)

// A setup is where and how one proxy runs.
type setup struct {
	dir     string // its own, absolute
	path    string // of the program
	address string // to listen at
	admin   string // for its admin interface, if it has one
	origin  string
	feat    feature
}

// file returns the path of a file in the setup's directory.
func (s setup) file(name string) string { return filepath.Join(s.dir, name) }

// proxies are all programs bench knows, wproxy and its yardstick first.
func proxies(wproxy string) []*proxy {
	one := []string{"GOMAXPROCS=1"}
	return []*proxy{
		{name: "wproxy", binary: wproxy, version: []string{"version"}, native: true, caches: alsoCaches, configure: configureWproxy, env: one},
		{name: "nginx", binary: "nginx", version: []string{"-v"}, native: true, caches: alsoCaches, configure: configureNginx},
		{name: "haproxy", binary: "haproxy", version: []string{"-v"}, native: true, configure: configureHAProxy},
		{name: "caddy", binary: "caddy", version: []string{"version"}, configure: configureCaddy, env: one},
		{name: "traefik", binary: "traefik", version: []string{"version"}, configure: configureTraefik, env: one},
		{name: "envoy", binary: "envoy", version: []string{"--version"}, configure: configureEnvoy},
		{name: "varnish", binary: "varnishd", version: []string{"-V"}, caches: onlyCaches, configure: configureVarnish},
	}
}

// find looks for the program and asks it for its version.
func (p *proxy) find(ctx context.Context) error {
	path, err := exec.LookPath(p.binary)
	if err != nil && p.name == "nginx" {
		path, err = exec.LookPath("/usr/sbin/nginx") // not on every user's PATH
	}
	if err != nil && p.name == "varnish" {
		path, err = exec.LookPath("/usr/sbin/varnishd")
	}
	if err != nil && p.name == "haproxy" {
		path, err = exec.LookPath("/usr/sbin/haproxy")
	}
	if err != nil {
		return err
	}
	if p.path, err = filepath.Abs(path); err != nil {
		return err
	}
	out, err := output(ctx, append([]string{p.path}, p.version...)...)
	if err != nil {
		return err
	}
	p.release = releaseOf(p.path, out)
	return nil
}

// releaseOf returns the first line of what a program at path has printed about its
// version, without its path, which is nobody's business.
func releaseOf(path, out string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
	return strings.Join(strings.Fields(strings.TrimPrefix(line, path)), " ")
}

// A server is a running program that answers at address.
type server struct {
	*process
	setup
}

// run writes the configuration of p below dir and starts it on cpu. It
// returns once the proxy has given its first answer, and the time that took.
func (p *proxy) run(ctx context.Context, dir string, cpu int, origin string, feat feature) (*server, time.Duration, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, 0, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, 0, err
	}
	addrs, err := freeAddresses(2)
	if err != nil {
		return nil, 0, err
	}
	s := setup{dir: dir, path: p.path, address: addrs[0], admin: addrs[1], origin: origin, feat: feat}
	if feat&withTLS != 0 {
		if err := writeCert(s); err != nil {
			return nil, 0, err
		}
	}
	files, args := p.configure(s)
	for name, content := range files {
		if err := os.WriteFile(s.file(name), []byte(content), 0o644); err != nil {
			return nil, 0, err
		}
	}
	begin := time.Now()
	pr, err := start(p.name, cpu, p.env, s.file("output.log"), args...)
	if err != nil {
		return nil, 0, err
	}
	srv := &server{process: pr, setup: s}
	if err := awaitAnswer(ctx, srv); err != nil {
		pr.stop()
		return nil, 0, err
	}
	return srv, time.Since(begin), nil
}

// awaitAnswer asks for /1k until the answer is the origin's file, p ends, or startTimeout
// has passed.
func awaitAnswer(ctx context.Context, p *server) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		status, body, err := get(ctx, p.dial, p.address, "/1k")
		if err == nil && status == 200 {
			if string(body) != originBody(originBodies["1k"]) {
				return fmt.Errorf("%s answers with another body than the origin's, of %d bytes", p.name, len(body))
			}
			return nil
		}
		if err := p.ended(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s gives no answer (status %d, %w): %s", p.name, status, err, tail(p.log))
		case <-time.After(startPoll):
		}
	}
}

// freeAddresses returns n loopback addresses nobody listens at. Another
// program might take one before it is used; then that start fails and says so.
func freeAddresses(n int) ([]string, error) {
	var addrs []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // only after all are chosen, so that they differ
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

// originBodies are the static files the origin serves, by size in bytes.
var originBodies = map[string]int{"1k": 1 << 10, "64k": 64 << 10, "1m": 1 << 20}

// originBody returns the content of the file of that size.
func originBody(size int) string { return strings.Repeat("0123456789abcde\n", size/16) }

// runOrigin starts nginx as the origin, on cpu, with its files below dir.
func runOrigin(ctx context.Context, nginx *proxy, dir string, cpu int) (*server, error) {
	if nginx.path == "" {
		return nil, errors.New("the origin is nginx, which is not installed")
	}
	p := *nginx
	p.name = "origin"
	p.configure = func(s setup) (map[string]string, []string) {
		files, args := configureOrigin(s)
		for name, size := range originBodies {
			files[name] = originBody(size)
		}
		return files, args
	}
	s, _, err := p.run(ctx, dir, cpu, "", 0)
	return s, err
}

// nginxUser is the directive that keeps workers able to read bench's files:
// started as root, nginx would otherwise change to a user that may not.
func nginxUser() string {
	u, err := user.Current()
	if err != nil || u.Uid != "0" {
		return ""
	}
	g, err := user.LookupGroupId(u.Gid)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("user %s %s;\n", u.Username, g.Name)
}
