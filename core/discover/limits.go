package discover

import "time"

const (
	// minTTL is the shortest time between two looks, whatever a TTL says: a TTL of 0
	// means "do not cache", not "ask all the time".
	minTTL = time.Second

	// firstRetry is how long after a look that failed the next one comes; it doubles
	// with each that follows, up to Options.Every.
	firstRetry = time.Second

	// MaxServers is how many servers of one answer are used. A DNS answer of 64 KiB
	// has at most 4,000 addresses.
	MaxServers = 10_000

	// MaxLooks is how many looks for names a process should have under way at a time: a
	// start with 10,000 of them would open 20,000 sockets, and a DNS server drops most of
	// what comes so fast. With one that takes 10 ms all of them take half a second.
	MaxLooks = 256

	// lookTime bounds one look: all servers of resolv.conf, twice, and their silence.
	lookTime = 15 * time.Second

	// queryTime bounds one query to one DNS server, unless resolv.conf says less.
	queryTime = 2 * time.Second

	// queryTries is how often each DNS server is asked, unless resolv.conf says else.
	queryTries = 2

	// udpSize is the largest answer over UDP that is asked for: what is larger
	// comes over TCP (DNS flag day 2020: 1232 bytes are never cut into fragments).
	udpSize = 1232

	// maxTargets is how many targets of a SRV answer are looked up, and
	// atOnce how many at a time.
	maxTargets = 1000
	atOnce     = 16

	// settled is how old the time of a file must be for an unchanged time to mean an
	// unchanged file: clocks of file systems are coarse.
	settled = 2 * time.Second
)
