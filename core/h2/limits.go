package h2

import "time"

// Defaults of ServerOptions. Those that HTTP/1.1 has too are as in package h1.
const (
	// DefaultMaxHead is the size in bytes of the largest field section, each line
	// counted as its name, its value and 32 (RFC 9113 6.5.2).
	DefaultMaxHead = 64 << 10

	// DefaultMaxFields is the most field lines in a field section.
	DefaultMaxFields = 200

	// DefaultMaxStreams is the most exchanges of one connection at a time. RFC 9113
	// 6.5.2 recommends not less than 100; browsers expect that too.
	DefaultMaxStreams = 128

	// DefaultHeaderTime bounds the reading of a field block and of a frame from its
	// first byte on, and of a new connection's preface: who is slow on purpose
	// holds a goroutine for no longer.
	DefaultHeaderTime = 10 * time.Second

	// DefaultIdle is how long a connection may rest without a stream.
	DefaultIdle = 60 * time.Second

	// DefaultReadTimeout and DefaultWriteTimeout bound the silence between two
	// reads, or writes, of a stream that make progress. A peer that keeps its window
	// shut runs into the latter.
	DefaultReadTimeout  = 30 * time.Second
	DefaultWriteTimeout = 30 * time.Second

	// DefaultClientStreams is the most exchanges of a connection to an upstream at a
	// time: as many as most servers allow.
	DefaultClientStreams = 100

	// DefaultClientIdle is how long a connection to an upstream may rest if nobody
	// closes it earlier, which is what pools do.
	DefaultClientIdle = time.Hour

	// DefaultClientKeepAlive is how long an upstream with open streams may be silent until it
	// is pinged. Servers of gRPC take pings in less than 5 minutes for abuse.
	DefaultClientKeepAlive = 6 * time.Minute

	// DefaultServerKeepAlive is how long a client with open streams may be silent until
	// it is asked for a sign of life: one that has vanished without a word holds its
	// exchanges for no longer.
	DefaultServerKeepAlive = 60 * time.Second

	// DefaultBudget is how many bytes all clients together may make wproxy hold beyond
	// connShare each: the worst that 30 connections can do, or 4,000 bodies that wait
	// for their upstream with full windows.
	DefaultBudget = 256 << 20

	// DefaultPingTime is how long the answer to a keep-alive ping may take.
	DefaultPingTime = 15 * time.Second
)

const (
	// streamWindow is how many bytes a stream may hold of a body that its sink has
	// not taken yet, to begin with: the RFC's own initial window, so that peers
	// need not hear from us before they send. 128 streams of it are 8 MiB.
	streamWindow = 64<<10 - 1

	// maxStreamWindow is how far the window of a stream grows whose sink keeps up:
	// enough for 10 MB/s over 100 ms.
	maxStreamWindow = 1 << 20

	// growTime is how fast half a window has to be used for the window to grow: the
	// round trip to the other end of a continent. A slower peer is not held up by a
	// window of 64 KiB.
	growTime = 100 * time.Millisecond

	// maxGrowth is how many bytes all windows of a connection may have grown
	// by in sum: what the worst peer can make us hold beyond streams × streamWindow.
	maxGrowth = 2 << 20

	// connShare is how many bytes of heads and bodies a connection may hold whatever the
	// Budget says: two windows, or 128 usual heads. With 20,000 connections, the default of
	// a listener, it is 2.5 GiB at the very worst, where windows alone would be 170.
	connShare = 128 << 10

	// connWindow is the connection's window. Its bytes are held nowhere else than
	// in the streams' windows, so it only has to be large enough not to slow
	// anybody down.
	connWindow = 4 << 20

	// maxWindow is the largest window there can be (RFC 9113 6.9.1).
	maxWindow = 1<<31 - 1

	// maxFrame is the size in bytes of the largest frame that we take, and write:
	// the smallest value that RFC 9113 6.5.2 allows, so that streams take turns.
	maxFrame = 16 << 10

	// maxStreamID is the last stream of a client (RFC 9113 5.1.1).
	maxStreamID = 1<<31 - 1

	// maxTable is the size in bytes of the dynamic table of blocks that we read.
	maxTable = 4 << 10
)

