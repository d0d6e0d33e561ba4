package dial

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// attemptDelay is how long an attempt is alone before the next address is tried as
// well (RFC 8305 5, Connection Attempt Delay: 250 ms recommended): a server that answers at
// all has answered by then, and one that does not costs a request no more than this.
const attemptDelay = 250 * time.Millisecond

// interleave orders addresses so that families take turns, beginning with that of the
// first (RFC 8305 4): a family that is broken then costs one delay, not one for each of
// its addresses. Within a family the order stays, which is the resolver's (RFC 6724).
func interleave(addresses []string) []string {
	var families [2][]string
	first := -1
	for _, a := range addresses {
		family := 0
		if ip, err := netip.ParseAddr(a); err == nil && ip.Unmap().Is4() {
			family = 1
		}
		if first < 0 {
			first = family
		}
		families[family] = append(families[family], a)
	}
	if first < 0 {
		return nil
	}
	mixed := make([]string, 0, len(addresses))
	a, b := families[first], families[1-first]
	for i := range max(len(a), len(b)) {
		if i < len(a) {
			mixed = append(mixed, a[i])
		}
		if i < len(b) {
			mixed = append(mixed, b[i])
		}
	}
	return mixed
}

// race tries addresses until one answers: the next one when an attempt has failed, or has
// been alone for attemptDelay. The first connection wins; the others are given up. The
// error is that of the attempt that failed last, or of ctx.
func race(ctx context.Context, addresses []string, try func(ctx context.Context, address string) (net.Conn, error)) (net.Conn, error) {
	if len(addresses) == 1 {
		return try(ctx, addresses[0])
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		nc  net.Conn
		err error
	}
	results := make(chan result, len(addresses)) // has room for all: nobody waits
	started, ended := 0, 0
	timer := time.NewTimer(attemptDelay)
	defer timer.Stop()
	start := func() {
		a := addresses[started]
		started++
		go func() { // ends with its attempt, which ctx ends
			nc, err := try(ctx, a)
			results <- result{nc, err}
		}()
		timer.Reset(attemptDelay)
	}
	giveUp := func() {
		for range started - ended {
			if r := <-results; r.nc != nil {
				_ = r.nc.Close() // it has come too late
			}
		}
	}
	start()
	for {
		var next <-chan time.Time
		if started < len(addresses) {
			next = timer.C
		}
		select {
		case r := <-results:
			ended++
			switch {
			case r.err == nil:
				cancel()
				go giveUp() // ends when the attempts have noticed
				return r.nc, nil
			case started < len(addresses) && ctx.Err() == nil:
				start()
			case ended == started:
				return nil, r.err
			}
		case <-next:
			start()
		case <-ctx.Done():
			go giveUp() // as above
			return nil, ctx.Err()
		}
	}
}
