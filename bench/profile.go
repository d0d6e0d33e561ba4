package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// A profiler collects what wproxy's CPU time is spent on while it is measured, for the compiler
// (cmd/wproxy/wproxy.pgo). What is measured meanwhile is not to be believed.
type profiler struct {
	dir   string   // of the parts
	parts []string // a profile for each variant and round
}

// adminSocket is where wproxy's profiles are had: not by TCP, which only reads.
const adminSocket = "admin.sock"

// record has what the wproxy that runs in dir does in the next seconds written to a part. The
// function that it returns waits for that.
func (p *profiler) record(ctx context.Context, dir string, seconds int) (wait func() error) {
	name := filepath.Join(p.dir, fmt.Sprintf("%03d.pb.gz", len(p.parts)))
	p.parts = append(p.parts, name)
	done := make(chan error, 1)
	go func() { done <- fetchProfile(ctx, filepath.Join(dir, adminSocket), name, seconds) }()
	return func() error { return <-done }
}

// fetchProfile asks for a profile and writes it to a file.
func fetchProfile(ctx context.Context, socket, name string, seconds int) error {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	defer tr.CloseIdleConnections()
	c := http.Client{Transport: tr, Timeout: time.Duration(seconds)*time.Second + startTimeout}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://wproxy/debug/pprof/profile?seconds=%d", seconds), nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("a profile: %s", resp.Status)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	return os.WriteFile(name, b, 0o644)
}

// merge writes all parts into one profile.
func (p *profiler) merge(ctx context.Context, name string) error {
	out, err := exec.CommandContext(ctx, "go", append([]string{"tool", "pprof", "-proto", "-output", name}, p.parts...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("merging profiles: %w: %s", err, out)
	}
	return nil
}
