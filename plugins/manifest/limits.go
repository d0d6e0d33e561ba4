package manifest

// Limits of what a module can make its reader hold or do.
const (
	// maxManifest is the most bytes of the section; the largest schema known, of
	// ratelimit, has 4 KiB.
	maxManifest = 256 << 10
	// maxSections of a module; compilers write about 20.
	maxSections = 1 << 12

	// maxText is the most bytes of the name, version or description, and of a grant.
	maxText = 1 << 10
	// maxGrants is the most grants a manifest may list.
	maxGrants = 64

	// maxDepth is how deep a schema may nest, references followed.
	maxDepth = 64
	// maxNodes is the most values of a schema, references followed: each is looked at
	// no more than once for each value of the settings, so this bounds the work of a
	// check. Without it 30 definitions that each refer twice to the next would take 2^30
	// steps. The compiler of schemas takes time with the square: 20,000 were five seconds.
	maxNodes = 5_000
	// maxNumber is the most characters of a number in a schema, and maxExponent its
	// largest exponent: they are kept as fractions of whole numbers, and 1e999999999 is
	// one with a gigabyte.
	maxNumber   = 64
	maxExponent = 308

	// maxPointers is the most bytes of the JSON pointers of all values: the compiler keeps
	// some copies of each. 5,000 values have less than 1 MiB, unless the names are very
	// long, or long and deep.
	maxPointers = 2 << 20
	// maxPattern is the most bytes of a regular expression in a schema, and
	// maxPatternSize the most instructions of all of them compiled, for each of which
	// patternSize is added: repeats are written out, so that a{1000} twenty times in a
	// row is 20,000, and an instruction takes some hundred bytes, and its part of the time
	// of every check. A host name of at most 63 letters a label has about 260.
	maxPattern     = 1 << 10
	maxPatternSize = 16_000
	patternSize    = 10

	// maxProblems is how many problems of the settings are told at a time, and
	// maxShown the most characters of a value in one, and maxNames the most names.
	maxProblems = 20
	maxShown    = 80
	maxNames    = 50
)
