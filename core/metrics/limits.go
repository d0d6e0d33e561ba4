package metrics

import "time"

// PointTime is how long a point of the time line is: short enough to see what a reload
// did, and long enough for a 99th percentile.
const PointTime = 5 * time.Second

const (
	// timelinePoints is how many points that are over a time line has: 15 minutes.
	timelinePoints = int(15 * time.Minute / PointTime)

	// timelineMarks is how many marks a time line has: more cannot be told apart in a chart.
	timelineMarks = 128

	// markText is how long the text of one is, in bytes.
	markText = 300

	// MaxReasons is how many different reasons of refusals are counted by
	// name. There are some dozens in the code, and one per plugin.
	MaxReasons = 256

	// MaxGuestSeries is how many series one plugin's own metrics may have. A
	// guest that puts a client's words into labels fills them and then counts
	// into "other" series, instead of filling our memory and Prometheus'.
	MaxGuestSeries = 1000

	// DefaultGuestLimit is how many those of all plugins may be together, until
	// SetGuestLimit says otherwise: some 10 MB of memory, and 2 MB of each scrape.
	DefaultGuestLimit = 20_000

	// MaxGuestLabels is how many labels one guest metric may have.
	MaxGuestLabels = 8

	// MaxGuestName bounds a guest metric's name with its labels, in bytes.
	MaxGuestName = 512

	// AnnounceBelow is up to how many routes, or upstreams, of a file the makers of
	// handles should announce their series: 24 of an upstream are 15 KiB of memory, and
	// 2 KiB of each scrape.
	AnnounceBelow = 1000

	// other stands for names beyond a bound.
	other = "other"
)

// buckets are the bounds of request times in seconds, from 0.25 ms, below
// which a proxy on the same machine stays, to the default route timeout. Few of them:
// each is a series per route.
func buckets() []float64 {
	return []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
}

// callBuckets are the bounds of one guest call in seconds, from 1 µs to the
// default CPU bound of a callback.
func callBuckets() []float64 {
	return []float64{1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 1e-4, 1e-3, 1e-2}
}
