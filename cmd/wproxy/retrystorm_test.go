package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// stormWorkers send requests at the same time, for so long.
const (
	stormWorkers = 16
	stormTime    = 1200 * time.Millisecond
)

// stormConfig has three servers, and tries again after everything.
const stormConfig = `
[routes.storm]
host     = "a.test"
path     = "/storm"
upstream = "storm"
timeout  = "20s"
[routes.storm.retry]
attempts = 3
on       = ["connect", "refused-stream", "reset", "timeout", "500", "503"]
per_try  = "%s"
backoff  = "1ms..10ms"
%s
[upstreams.storm]
servers = ["%s"]
connect = { timeout = "300ms" }
`

// TestNoRetryStorm: when every server fails, however it does, the servers see no more
// than a quarter more tries than there are requests.
func TestNoRetryStorm(t *testing.T) {
	var tries atomic.Int64
	for _, tt := range []struct {
		name string
		do   func(s speaker) // nil: nobody listens
		gap  time.Duration   // between two requests of a worker
	}{
		{"refuses", nil, 0},
		{"refuses, 120 requests a second", nil, stormWorkers * time.Second / 120},
		{"resets", func(s speaker) { s.request(); tries.Add(1); s.reset() }, 0},
		{"hangs", func(s speaker) { s.request(); tries.Add(1); s.hang() }, 0},
		{"503", func(s speaker) {
			for {
				s.request()
				tries.Add(1)
				s.head(503, 5)
				s.body("wrong")
			}
		}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var servers []string
			for range 3 {
				if tt.do == nil {
					servers = append(servers, quietAddress(t))
					continue
				}
				servers = append(servers, startFault(t, newH1Speaker, tt.do).addr)
			}
			toml := strings.ReplaceAll(hostileConfig, "@ORIGIN", servers[0])
			in := startInstance(t, toml+fmt.Sprintf(stormConfig, "60ms", "", strings.Join(servers, `", "`)))
			tries.Store(0)
			begin, lasting := time.Now(), stormTime
			if tt.gap > 0 || tt.name == "hangs" { // few requests a second
				lasting *= 4 // what the floor keeps for a moment is not to be seen
			}
			var requests atomic.Int64
			var wg sync.WaitGroup
			for range stormWorkers {
				wg.Go(func() {
					client := &http.Client{Transport: &http.Transport{}, Timeout: wireTimeout}
					defer client.CloseIdleConnections()
					for time.Since(begin) < lasting {
						status, _, err := getStorm(client, in.addr)
						if _, own := errors.AsType[stormError](err); !own || status < 500 {
							t.Errorf("got %d, %v", status, err)
						}
						requests.Add(1)
						time.Sleep(tt.gap)
					}
				})
			}
			wg.Wait()
			n, rate := requests.Load(), float64(requests.Load())/time.Since(begin).Seconds()
			if rate < 100 && !raceDetector {
				t.Fatalf("only %.0f requests a second", rate)
			}
			if tt.do == nil {
				tries.Store(int64(in.sum(t, "wproxy_upstream_failures_total")))
			}
			ratio := float64(tries.Load()) / float64(n)
			t.Logf("%d tries for %d requests (%.3f), %.0f requests a second", tries.Load(), n, ratio, rate)
			if most := 1.25; ratio > most && rate >= 100 {
				t.Errorf("%.3f tries for each request, want at most %v", ratio, most)
			}
			if ratio < 1.1 {
				t.Errorf("%.3f tries for each request: nothing was tried again", ratio)
			}
			values, err := in.scrape()
			if err != nil {
				t.Fatal(err)
			}
			refused := 0.0
			for k, v := range values {
				if strings.HasPrefix(k, "wproxy_retries_total") && strings.Contains(k, `outcome="budget"`) {
					refused += v
				}
			}
			if refused == 0 {
				t.Error("no retry is counted as refused by the budget")
			}
		})
	}
}

