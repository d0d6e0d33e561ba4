package balance

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"

	"wproxy/core/upstream"
)

// loaded compares endpoints by their load: two at random, or all of them, or samples
// where there are many.
//
// What a pick sees is a moment old: requests picked at the same time do not see each
// other. Sampling is good for that too, as not everybody runs for the one that looks
// best.
type loaded struct {
	*members
	byTime bool
	draws  int // at random; with 0, all are compared up to scanBelow, and samples beyond
	next   atomic.Uint64
}

func newLoaded(m *members, a Algorithm) *loaded {
	l := &loaded{members: m, byTime: a == LeastTime}
	if a == Random2 {
		l.draws = 2
	}
	l.next.Store(rand.Uint64() >> 1)
	return l
}

// Pick implements [Picker]; key is ignored.
func (l *loaded) Pick(_ uint64, tried []*upstream.Endpoint) *upstream.Endpoint {
	v := l.current()
	s := scale{members: l.members, byTime: l.byTime, warming: v.warm != 0}
	for i := range v.tiers {
		if e := l.pick(&s, &v.tiers[i], tried); e != nil {
			return e
		}
	}
	return nil
}

func (l *loaded) pick(s *scale, from *tier, tried []*upstream.Endpoint) *upstream.Endpoint {
	if l.draws == 0 && len(from.endpoints) <= scanBelow {
		return l.scan(s, from, tried)
	}
	left := l.draws
	if left == 0 {
		left = samples
	}
	var best *upstream.Endpoint
	var least load
	random := rand.Uint64()
	for range maxTurns {
		e := from.at(random)
		random = mix(random + golden) // one number from the generator is enough: this is cheaper
		if e == best && len(from.endpoints) > 1 || len(tried) > 0 && slices.Contains(tried, e) {
			continue
		}
		if of := s.load(e); best == nil || of.less(least) {
			best, least = e, of
		}
		if left--; left == 0 {
			break
		}
	}
	if best == nil {
		return from.untried(l.next.Add(1), tried)
	}
	return best
}

// scan compares all. It begins with whose turn it is: among equals, which on a
// quiet proxy all of them are, each gets its share by weight.
func (l *loaded) scan(s *scale, from *tier, tried []*upstream.Endpoint) *upstream.Endpoint {
	turn := l.next.Add(1) - 1
	best := from.order[turn%uint64(len(from.order))]
	if len(tried) > 0 && slices.Contains(tried, best) {
		if best = from.untried(turn, tried); best == nil {
			return nil
		}
	}
	at := int(turn % uint64(len(from.endpoints))) //nolint:gosec // below it
	if !s.byTime && !s.warming && len(tried) == 0 {
		return fewest(best, from.endpoints, at)
	}
	least := s.load(best)
	for _, part := range [...][]*upstream.Endpoint{from.endpoints[at:], from.endpoints[:at]} {
		for _, e := range part {
			if of := s.load(e); of.less(least) && (len(tried) == 0 || !slices.Contains(tried, e)) {
				best, least = e, of
			}
		}
	}
	return best
}

// fewest is the plain case of scan, in integers: half of the time.
func fewest(best *upstream.Endpoint, all []*upstream.Endpoint, at int) *upstream.Endpoint {
	least, weight := best.Live.Active.Load(), int64(best.Weight)
	for _, part := range [...][]*upstream.Endpoint{all[at:], all[:at]} {
		for _, e := range part {
			if n, w := e.Live.Active.Load(), int64(e.Weight); n*weight < least*w {
				best, least, weight = e, n, w
			}
		}
	}
	return best
}

// A load is what an endpoint has to do, or the time until it would have answered one
// request more, and its weight. It is kept as a fraction, as dividing costs more than
// all the rest of a pick.
type load struct{ amount, weight float64 }

func (a load) less(b load) bool { return a.amount*b.weight < b.amount*a.weight }

// A scale is what loads are measured with in one pick.
type scale struct {
	*members
	byTime  bool
	warming bool  // somebody is
	read    int64 // the time in ns since 1970; 0: nobody has looked yet
}

// time returns the time. Most picks need none, as looking costs as much as they do.
func (s *scale) time() int64 {
	if s.read == 0 {
		s.read = now()
	}
	return s.read
}

func (s *scale) load(e *upstream.Endpoint) load {
	active, weight := float64(e.Live.Active.Load()), float64(e.Weight)
	if s.warming {
		if w := s.warmth(e, s.time()); w < 1 {
			weight *= w
			active++ // as if it had one already: else an idle one would be preferred however cold
		}
	}
	if !s.byTime {
		return load{active, weight}
	}
	// An average that nobody has added to for a while fades, so that a server that was
	// slow is tried again; but one request is enough to find out.
	at := int64(0)
	if active == 0 {
		at = s.time()
	}
	latency := e.LatencyAt(at)
	if latency == 0 && active > 0 {
		latency = float64(unknownLatency) // likewise
	}
	return load{latency * (active + 1), weight}
}
