package host

import "time"

// MaxReplyBody bounds the body of a local reply, in bytes. It is written by a guest, whose
// memory may be much larger, and error pages are small.
const MaxReplyBody = 8 << 20

// MaxGRPCMessage bounds a gRPC message that a guest sends or receives, in bytes: what
// implementations of gRPC take unless they are told otherwise.
const MaxGRPCMessage = 4 << 20

// Limits of what a guest, or a module, can make the host hold or do. Each has its
// unit in its name or comment and the reason beside it.
const (
	// pageSize is the unit of linear memory (WebAssembly core 4.2.8).
	pageSize = 65536
	// maxPages of linear memory is one less than there could be: wazero tells the
	// size in bytes in 32 bits.
	maxPages = 65535

	// maxProblems is how many problems of a module are listed.
	maxProblems = 50

	// unitsPerMicro units of a guest's fuel are a microsecond of sandbox.cpu. On a
	// server of 2023 guests of the Go compiler do 4 to 5 thousand in one, and tight
	// loops 9 to 12 thousand. It is fixed, so that the same call costs the same
	// everywhere.
	unitsPerMicro = 6000
	// mostSlice and leastSlice units are handed out at a time: 20 microseconds of
	// plain code. Code that takes longer for a unit, because it waits for memory, gets
	// less, so that a slice takes between sliceLeast and sliceMost: a garbage
	// collection may have to wait for the end of one on every processor.
	mostSlice  = 20 * unitsPerMicro
	leastSlice = unitsPerMicro / 3
	sliceLeast = 15 * time.Microsecond
	sliceMost  = 50 * time.Microsecond
	// leastBill units are put into the plugin's counter at a time.
	leastBill = 10 * unitsPerMicro
	// A call that has taken slowAfter needs one of a few slots to go on, and sleeps
	// slowSleep for each slowAfter in one, so that others get at the network. A slice
	// is taken to last no longer than slowest: the rest is not the guest's time. Where
	// there is one processor only, a collection's worker may take the first 400
	// microseconds of a sleep, and with them all of a short one: they sleep slowSleepAlone.
	// Calls of the host's own goroutines are one call in this, if the time between
	// them is no longer than rowGap.
	slowAfter      = 500 * time.Microsecond
	slowest        = 2 * time.Millisecond
	slowSleep      = 100 * time.Microsecond
	slowSleepAlone = 600 * time.Microsecond
	rowGap         = 10 * time.Millisecond
	// hostCallUnits is what a host call costs beside what it copies: 100
	// nanoseconds. A byte that is looked at or copied is copyUnits: 6 GB a second, as
	// where it is in no cache. A byte of random_get is
	// randomUnits, the system's generator being slow. maxDebt of such
	// units are looked at at once, without waiting for the guest to run out of its own.
	hostCallUnits = unitsPerMicro / 10
	copyUnits     = 1
	randomUnits   = 16
	maxDebt       = 20 * unitsPerMicro
	// parseUnits are for a byte that is read one by one, a nanosecond, and heapUnits for one
	// that gets memory of its own.
	parseUnits = unitsPerMicro / 1000
	heapUnits  = 2
	// editUnits are for an edit of a header map, of which one call may make many.
	editUnits = hostCallUnits / 2
	// lineUnits are for a line of a header map that is compared, editLineUnits for one in
	// the way of an edit, which looks several times, and pairUnits for one that is
	// encoded or decoded. A map's lines are counted anew after editsCounted edits at the
	// earliest.
	lineUnits     = unitsPerMicro / 200
	editLineUnits = unitsPerMicro / 50
	pairUnits     = unitsPerMicro / 10
	editsCounted  = 64
	// compressUnits are for a byte that compress is given, 20 nanoseconds, inflateUnits for
	// one that uncompress is given, 20, and uncompressUnits for one that it makes, 1. What
	// both take for nothing at all is codecUnits. They work in pieces of codecPiece bytes
	// and inflatePiece, one of which costs no more than codecPieceUnits beside.
	compressUnits   = unitsPerMicro / 50
	inflateUnits    = unitsPerMicro / 50
	inflatePiece    = 1 << 10
	uncompressUnits = unitsPerMicro / 1000
	codecUnits      = 10 * unitsPerMicro
	codecPiece      = 16 << 10
	codecPieceUnits = 200 * unitsPerMicro
	// A signature costs what it takes to verify one, or to make one with an RSA key of
	// the usual 2048 bits, and up to keyMostUnits with the largest key or curve.
	verifyUnits  = 50 * unitsPerMicro
	signUnits    = 1000 * unitsPerMicro
	keyMostUnits = 20_000 * unitsPerMicro
	// bodyMostUnits is what a change of a body that is held costs at most beside its bytes.
	bodyMostUnits = 2000 * unitsPerMicro
	// measuredSlack is how many times as long as it is paid for work may take before its time
	// is charged: a part of that time may be another process's.
	measuredSlack = 4
	// propertyMostUnits is what the slowest property takes, the certificate of a client.
	propertyMostUnits = 1000 * unitsPerMicro
	// callUnits is what it takes to make an HTTP call, or to find that it cannot be made.
	callUnits = 5 * unitsPerMicro

	// maxLogLine is the longest log line kept, in bytes; the rest is cut off.
	maxLogLine = 8 << 10
	// logRate lines a second, with bursts of logBurst, get through of a plugin;
	// a guest that logs every request of a busy route must not fill the disk.
	logRate  = 200
	logBurst = 1000
	// warnEvery is the time between two lines of Plugin.Warn: a person wants to
	// know, once, and any client may be the cause.
	warnEvery = 10 * time.Second
	// keptLogLines of at most keptLogLine bytes are kept for the error about a
	// trap.
	keptLogLines = 16
	keptLogLine  = 1 << 10
	// maxPartialLine is how much of an unfinished line, written to fd 1 or 2, is
	// held until its newline comes.
	maxPartialLine = maxLogLine
	// maxIOVecs is how many buffers one fd_write may name (POSIX IOV_MAX), all of which
	// may be the same one. maxWritten bytes are taken at a time; a write may be short.
	maxIOVecs  = 1024
	maxWritten = 64 << 10

	// maxStackFrames of the guest's stack are reported for a trap. maxShownName is how
	// many bytes of a name out of a module are shown: of a function in a stack, of an
	// import. Mangled names of C++ and Rust are seldom longer.
	maxStackFrames = 20
	maxShownName   = 256
	// maxHostPanic is the most bytes of the log line about a panic of the host's own: a
	// Go stack has some 10 KiB, behind the guest's.
	maxHostPanic = 64 << 10

	// minTick is the shortest tick period, as in the reference host.
	minTick = time.Millisecond

	// maxDelayedDone streams of a VM may wait for proxy_done at a time, each for
	// delayedDone; a guest that forgets them must not hold their heads for ever.
	// Together they may hold maxDelayedBytes, of which 1024 usual heads are half; the
	// oldest make room for the newest.
	maxDelayedDone  = 1024
	maxDelayedBytes = 8 << 20
	delayedDone     = 30 * time.Second
	// endsAtOnce contexts that have ended have their last calls made by whoever made the
	// call that ended them.
	endsAtOnce = 16

	// maxNameBytes bounds names that outlive a call: properties, metrics.
	maxNameBytes = 1 << 10
	// maxPropertyBytes bounds the value of a property that a guest sets.
	maxPropertyBytes = 64 << 10
	// maxRootProperties bounds how many properties a root context may hold.
	maxRootProperties = 64

	// maxMetrics bounds the metrics that one plugin may define: each is a time
	// series, or several, for whoever collects them.
	maxMetrics = 1024

	// defaultSharedBytes is the shared data of one vm_id; sharedOverhead is what
	// an entry costs beside its key and value, in bytes, and sharedCellBytes what its cell does.
	defaultSharedBytes = 16 << 20
	sharedOverhead     = 128
	sharedCellBytes    = 32

	// maxCalls calls of one plugin, of HTTP and gRPC, may be under way, each on a goroutine of its
	// own; a plugin that asks for each request of a busy route has about as many as
	// there are requests in flight. Together they may hold maxCallBytes, of what is sent
	// and of the answers; a field costs pairOverhead beside its name and value, which is
	// the two strings in the two lists that it is in.
	maxCalls     = 1024
	maxCallBytes = 64 << 20
	pairOverhead = 64
	// maxCallHead bytes of encoded headers, or trailers, and maxCallBody of body may
	// be sent; maxCallAnswer of body may come back. These are what other proxies
	// take of a head, and what the reference host buffers of a body.
	maxCallHead   = 64 << 10
	maxCallBody   = 1 << 20
	maxCallAnswer = 1 << 20
	// maxGRPCQueued bytes of messages may wait to be sent on one stream, or one message that is
	// larger.
	maxGRPCQueued = 1 << 20
	// defaultCallTimeout is for a call without a timeout, the reference host's none;
	// maxCallTimeout is the longest, since what a root asks for has no other end.
	// minCallTimeout is that of a call for a stream that is over: it fails at once, and in
	// the same way as one that is late.
	defaultCallTimeout = time.Minute
	maxCallTimeout     = 10 * time.Minute
	minCallTimeout     = time.Millisecond
	// maxForeignArgs bounds the argument of a foreign function, and maxUncompressed what
	// uncompress makes of one: the work is done while the VM is locked, some 20 ms for
	// the largest. maxKeyBytes is a private RSA key of maxRSABits, whose use takes a few; a
	// public one could have more bits in as many bytes.
	maxForeignArgs  = 1 << 20
	maxUncompressed = 4 << 20
	maxKeyBytes     = 2560
	maxRSABits      = 4096

	// cachedEdits lists of field edits (abi.ForeignEditFields) of a VM are kept decoded,
	// if they have at most cachedEditBytes: what one plugin sends on a handful of routes.
	cachedEdits     = 4
	cachedEditBytes = 4 << 10

	// cachedNotes is how many of the things that a plugin says of exchanges (Noter) a VM keeps as
	// strings, of at most cachedNoteBytes each: a plugin has a handful, and their values are words.
	cachedNotes     = 8
	cachedNoteBytes = 128

	// counterPages of counterPageBuckets make room for 65,536 keys of one limit that are
	// short of tokens at the same time, in 1.2 MiB; keys whose bucket is full need no
	// room. A table begins with counterFirstPages, and gets counterGrowth times as many when
	// one has no room left. With all their buckets the tables of one vm_id have
	// maxCounterBytes: seventeen of the largest, or 4,000 limits with a hundred such
	// keys each. What a reload has left behind goes when its buckets are full again.
	counterPages       = 4096
	counterPageBuckets = 16
	counterFirstPages  = 16
	counterGrowth      = 4
	counterPageBytes   = 32 + 16*counterPageBuckets
	counterTableBytes  = 256
	maxCounterBytes    = 20 << 20
	// objectUnits are for a look into the objects of a vm_id, half a microsecond with its locks.
	objectUnits = unitsPerMicro / 2

	// keepObjectResult is the most room for results of object functions that a VM keeps,
	// in bytes: metadata are a few hundred.
	keepObjectResult = 16 << 10

	// counterTableUnits are for a table that is made, and counterPageUnits for a page that is
	// copied, or a table that is looked at.
	counterTableUnits = 2 * unitsPerMicro
	counterPageUnits  = unitsPerMicro / 20
	// maxCounterKey bounds the key of a counter, which is hashed under the VM's lock: a
	// key may be as large as the header that it is made from.
	maxCounterKey = 64 << 10
	// maxCounterCapacity is the longest time to fill an empty bucket, in nanoseconds: a
	// hundred years, far from the border of an int64.
	maxCounterCapacity = int64(100 * 365 * 24 * time.Hour)

	// maxWindowSlots of a window, in which a minute is cut into seconds. windowPages of
	// windowPageKeys make room for 16,384 keys of one kind of window that have counts at the
	// same time, in 4 MiB with 17 slots; all windows of a vm_id have maxWindowBytes.
	maxWindowSlots   = 64
	windowPages      = 1024
	windowPageKeys   = 16
	windowKeyBytes   = 32
	windowTableBytes = 64 * windowPages
	maxWindowBytes   = 32 << 20
	// windowSlotUnits are for a slot that is summed up, of all windows that a page has.
	windowSlotUnits = unitsPerMicro / 500
	// maxHeld places are held by one stream at a time: a handful is used.
	maxHeld = 16
	// maxKept keys of a vm_id have places that are kept, each a circuit of a breaker, say.
	maxKept = 4096

	// maxQueues shared queues of one vm_id, and maxKnownQueues that its plugins have
	// registered or resolved; known uses are one for each of a handful of consumers.
	maxQueues      = 256
	maxKnownQueues = 4096
	// maxQueueItems of one queue, and maxQueueBytes of all queues of a vm_id, where an
	// item costs queueOverhead bytes beside its own: a consumer that is a second behind
	// at 50,000 requests a second has not lost anything.
	maxQueueItems = 1 << 16
	maxQueueBytes = 16 << 20
	queueOverhead = 64
	// queueBurst calls of on_queue_ready of one queue are made in a row; then it rests
	// for minTick.
	queueBurst = 1024

	// maxRandomBytes of one random_get, as in the reference host.
	maxRandomBytes = 64 << 10

	// keptScratch is the largest scratch buffer that a VM keeps between calls.
	keptScratch = 64 << 10

	// fieldCacheSize fields that a VM's guest has set lately are kept, a power of
	// two well above what one plugin sets, if name and value have at most
	// fieldCacheBytes together, which a long content-security-policy has; one is
	// in one of fieldCacheWays places.
	fieldCacheBits  = 6
	fieldCacheSize  = 1 << fieldCacheBits
	fieldCacheWays  = 4
	fieldCacheBytes = 1 << 10

	// recycleEvery is the least time between two replacements of VMs that are alive: a
	// guest that wants to be rebuilt after each request must not spend all time on it.
	recycleEvery = 100 * time.Millisecond

	// quietTime without a crash resets the back-off of restarts, and
	// immediateRestarts in it are free of it: a client that knows a request which
	// kills the guest must send more than that to keep a route down, and each costs
	// the start of a VM, some milliseconds.
	quietTime         = time.Minute
	immediateRestarts = 5
)
