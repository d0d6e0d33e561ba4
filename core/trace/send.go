package trace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"
)

// newTransport returns the way to a receiver: one connection, which is kept. No proxy
// of the environment is used: what is configured is what is connected to.
func newTransport() *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: sendTime / 2}).DialContext,
		TLSHandshakeTimeout: sendTime / 2,
		MaxIdleConnsPerHost: 1,
		IdleConnTimeout:     time.Minute,
		ForceAttemptHTTP2:   true,
		DisableCompression:  true,
	}
}

// deliver posts body, with n spans in it, again and again until the receiver takes it,
// it is too late, or the Tracer is being closed.
func (t *Tracer) deliver(n int) error {
	began := time.Now()
	wait := firstWait
	for {
		closing := t.isClosing()
		again, after, err := t.post(n)
		if err == nil {
			return nil
		}
		if t.o.Failing != nil && !t.failing && again && !closing {
			t.failing = true // told at once, and not when it has been given up
			t.o.Failing(err)
		}
		// Full jitter above a half: many proxies must not come back together.
		pause := max(after, wait/2+rand.N(wait/2))
		if !again || closing || time.Since(began)+pause > keepTrying {
			return err
		}
		wait = min(2*wait, longestWait)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-t.closing:
			timer.Stop()
		}
	}
}

func (t *Tracer) isClosing() bool {
	select {
	case <-t.closing:
		return true
	default:
		return false
	}
}

// post posts body once. again says whether it may be taken later, after how long the
// receiver wants to be asked then, 0: it has not said.
func (t *Tracer) post(n int) (again bool, after time.Duration, err error) {
	ctx, cancel := context.WithTimeout(t.ctx, sendTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.o.URL, bytes.NewReader(t.body))
	if err != nil {
		return false, 0, err
	}
	r.Header.Set("Content-Type", "application/x-protobuf")
	r.Header.Set("User-Agent", "wproxy/"+t.o.Version)
	for _, f := range t.o.Fields {
		r.Header.Set(f.Name, f.Value)
	}
	answer, err := t.client.Do(r)
	if err != nil {
		return !errors.Is(err, context.Canceled), 0, err
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(answer.Body, maxAnswer)) // what has come of it is enough
	if answer.StatusCode/100 == 2 {
		lost := min(max(int(rejected(text)), 0), n)
		if lost > 0 && t.o.Rejected != nil {
			t.o.Rejected(lost)
		}
		if t.o.Sent != nil {
			t.o.Sent(n - lost)
		}
		return false, 0, nil
	}
	err = fmt.Errorf("%s answered %s", r.URL.Redacted(), answer.Status)
	switch answer.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		// These and no others (OTLP specification, "Retryable Response Codes").
		seconds, parseErr := strconv.ParseUint(answer.Header.Get("Retry-After"), 10, 16)
		if parseErr != nil {
			seconds = 0
		}
		return true, time.Duration(seconds) * time.Second, err //nolint:gosec // 16 bits
	}
	return false, 0, err
}