const (
	// inputBuffer is the size in bytes of the buffer that frames are read into.
	inputBuffer = 16 << 10

	// restBuffer is the size in bytes of the buffer of a connection at rest: a
	// GET of a client that has made others before fits.
	restBuffer = 128

	// restTime is how long a connection may be without a stream before it gives its
	// buffer back. Shorter would cost busy clients a system call per request.
	restTime = 5 * time.Second

	// flushSize is how many bytes wait in the output before they are written
	// although nobody has asked for a flush.
	flushSize = 16 << 10

	// maxOutput is how many bytes may wait in the output before streams have to
	// wait with their heads, DATA and trailers.
	maxOutput = 64 << 10

	// maxBacklog is how many bytes may wait in the output when the reader has
	// another frame to answer. A peer that makes us answer (PING, SETTINGS, refused
	// streams) and does not read is cut off there. What streams write alone never gets there:
	// maxOutput, and one head that found it a byte short of that.
	maxBacklog = 256 << 10

	// slowTime is how long a write may take so that the next one may be expected not to
	// block: copying to the kernel takes microseconds.
	slowTime = 10 * time.Millisecond

	// maxTurns is how many writes a goroutine does for others, one after the
	// other, before it starts a goroutine for it and goes on with its own work.
	maxTurns = 4

	// lingerTime and maxLinger bound for how long, and how many bytes, a connection
	// that was given up is read before it is closed, so that a reset of unread bytes
	// does not overtake the GOAWAY that says why.
	lingerTime = time.Second
	maxLinger  = 4 << 20

	// drainTime is how long the first GOAWAY of a shutdown may take to reach the
	// client: after it, streams that the client opens are not served.
	drainTime = time.Second

	// maxWorkers is how many goroutines of a connection wait for the next exchange.
	// More than that end.
	maxWorkers = 8

	// maxRemembered is how many streams a connection remembers after they were
	// closed, to tell frames that were on their way from nonsense.
	maxRemembered = 128

	// maxRefusedText is how many bytes of a target or host a Refusal reports; as in
	// package h1.
	maxRefusedText = 256

	// maxMethod and maxTarget are the lengths in bytes of the longest method and
	// :path; as in package h1.
	maxMethod = 32
	maxTarget = 32 << 10

	// maxTrailer is the size in bytes of the largest trailer section, counted as
	// for MaxHead.
	maxTrailer = 16 << 10

	// maxInterim is the most 1xx heads before a final one; as in package h1. Those that
	// wait for Feed may not be larger in sum than one head may be: they are not under
	// flow control, and a hundred streams would hold 200 MiB of them.
	maxInterim = 32

	// silentTime is how long an upstream may leave a request without a byte of any kind
	// on its connection, so that the connection is believed to be good when the request
	// is given up. Servers that are merely slow are not judged by what is given up sooner.
	silentTime = time.Second
)

// What a peer may do that costs us more than it costs the peer: a rate is so
// many at once, and so many a second in the long run. Real clients stay below
// by a factor of ten at least; attacks are above it by a factor of hundred, so
// they are over within a fraction of a second.
var (
	// rateReset is for streams that end in RST_STREAM, from either end: what the
	// peer cancels (CVE-2023-44487, rapid reset) and what it makes us reset
	// (CVE-2025-8671, made you reset). Complete exchanges give back what resets have
	// taken.
	rateReset = rate{burst: 200, perSecond: 50}

	// rateControl is for SETTINGS and PING, each of which has to be answered. Each
	// DATA frame that we write allows for controlsPerData more: gRPC measures the
	// bandwidth with a PING per round trip.
	rateControl = rate{burst: 100, perSecond: 20}

	// ratePriority is for PRIORITY and PRIORITY_UPDATE, which say nothing to us.
	// Browsers send a handful with a request.
	ratePriority = rate{burst: 1000, perSecond: 200}

	// rateWindow is for WINDOW_UPDATE. Each DATA frame that we write allows for
	// windowsPerData more.
	rateWindow = rate{burst: 1000, perSecond: 200}

	// rateUnknown is for frames of types that nobody knows (RFC 9113 5.5).
	rateUnknown = rate{burst: 100, perSecond: 20}

	// rateEmpty is for DATA without a byte that does not end a message.
	rateEmpty = rate{burst: 100, perSecond: 20}

	// rateLate is for the ends of messages on streams that we have reset, which are
	// ignored because they may have been on their way. A client that heeds our limits
	// has one for each such stream.
	rateLate = rate{burst: 500, perSecond: 100}

	// rateTiny is for DATA of less than tinyData bytes that does not end a
	// message. gRPC streams of tiny messages are real, so it is generous.
	rateTiny = rate{burst: 50_000, perSecond: 50_000}

	// rateLateData is for DATA of streams that we have reset, which nothing else bounds:
	// their windows are gone. A hundred streams that are reset at once may have sent
	// 64 KiB each in small frames by then.
	rateLateData = rate{burst: 20_000, perSecond: 4_000}

	// rateLateHeads is for an upstream's field sections of streams that are over. Each
	// may have sent a head and trailers before it heard that it was reset.
	rateLateHeads = rate{burst: 2_000, perSecond: 400}

	// rateCancel is for streams that we reset on a connection to an upstream. It is shared by
	// clients, and a server that takes us for an attacker (CVE-2023-44487) ends it for all
	// of them: the strictest that is known takes 200 in 30 s (Netty). Here they are 90 in
	// that time, and then those of the streams that are under way: 99 by default. What is
	// beyond that is no attack upon us, and gets another connection.
	rateCancel = rate{burst: 60, perSecond: 1}
)

const (
	// tinyData is the length in bytes from which on DATA is worth its frame.
	tinyData = 16

	// windowsPerData is how many WINDOW_UPDATE frames a DATA frame may cause: one
	// for the stream and one for the connection, and the same again for clients
	// that open windows in small steps.
	windowsPerData = 4

	// bytesPerWindow is how many bytes of a DATA frame allow for one more: net/http opens
	// both windows with every 4 KiB that its handler has read, others in smaller steps.
	bytesPerWindow = 1 << 10

	// controlsPerData is how many SETTINGS and PING frames a DATA frame may cause.
	controlsPerData = 1

	// maxSettings is how many settings a SETTINGS frame may have. There are eight known
	// ones, and a frame of 16 KiB that changes the initial window 2,700 times would have us go
	// through all streams as often.
	maxSettings = 64

	// maxContinuation is how many CONTINUATION frames a field block may have
	// beside those that a block of MaxHead bytes needs (CVE-2024-27316 and
	// others), maxEmptyContinuation how many may be empty.
	maxContinuation      = 8
	maxEmptyContinuation = 1

	// resetsPerExchange is how much of rateReset a complete exchange gives back.
	resetsPerExchange = 1
)
