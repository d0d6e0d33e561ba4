package objects

const (
	// DefaultBytes is what a Store holds if nobody says otherwise.
	DefaultBytes = 1 << 30
	// DefaultSpaceBytes is what a Space holds if its owner does not say how much.
	DefaultSpaceBytes = 256 << 20

	// minChunk and maxChunk are the sizes of the smallest and the largest piece of memory
	// that bytes are kept in. Larger ones would waste more on an end that is not used,
	// smaller ones cost a write call each when they are sent.
	minChunk = 512
	maxChunk = 64 << 10

	// firstChunk is what an object of unknown length begins with.
	firstChunk = 4 << 10

	// windowBytes is how far the fill of a window may be ahead of its slowest reader.
	windowBytes = 256 << 10

	// objectOverhead is what an object costs beside the bytes in it: the object with its first
	// record, its place in the index, and what texts take more than their length.
	objectOverhead = 576
	// recordOverhead is the same for a record that has taken the place of the first.
	recordOverhead = 128
	// tagOverhead is the same for a tag: its place in the list of the object, and, as most
	// tags are those of one object, in a map and a map of its own.
	tagOverhead = 320

	// maxNear is how many objects whose keys have the same first line are looked through for a key, before a
	// map is: a page and a few variants of it.
	maxNear = 4

	// maxFrequency is up to how many reads an object is told apart by (S3-FIFO, 4.1).
	maxFrequency = 3
	// smallPart is the part of a space that is for objects not read again so far: one
	// in so many bytes (S3-FIFO, 4.1).
	smallPart = 10
	// maxGhosts is how many evicted keys a space remembers, about: 256 KiB from the first on.
	maxGhosts = 1 << 16
	// maxChances is how many objects one call for room spares because they were read. In a
	// space in which everything is read that call would look at all of them, three times, with
	// everybody else waiting; it takes whatever is next instead.
	maxChances = 64
	// maxEvicted is how many objects one call for room, or one step of a delete, gives up
	// before others have their turn; for a chunk it takes a tenth of that.
	maxEvicted = 1024

	// keptKey is the longest key, in bytes, whose memory is kept for another flight.
	keptKey = 4 << 10

	// maxTags is the most tags that an object may have; further ones are left out.
	maxTags = 64
)
