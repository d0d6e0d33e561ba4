package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// What h2load holds: fewer connections than wrk, with as many requests in flight.
const (
	h2Connections = 8
	h2Streams     = loadConnections / h2Connections
)

// runH2 sends GETs for whole seconds over HTTP/2 with TLS and returns h2load's part of
// a sample, which has no percentiles.
func (g *generator) runH2(ctx context.Context, address string, l load, seconds int) (sample, error) {
	log := filepath.Join(g.dir, "h2load.log")
	p, err := start("h2load", g.cpu, nil, log,
		"h2load", "-t1", fmt.Sprintf("-c%d", h2Connections), fmt.Sprintf("-m%d", h2Streams),
		fmt.Sprintf("--duration=%d", seconds), "https://"+address+l.path)
	if err != nil {
		return sample{}, err
	}
	defer p.stop()
	select {
	case <-p.done:
	case <-ctx.Done():
		return sample{}, ctx.Err()
	case <-time.After(time.Duration(seconds)*time.Second + startTimeout):
		return sample{}, fmt.Errorf("h2load does not end")
	}
	b, err := os.ReadFile(log)
	if err != nil {
		return sample{}, err
	}
	s, err := parseH2Load(string(b), seconds)
	if err != nil {
		return sample{}, fmt.Errorf("%w: %s", err, tail(log))
	}
	return s, nil
}

var (
	h2Requests = regexp.MustCompile(`(?m)^requests: \d+ total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed`)
	h2Protocol = regexp.MustCompile(`(?m)^Application protocol: h2$`)
)

// parseH2Load reads what h2load has printed. It must have spoken HTTP/2.
func parseH2Load(out string, seconds int) (sample, error) {
	m := h2Requests.FindStringSubmatch(out)
	if m == nil || !h2Protocol.MatchString(out) {
		return sample{}, fmt.Errorf("h2load: no result, or not over HTTP/2")
	}
	var s sample
	s.requests, _ = strconv.ParseInt(m[1], 10, 64) // digits
	s.errors, _ = strconv.ParseInt(m[2], 10, 64)
	if s.requests == 0 {
		return sample{}, fmt.Errorf("h2load: no request was answered")
	}
	s.seconds, s.allocs = float64(seconds), -1
	return s, nil
}
