package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestInterleave(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, want []string }{
		{nil, nil},
		{[]string{"10.0.0.1"}, []string{"10.0.0.1"}},
		{[]string{"::1", "::2", "::3", "10.0.0.1"}, []string{"::1", "10.0.0.1", "::2", "::3"}},
		{[]string{"10.0.0.1", "10.0.0.2", "::1"}, []string{"10.0.0.1", "::1", "10.0.0.2"}},
		{[]string{"fe80::1%eth0", "::ffff:10.0.0.1"}, []string{"fe80::1%eth0", "::ffff:10.0.0.1"}},
	} {
		if got := interleave(tt.in); !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %q, want %q", tt.in, got, tt.want)
		}
	}
}

// An end is what an address does.
type end struct {
	after time.Duration
	err   error // nil: it connects
}

// closing counts connections that are closed.
type closing struct {
	net.Conn
	name   string
	closed func()
}

func (c closing) Close() error {
	c.closed()
	return nil
}

func TestRace(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	const never = time.Hour
	tests := []struct {
		name   string
		ends   []end
		winner int // -1: nobody
		took   time.Duration
		tried  int
		closed int // late ones
	}{
		{"the first at once", []end{{0, nil}, {0, nil}}, 0, 0, 1, 0},
		{"the first within the delay", []end{{200 * time.Millisecond, nil}, {0, nil}}, 0, 200 * time.Millisecond, 1, 0},
		{"the first is a black hole", []end{{never, nil}, {10 * time.Millisecond, nil}}, 1, 260 * time.Millisecond, 2, 0},
		{"the first refuses", []end{{0, refused}, {10 * time.Millisecond, nil}}, 1, 10 * time.Millisecond, 2, 0},
		{"slow but first", []end{{300 * time.Millisecond, nil}, {never, nil}}, 0, 300 * time.Millisecond, 2, 0},
		{"two at a time", []end{{260 * time.Millisecond, nil}, {10 * time.Millisecond, nil}, {0, nil}}, 0, 260 * time.Millisecond, 2, 1},
		{"all refuse", []end{{0, refused}, {0, refused}, {0, refused}}, -1, 0, 3, 0},
		{"all are black holes", []end{{never, nil}, {never, nil}}, -1, 2250 * time.Millisecond, 2, 0},
		{"more than there is time for", slices.Repeat([]end{{never, nil}}, 8), -1, 3 * time.Second, 8, 0},
		{"one hole, one refuses", []end{{never, nil}, {0, refused}}, -1, 2 * time.Second, 2, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				tried, closed := 0, 0
				var addresses []string
				for i := range tt.ends {
					addresses = append(addresses, fmt.Sprint(i))
				}
				try := func(ctx context.Context, a string) (net.Conn, error) {
					mu.Lock()
					tried++
					mu.Unlock()
					ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
					defer cancel()
					e := tt.ends[a[0]-'0']
					won := closing{name: a, closed: func() { mu.Lock(); closed++; mu.Unlock() }}
					select {
					case <-time.After(e.after):
						if e.err != nil {
							return nil, e.err
						}
						return won, nil
					case <-ctx.Done():
						if tt.closed > 0 { // it has connected in this very moment
							return won, nil
						}
						return nil, ctx.Err()
					}
				}
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				start := time.Now()
				nc, err := race(ctx, addresses, try)
				took := time.Since(start)
				synctest.Wait()
				winner := -1
				if c, ok := nc.(closing); ok {
					winner = int(c.name[0] - '0')
				}
				if winner != tt.winner || (err == nil) != (winner >= 0) || took != tt.took || tried != tt.tried || closed != tt.closed {
					t.Errorf("winner %d, %v after %v, %d tried, %d closed; want %d after %v, %d, %d",
						winner, err, took, tried, closed, tt.winner, tt.took, tt.tried, tt.closed)
				}
			})
		})
	}
}
