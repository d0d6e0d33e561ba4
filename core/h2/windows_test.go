package h2_test

import (
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"wproxy/core/exchange"
	"wproxy/core/h2"
)

// A modelClient keeps the books of all windows, as a client sees them.
type modelClient struct {
	*testing.T
	mu sync.Mutex
	// Guarded by mu.
	conn    int64
	initial int64
	pending []int64          // of SETTINGS that were not acknowledged yet
	windows map[uint32]int64 // of open streams
	got     map[uint32]int
	ended   map[uint32]bool
	bad     string
}

// frame takes note of a frame of the server.
func (m *modelClient) frame(f http2.Frame) {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := f.Header().StreamID
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() && len(m.pending) > 0 {
			for id := range m.windows {
				m.windows[id] += m.pending[0] - m.initial
			}
			m.initial, m.pending = m.pending[0], m.pending[1:]
		}
	case *http2.DataFrame:
		n := int64(f.Length)
		m.conn -= n
		m.windows[id] -= n
		m.got[id] += int(n)
		m.ended[id] = m.ended[id] || f.StreamEnded()
		if n > 0 && (m.conn < 0 || m.windows[id] < 0) {
			m.bad = "DATA beyond a window"
		}
	case *http2.GoAwayFrame:
		m.bad = "GOAWAY " + f.ErrCode.String() + " " + string(f.DebugData())
	}
}

// TestWindowsModel opens and shuts windows at random, cancels streams and opens others, and checks
// that no byte is sent that a window does not allow, and that nobody is forgotten: when
// everything is open, all is there without anybody having had to wait for a timer.
func TestWindowsModel(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // repeatable
			const size = 100_000
			r := newRig(t, h2.ServerOptions{}, func(_ context.Context, c exchange.Client) {
				if c.Feed(new(request)) != nil || c.Head(&exchange.Response{Status: 200, Length: size}, false) != nil {
					return
				}
				for n := 0; n < size; n += 10_000 {
					if c.Data(make([]byte, 10_000), n+10_000 == size) != nil {
						return
					}
				}
			})
			m := &modelClient{
				T: t, conn: 1<<16 - 1, initial: 1<<16 - 1, windows: map[uint32]int64{},
				got: map[uint32]int{}, ended: map[uint32]bool{},
			}
			_, _ = io.WriteString(r.nc, http2.ClientPreface)
			_ = r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<16 - 1})
			m.pending = append(m.pending, 1<<16-1)
			done := make(chan struct{})
			go func() { // ends with the connection
				defer close(done)
				fr := http2.NewFramer(nil, r.nc)
				for {
					f, err := fr.ReadFrame()
					if err != nil {
						return
					}
					m.frame(f)
				}
			}()
			var open []uint32
			next := uint32(1)
			settings := func(v uint32) {
				m.mu.Lock()
				m.pending = append(m.pending, int64(v))
				m.mu.Unlock()
				_ = r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: v})
			}
			update := func(id uint32, n int) {
				m.mu.Lock()
				if id == 0 {
					m.conn += int64(n)
				} else {
					m.windows[id] += int64(n)
				}
				m.mu.Unlock()
				_ = r.fr.WriteWindowUpdate(id, uint32(n))
			}
			for range 200 {
				switch k := rnd.IntN(20); {
				case k < 4 && len(open) < 20:
					synctest.Wait() // all SETTINGS are acknowledged
					m.mu.Lock()
					m.windows[next] = m.initial
					m.mu.Unlock()
					_ = r.open(next, true, r.request("GET"))
					open = append(open, next)
					next += 2
				case k < 5:
					settings(uint32(rnd.IntN(3) * rnd.IntN(40_000)))
				case k < 6 && len(open) > 0:
					i := rnd.IntN(len(open))
					_ = r.fr.WriteRSTStream(open[i], http2.ErrCodeCancel)
					open = append(open[:i], open[i+1:]...)
				case k < 12 && len(open) > 0:
					update(open[rnd.IntN(len(open))], 1+rnd.IntN(30_000))
				case k < 16:
					update(0, 1+rnd.IntN(60_000))
				case k < 18:
					synctest.Wait()
				}
				if rnd.IntN(3) == 0 {
					synctest.Wait()
				}
			}
			synctest.Wait()
			start := time.Now()
			settings(1 << 20)
			update(0, 1<<26)
			synctest.Wait()
			for _, id := range open {
				m.mu.Lock()
				if m.got[id] != size || !m.ended[id] {
					t.Errorf("seed %d, stream %d: %d bytes, ended %v, window %d of %d", seed, id, m.got[id], m.ended[id], m.windows[id], m.conn)
				}
				m.mu.Unlock()
			}
			m.mu.Lock()
			if m.bad != "" {
				t.Errorf("seed %d: %s", seed, m.bad)
			}
			m.mu.Unlock()
			if n, took := r.handlers.Load(), time.Since(start); n != 0 || took > 0 {
				t.Errorf("seed %d: %d exchanges run, after %v", seed, n, took)
			}
			_ = r.nc.Close()
			<-done
		})
		if t.Failed() {
			return
		}
	}
}
