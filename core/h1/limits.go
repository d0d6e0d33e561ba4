package h1

import "time"

// Defaults of ServerOptions and ClientOptions.
const (
	// DefaultMaxHead is the size in bytes of the largest head, start line
	// included. Larger than nginx's 32 KiB so that big cookies pass.
	DefaultMaxHead = 64 << 10

	// DefaultMaxFields is the most field lines in a head or trailer. Real
	// requests have about 20.
	DefaultMaxFields = 200

	// DefaultHeaderTime bounds the reading of a request head from its first
	// byte on: slow-head clients (slowloris) hold a goroutine for no longer.
	DefaultHeaderTime = 10 * time.Second

	// DefaultIdle is how long a connection may rest between two requests.
	DefaultIdle = 60 * time.Second

	// DefaultRestAfter is how long a connection that waits for a request keeps its goroutine,
	// with 4 KiB of stack. To give it up and get another takes 20 to 30 µs, most of it the
	// scheduler's, which a client that asks again and again does not cost, and one whose user
	// reads a page does. With 1 s, connections that come in a crowd have them all at once.
	DefaultRestAfter = 250 * time.Millisecond

	// DefaultReadTimeout and DefaultWriteTimeout bound the silence between two
	// reads, or writes, that make progress, within a message.
	DefaultReadTimeout  = 30 * time.Second
	DefaultWriteTimeout = 30 * time.Second

	// DefaultTunnelIdle is how long neither side of a tunnel (after 101) may
	// say anything.
	DefaultTunnelIdle = 5 * time.Minute

	// DefaultDrainBytes and DefaultDrainTime bound what is read and thrown away
	// of a request body that the answer did not wait for, so that the connection
	// can be kept. DefaultDrainTime is also how long a connection lingers, reading,
	// before it is closed.
	DefaultDrainBytes = 256 << 10
	DefaultDrainTime  = 2 * time.Second
)

const (
	// maxMethod is the length in bytes of the longest method. The longest one
	// registered with IANA has 17 (UPDATEREDIRECTREF).
	maxMethod = 32

	// maxTarget is the length in bytes of the longest request target. RFC 9112 3
	// recommends at least 8000.
	maxTarget = 32 << 10

	// maxOptions is the most members of all Connection fields of a head:
	// each is compared with each field, so this bounds quadratic work.
	maxOptions = 32

	// maxTrailer is the size in bytes of the largest trailer section.
	maxTrailer = 16 << 10

	// maxChunkLine is the length in bytes of the longest chunk line, size,
	// extensions and CRLF together. Signed chunks (AWS) have about 90.
	maxChunkLine = 512

	// maxChunkDigits is the most digits of a chunk's size, leading zeros among them. RFC 9112 7.1
	// knows no bound, but who reads sizes into 64 bits and does not look at what falls out would
	// see other chunks than we do; net/http has the same.
	maxChunkDigits = 16

	// maxChunkExcess bounds how many bytes of chunk framing may have arrived
	// beyond what the data justifies (chunkExcessPerChunk bytes plus as many as
	// there are data bytes), as in net/http: without it, one byte of data may
	// cost maxChunkLine bytes of reading, for ever.
	maxChunkExcess = 16 << 10
	// chunkExcessPerChunk is the framing that every chunk may have.
	chunkExcessPerChunk = 16

	// maxInterim is the most 1xx heads before a final one: "102" every 10
	// seconds for 5 minutes.
	maxInterim = 32

	// headBuffer is the size in bytes of the buffer that a head is first read
	// into: nearly all heads, and small bodies with them, in one read.
	headBuffer = 4 << 10
	// bodyBuffer is the size in bytes of the buffer for long bodies. Bigger ones
	// did not measure faster.
	bodyBuffer = 64 << 10
	// minSplice is how many bytes of a body have to be left for it to be worth a pipe: 1 MiB
	// takes less than half of the CPU then. At 64 KiB the difference is within the noise.
	minSplice = 256 << 10
	// pipeSize is how many bytes go through a pipe at a time.
	pipeSize = 256 << 10
	// maxPipes is how many bodies are passed on through pipes at a time; others are copied.
	// Their memory is bounded by the kernel for each user (16,384 pages of
	// pipe-user-pages-soft), beyond which pipes are too small to be of use: this is all of it.
	maxPipes = 256
	// maxIdlePipes is how many are kept for bodies to come.
	maxIdlePipes = 16
	// writeBuffer is the size in bytes of the buffer in which a head waits for
	// the first bytes of its body.
	writeBuffer = 8 << 10
	// maxCoalesce is the length in bytes of the longest Data that is copied
	// behind what waits in the write buffer. Longer ones go out beside it with
	// writev, which costs more than copying this much.
	maxCoalesce = 4 << 10
)

const (
	// oneRecord is how many bytes certainly go into one TLS record: crypto/tls makes the
	// first ones as long as a packet. Longer writes are collected and sent together.
	oneRecord = 1 << 10
	// recordOverhead is how many bytes of a record are not content, at most: header,
	// nonce, type and tag.
	recordOverhead = 32
	// sealedBuffer is the size in bytes of the largest buffer in which records are
	// collected: a body's buffer and what encryption adds, with room for a head.
	sealedBuffer = 128 << 10
	// lastWriteTime bounds saying goodbye to a TLS client that goes on sending.
	lastWriteTime = 5 * time.Second
)

// brisk is how many times DefaultRestAfter a connection keeps its goroutine that had a request
// within that time, and had come to rest before: one that asks every half a second would
// otherwise pay for each request.
const brisk = 5

// restTick is how far apart connections that have rested long enough are looked for.
const restTick = 100 * time.Millisecond

// maxLinger is how many bytes are read and thrown away while a connection
// lingers: far more than is on its way when a client stops to read our answer, so
// that a reset does not overtake it.
const maxLinger = 8 << 20

// maxRefusedText is how many bytes of a target or host a Refusal reports:
// enough to see what it was, too little to fill a log with.
const maxRefusedText = 256
