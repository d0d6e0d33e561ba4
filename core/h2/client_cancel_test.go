package h2_test

import (
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"wproxy/core/exchange"
	"wproxy/core/h2"
)

// TestClientCancels: a server that takes many resets for an attack ends the connection for
// all. It gets no more requests before that, and who is on it does not notice.
func TestClientCancels(t *testing.T) {
	t.Parallel()
	for name, cancel := range map[string]func(t *testing.T, c *h2.ClientConn){
		"by the client": func(t *testing.T, c *h2.ClientConn) {
			s := open(t, c)
			if err := s.Head(newRequest("GET", "/", 0), true); err != nil {
				t.Fatal(err)
			}
			s.Reset(exchange.CodeCancel)
			release(s)
		},
		"of what an answer has made needless": func(t *testing.T, c *h2.ClientConn) {
			s := open(t, c)
			if err := s.Head(newRequest("POST", "/early", 1<<20), false); err != nil {
				t.Fatal(err)
			}
			for _, p := range []string{"x", ""} { // and a flush
				if err := s.Data([]byte(p), false); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Feed(new(response)); err != nil {
				t.Fatal(err)
			}
			release(s)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, o := scripted(t, nil, nil, func(o *origin) {
					for {
						f, err := o.fr.ReadFrame()
						if err != nil {
							return
						}
						switch f := f.(type) {
						case *http2.HeadersFrame:
							if !f.StreamEnded() {
								o.okay(f.StreamID)
							}
						case *http2.RSTStreamFrame:
							if f.StreamID == 3 { // the first of those that leave last
								o.okay(1)
							}
						}
					}
				})
				long := open(t, c)
				if err := long.Head(newRequest("GET", "/", 0), true); err != nil {
					t.Fatal(err)
				}
				late := make([]exchange.Upstream, 0, 10)
				for range 10 {
					s := open(t, c)
					if err := s.Head(newRequest("GET", "/", 0), true); err != nil {
						t.Fatal(err)
					}
					late = append(late, s)
				}
				early := open(t, c) // opened, and not begun
				n := 0
				for ; c.Usable() && n < 1000; n++ {
					cancel(t, c)
				}
				if n < 30 || n > 100 {
					t.Errorf("given up after %d", n)
				}
				if c.Reserve() {
					t.Error("the connection takes more requests")
				}
				wantError(t, early.Head(newRequest("POST", "/", 0), true), 502, h2.ReasonGoAway, exchange.RetryAlways)
				release(early)
				for _, s := range late { // who leaves now has no other connection to do it on
					release(s)
				}
				var r response
				if err := long.Feed(&r); err != nil {
					t.Errorf("another one on it: %v", err)
				}
				release(long)
				<-o.done // the connection ends with its last stream
			})
		})
	}
}

// TestClientOccasionalCancels: a connection lives with clients that leave now and then.
func TestClientOccasionalCancels(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _ := scripted(t, nil, nil, func(o *origin) {
			for ok := true; ok; _, ok = o.await(http2.FrameHeaders) {
				_ = o.fr.WritePing(false, [8]byte{}) // it lives
			}
		})
		for range 500 {
			s := open(t, c)
			if err := s.Head(newRequest("GET", "/", 0), true); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
			release(s)
			time.Sleep(time.Second)
		}
		if !c.Usable() {
			t.Error("given up for one cancel a second")
		}
	})
}
