package balance

import "time"

const (
	// maxSequence is the longest precomputed order of picks, in picks: 64 KiB of
	// pointers. Weights whose sum, after dividing by their greatest common divisor,
	// is above it are scaled down; an error of 1/8192 of the traffic is not seen. An
	// order is longer only where there are more endpoints, of which each has a turn.
	maxSequence = 8192

	// maxSmooth is how many steps the smooth algorithm may take, turns times
	// endpoints: about a millisecond. Above it, a heap does what is nearly the same.
	maxSmooth = 1 << 20

	// maxTurns is how many turns of an order are taken to find an endpoint that has not
	// been tried, or is not warming up, before all of them are looked at one by one.
	maxTurns = 16

	// scanBelow is up to how many endpoints LeastConn and LeastTime look at all of
	// them. Above, they look at samples: comparing 1,000 counters, each on a cache
	// line of its own that other cores write, would cost a microsecond per pick.
	scanBelow = 32

	// samples is how many endpoints are drawn then. Of n idle ones and one that is
	// overloaded, two draws avoid it nearly always (Mitzenmacher 2001), and three find
	// one of the least loaded third in seven picks of ten; each costs a cache miss.
	samples = 3

	// minWarmth is the share of its weight that an endpoint begins its slow start with:
	// with none at all it would never be tried, nor warm.
	minWarmth = 0.1

	// clockSlack is how far ahead of a pick an endpoint may seem to have come up: the time
	// of the pick may have been read before.
	clockSlack = time.Second

	// maxPoints is how many points a ring has at most, but one for each endpoint:
	// 1.5 MiB with what finds them, which still fits a cache.
	maxPoints = 1 << 17

	// pointsPerWeight is how many points of a ring an endpoint has for each unit of
	// its weight, if maxPoints allows: the shares of equal servers have a standard
	// deviation of 1/√256, 6 %.
	pointsPerWeight = 256

	// maxProbes is how many places a hashing picker looks at for an endpoint that is
	// up, has not been tried and has room. With half of the endpoints out, it is
	// exceeded once in 10^19 picks.
	maxProbes = 64

	// minBound is how many requests an endpoint may have at a time before the bound of
	// the load counts: with a handful of requests at all, the even share would be one,
	// and every second request of a key would go astray.
	minBound = 8

	// unknownLatency is taken for that of an endpoint which has been asked and has never
	// answered.
	unknownLatency = 10 * time.Second

	// maglevEntries is how many entries of a Maglev table there are at least for each
	// endpoint: shares differ by less than 1 % (Eisenbud et al. 2016, 5.3). The smallest
	// table has 16381, since in smaller ones more than 2 % of the keys of others move;
	// the largest has 262139, 512 KiB, so that with 10,000 endpoints it is 4 %.
	maglevEntries = 100

	// maxMaglev is how many endpoints a Maglev table may have: entries are 16 bits.
	maxMaglev = 1<<16 - 1
)
