package config

import "time"

// Limits of what is read. The file is the operator's, so they guard against
// accidents (a device, a log file, a glob over a whole tree), not attacks.
const (
	// maxFileSize is the most bytes of one file: 100,000 routes of 160 bytes.
	maxFileSize = 16 << 20
	// maxIncludes is the most files that the globs of include may find.
	maxIncludes = 1000
	// maxSecretSize is the most bytes of a ${file:...}: keys and tokens are
	// smaller, and one with more is likely the wrong file.
	maxSecretSize = 64 << 10
	// minSecret is the least bytes of a secret that Redact looks for: what is
	// shorter protects nothing and would be found in every other text.
	minSecret = 4
	// minStickySecret is the least length of the secret of a sticky cookie, in bytes: 128 bits.
	minStickySecret = 16
	// minDebugToken is the least length of admin.debug_token, in bytes.
	minDebugToken = 16
	// maxDepth is the deepest nesting of arrays and inline tables. The TOML
	// decoder recurses for each level; a stack overflow cannot be recovered.
	maxDepth = 256
	// maxProblems is where the list of problems is cut: beyond, they have one cause.
	maxProblems = 1000
	// maxShown is how many servers, or upstreams of a route, of a list that has changed
	// are shown: nobody compares more by eye.
	maxShown = 8
	// maxKnown is how many keys a message about an unknown one lists: a line has no room
	// for more.
	maxKnown = 16
	// maxName is the longest name of a table: names become metric labels.
	maxName = 128

	// usualTimeout is how long a check of a server may take where nothing is said: an
	// answer that takes longer is no good news. minTimeout is the shortest that can be
	// said: below it a pause of a garbage collector takes servers down.
	usualTimeout = 2 * time.Second
	minTimeout   = 10 * time.Millisecond

	// minEvery is the shortest time between two checks of a server: more often
	// tells nothing that outliers would not.
	minEvery = 100 * time.Millisecond
)
