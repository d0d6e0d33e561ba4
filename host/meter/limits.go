package meter

// Limits of what a module may declare, checked before anything is allocated for it
// and long before it is compiled: a compiler trusts the counts that it reads, and its
// time grows faster than the code. Each has its unit in its name or comment and the
// reason beside it.
const (
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
	// maxBodyBytes of one function; the JavaScript interface has about seven times
	// as much. The largest function of the shipped plugins has 29 KB; one of this size
	// takes more than a second to compile.
	maxBodyBytes = 1 << 20
	// maxBrTable targets of one br_table: the JavaScript interface allows 65,520.
	// Each is code and an edge of the control flow graph.
	maxBrTable = 65_520
	// maxNesting of blocks in one function. The shipped plugins have 550, since Go's
	// compiler makes a block for each place to resume at.
	maxNesting = 10_000
	// maxBlocks is the most places in one function where control flow parts or meets:
	// blocks, loops and branches. A loop is loopBlocks of them, since it gets a look at
	// the counter and its variables meet at both ends. The time to compile a function
	// grows with the square: one of maxBlocks takes four seconds, and a module of
	// maxBlockSquares, the sum over its functions, ten. The shipped plugins have 1,000
	// in their largest function, and 7 million squares in all.
	maxBlocks       = 16 << 10
	loopBlocks      = 5
	maxBlockSquares = 3 * maxBlocks * maxBlocks
	// maxTables, and maxTableEntries in all of them and in all segments; an entry
	// is 8 bytes of Go's heap, for each instance. What is left of it is also how far
	// tables can grow.
	maxTables       = 16
	maxTableEntries = 1 << 20
)

// What the counters count. A change here changes the bytes of every rewritten
// module, and so the key under which its machine code is cached.
const (
	// freeFunc is the most units that a function without loops and calls may cost to
	// be paid for by its callers: its own counting would cost more than its work.
	freeFunc = 32
	// foldSlack is how many units of code that may be skipped a region pays for in
	// advance, beyond as many as it has itself: some five nanoseconds; see regions.go.
	foldSlack = 16
	// foldLead is how many units of a function's beginning the loop that follows pays.
	foldLead = 8
	// unchecked is the most units that run without a look at what is left: half a
	// microsecond of plain code, and at the worst a hundred of such that waits for
	// memory with every third instruction. One instruction alone can be more.
	unchecked = 3000
	// smallWork is the most units that a function may run without having looked as it
	// begins, and takenWork of one that can be called through a table; each such call
	// is taken to be one of that.
	smallWork = unchecked / 3
	takenWork = 600
	// prepaid is how many units that run after a call that may look can have been paid
	// before it. It is for each call on the stack.
	prepaid = 64
	// A call of a function that counts may run a unit for each unwindShare bytes of its
	// frame after one that it has made has returned, without a look: returning from
	// all of a stack of 1 MiB is then 260,000 units, or 45 microseconds.
	unwindShare = 4

	// bulkBytes and bulkEntries are the most that one memory or table instruction
	// moves between two looks at the counter: 128 KiB are about 25 microseconds of
	// memory that is in no cache.
	bulkBytes   = 128 << 10
	bulkEntries = bulkBytes / 8
	// bulkByteShift and bulkEntryShift make units of bytes and entries: a unit for
	// two bytes, four units for an entry of 8 bytes.
	bulkByteShift  = 1
	bulkEntryShift = -2

	// frameBytes is what a call of a function takes of the stack at the least, and
	// frameLocal what each parameter, result and local variable adds. Every value
	// that lives across a call has a place of its own too, of 8 bytes; a byte for each
	// instruction is about what compilers of guests make of that.
	frameBytes = 48
	frameLocal = 8
	// uncountedFrame is the most bytes that a function may take without counting
	// them, and uncountedChain the most that a chain of calls of such functions may take.
	// A chainShare of the chain is in the price of the function above it: all of it
	// would be a price for what hardly ever happens, and so a call may take up to
	// eight times what it counts.
	uncountedFrame = 2 << 10
	uncountedChain = 16 << 10
	chainShare     = 8
)
