//go:build !race

package plugins_test

import "testing"

// What the shipped plugins cost the host's collector: nothing, but for a field whose value is
// another one each time, which is a string that the response owns.
func TestExchangeAllocs(t *testing.T) {
	for _, tt := range []struct {
		name string
		uses []use
		want float64
	}{
		{"securityheaders", []use{strict}, 0},
		{"ratelimit, a bucket that is always full", []use{limit}, 0},
		{"ratelimit, a bucket that runs out", []use{{"ratelimit", `{"rate":"1000000/h","key":"client-ip"}`}}, 1},
		{"breaker, a circuit that is closed", []use{closed}, 0},
		{"both", []use{strict, limit}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newChain(t, tt.uses...)
			var err error
			got := testing.AllocsPerRun(1000, func() {
				if e := c.exchange(); e != nil {
					err = e
				}
			})
			if err != nil || got > tt.want {
				t.Errorf("%v allocations in an exchange, want at most %v (%v)", got, tt.want, err)
			}
		})
	}
}
