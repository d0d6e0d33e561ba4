package host

import "time"

// Limits of what a guest, or a module, can make the host hold or do. Each has its
// unit in its name or comment and the reason beside it.
const (
	// pageSize is the unit of linear memory (WebAssembly core 4.2.8).
	pageSize = 65536
	// maxPages of linear memory is one less than there could be: wazero tells the
	// size in bytes in 32 bits.
	maxPages = 65535

	// maxModuleBytes: larger modules are refused unread; the largest plugins
	// known (a whole WAF in Go) have about 12 MiB.
	maxModuleBytes = 64 << 20
	// maxImports and maxExports of a module; the ABI has about 120 names in all.
	maxImports = 1 << 12
	maxExports = 1 << 14
	// maxModuleItems is the most types, functions, globals, segments or names of
	// one kind. A standard-Go guest has 1,300 functions, a WAF 20,000.
	maxModuleItems = 1 << 17
	// maxTypeItems is the most parameters, or results, of a function type;
	// maxFuncLocals the most local variables of a function; both are those of the
	// JavaScript interface of WebAssembly. maxLocals is their sum in a module.
	maxTypeItems  = 1000
	maxFuncLocals = 50_000
	maxLocals     = 1 << 22
	// maxTables, and maxTableEntries in all of them and in all segments; an entry
	// is 8 bytes of Go's heap, for each instance.
	maxTables       = 16
	maxTableEntries = 1 << 20
	// maxProblems is how many problems of a module are listed.
	maxProblems = 50

	// maxLogLine is the longest log line kept, in bytes; the rest is cut off.
	maxLogLine = 8 << 10
	// logRate lines a second, with bursts of logBurst, get through for each VM;
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
	// maxIOVecs is how many buffers one fd_write may name (POSIX IOV_MAX).
	maxIOVecs = 1024

	// maxStackFrames of the guest's stack are reported for a trap.
	maxStackFrames = 20

	// minTick is the shortest tick period, as in the reference host.
	minTick = time.Millisecond

	// maxDelayedDone streams of a VM may wait for proxy_done at a time, each for
	// delayedDone; a guest that forgets them must not hold their heads for ever.
	// Together they may hold maxDelayedBytes, of which 1024 usual heads are half; the
	// oldest make room for the newest.
	maxDelayedDone  = 1024
	maxDelayedBytes = 8 << 20
	delayedDone     = 30 * time.Second

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
	// an entry costs beside its key and value, in bytes.
	defaultSharedBytes = 16 << 20
	sharedOverhead     = 128

	// maxCalls HTTP calls of one plugin may be under way, each on a goroutine of its
	// own; a plugin that asks for each request of a busy route has about as many as
	// there are requests in flight. Together they may hold maxCallBytes.
	maxCalls     = 1024
	maxCallBytes = 64 << 20
	// maxCallHead bytes of encoded headers, or trailers, and maxCallBody of body may
	// be sent; maxCallAnswer of body may come back. These are what other proxies
	// take of a head, and what the reference host buffers of a body.
	maxCallHead   = 64 << 10
	maxCallBody   = 1 << 20
	maxCallAnswer = 1 << 20
	// defaultCallTimeout is for a call without a timeout, the reference host's none;
	// maxCallTimeout is the longest: what is asked for outlives the asker.
	defaultCallTimeout = time.Minute
	maxCallTimeout     = 10 * time.Minute
	// maxForeignArgs bounds the argument of a foreign function, and maxUncompressed what
	// uncompress makes of one: the work is done while the VM is locked, some 20 ms for
	// the largest. maxKeyBytes is a private RSA key of 4096 bits, whose use takes a few.
	maxForeignArgs  = 1 << 20
	maxUncompressed = 4 << 20
	maxKeyBytes     = 2560

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
