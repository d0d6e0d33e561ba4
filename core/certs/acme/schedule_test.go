package acme

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

func TestRetryWait(t *testing.T) {
	down := errors.New("connection refused")
	no := fmt.Errorf("wrapped: %w", acme.Problem{Status: 403})
	for _, tt := range []struct {
		err   error
		tries int
		first time.Duration
		want  time.Duration
	}{
		{down, 1, 0, time.Minute},
		{down, 2, 0, 2 * time.Minute},
		{down, 5, 0, 16 * time.Minute},
		{down, 1 << 40, 0, 6 * time.Hour},
		{no, 1, 0, 10 * time.Minute},
		{no, 3, 0, 40 * time.Minute},
		{no, 99, 0, 6 * time.Hour},
		{no, 1, time.Second, time.Second},
		{down, 99, time.Second, 6 * time.Minute},
	} {
		if got := retryWait(tt.err, tt.tries, tt.first); got != tt.want {
			t.Errorf("try %d after %v: %v, want %v", tt.tries, tt.err, got, tt.want)
		}
	}
}

func TestTooSoon(t *testing.T) {
	now := time.Now()
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name                   string
		obtained, before, till time.Duration // from now
		want                   bool
	}{
		{"just now", 0, 0, 90 * day, true},
		{"an hour ago", -time.Hour, -time.Hour, 90 * day, false},
		{"by another process", -1 << 62, -time.Minute, 90 * day, false},
		{"short-lived", -20 * time.Second, -20 * time.Second, 100 * time.Second, true},
		{"short-lived, later", -40 * time.Second, -40 * time.Second, 80 * time.Second, false},
		{"expired already", 0, -day, -time.Second, false},
	} {
		if got := tooSoon(now, now.Add(tt.obtained), now.Add(tt.before), now.Add(tt.till)); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