// getStorm sends a request and reads the answer. whole is false for an answer of the
// server that was cut: which the client has seen, or, if none of it had gone out, is told.
func getStorm(client *http.Client, addr string) (status int, whole bool, err error) {
	req, err := http.NewRequest(http.MethodGet, "http://"+addr+"/storm", nil)
	if err != nil {
		return 0, false, err
	}
	req.Host = "a.test"
	resp, err := client.Do(req)
	if err != nil {
		return 0, false, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case resp.StatusCode == 200 && err != nil:
		return 200, false, nil
	case strings.Contains(string(body), "reason: upstream_truncated\n"):
		return resp.StatusCode, false, err
	case err == nil && resp.StatusCode != 200:
		return resp.StatusCode, true, stormError(body)
	}
	return resp.StatusCode, err == nil, err
}

// A stormError is the text of an answer that wproxy has made itself, or a server that fails.
type stormError string

// Error implements error.
func (e stormError) Error() string { return strings.ReplaceAll(string(e), "\n", " ") }

// TestKillOneOfThree: while one server of three after the other is killed and started
// again, no GET fails, and none waits longer than a connection may take.
func TestKillOneOfThree(t *testing.T) {
	period, lasting := 400*time.Millisecond, 3*time.Second
	if long() {
		period, lasting = time.Second, time.Minute
	}
	body := strings.Repeat("x", 1000)
	answer := func(s speaker) {
		for {
			s.request()
			s.head(200, len(body))
			s.body(body)
		}
	}
	var servers []*faultServer
	var list []string
	for range 3 {
		o := startFault(t, newH1Speaker, answer)
		servers, list = append(servers, o), append(list, o.addr)
	}
	toml := strings.ReplaceAll(hostileConfig, "@ORIGIN", list[0])
	in := startInstance(t, toml+fmt.Sprintf(stormConfig, "5s", "", strings.Join(list, `", "`)))

	run := func(lasting time.Duration) (p99 time.Duration, requests, cut int) {
		var mu sync.Mutex
		var all []time.Duration
		var wg sync.WaitGroup
		begin := time.Now()
		for range stormWorkers {
			wg.Go(func() {
				client := &http.Client{Transport: &http.Transport{}, Timeout: wireTimeout}
				defer client.CloseIdleConnections()
				for time.Since(begin) < lasting {
					sent := time.Now()
					status, whole, err := getStorm(client, in.addr)
					took := time.Since(sent)
					mu.Lock()
					all = append(all, took)
					switch {
					case err == nil && !whole:
						cut++
					case err != nil || status != 200:
						t.Errorf("after %v: got %d, %v", time.Since(begin), status, err)
					}
					mu.Unlock()
					time.Sleep(time.Millisecond)
				}
			})
		}
		wg.Wait()
		slices.Sort(all)
		return all[len(all)*99/100], len(all), cut
	}
	before, _, cut := run(500 * time.Millisecond)
	if cut > 0 {
		t.Errorf("%d answers were cut before anything was killed", cut)
	}

	done := make(chan struct{})
	var killer sync.WaitGroup
	kills := 0
	killer.Go(func() { // ends with done
		for i := 0; ; i++ {
			o := servers[i%len(servers)]
			o.down()
			kills++
			select {
			case <-done:
				return
			case <-time.After(period / 2):
			}
			if err := o.up(); err != nil {
				t.Error(err)
			}
			select {
			case <-done:
				return
			case <-time.After(period / 2):
			}
		}
	})
	after, n, cut := run(lasting)
	close(done)
	killer.Wait()
	t.Logf("%d requests, %d kills, %d answers cut; p99 %v, before %v", n, kills, cut, after, before)
	// With the race detector a p99 is that of the processors that others leave.
	if after > 2*before+300*time.Millisecond && !raceDetector {
		t.Errorf("p99 is %v, was %v: the difference is more than a connection may take", after, before)
	}
	if cut > n/100 {
		t.Errorf("%d of %d answers were cut", cut, n)
	}
	if retried := in.sum(t, "wproxy_retries_total"); retried == 0 {
		t.Error("nothing was tried again")
	}
}
