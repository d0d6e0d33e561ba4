package admin

import "time"

const (
	// connections is the most that are open at once on one door. Scrapers and
	// commands need a handful; a runaway one must not take wproxy's files.
	connections = 64

	// headerTime, idleTime and headerBytes bound what a silent or chatty
	// caller can hold.
	headerTime  = 5 * time.Second
	idleTime    = 2 * time.Minute
	headerBytes = 16 << 10

	// maxWatchers is how many may watch events at a time: they leave room for scrapers
	// and commands on a door. eventTime is how often they are told, eventQueue how many
	// events may wait for one of them and eventWrite how long one may take to be written.
	maxWatchers = 16
	eventTime   = time.Second
	eventQueue  = 4
	eventWrite  = 5 * time.Second

	// soonTime is how long after a change that people wait for, such as a server that went
	// down, they are told: soon, and not more often than people can read.
	soonTime = 250 * time.Millisecond

	// bodyBytes bounds the body of a POST, which says nothing that is read.
	bodyBytes = 4 << 10

	// configBytes bounds the body that is a configuration: as much as one may have.
	configBytes = 16 << 20
)
