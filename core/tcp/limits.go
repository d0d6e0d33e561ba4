package tcp

import "time"

const (
	// maxHello is the most bytes of the records that a ClientHello comes in, with their
	// headers. With post-quantum key shares they have 2 KiB; nginx and HAProxy take 16 KiB.
	maxHello = 16 << 10

	// firstRead is the size of the buffer that a direction is read into while little comes.
	// A connection that rests holds two of them, unless it is spliced.
	firstRead = 4 << 10

	// fullRead is the size while as much comes as fits.
	fullRead = 32 << 10

	// spliceMax is the most bytes that one call moves in the kernel: more than a pipe has
	// room for, which is 64 KiB by default.
	spliceMax = 1 << 20

	// keptPipes is how many pipes are kept for the next bytes that are spliced. A connection
	// has one only while bytes are on their way, so these are for as many at a time.
	keptPipes = 64

	// maxPipes is how many pipes there are at most: half of what the kernel gives a user
	// by default (pipe-user-pages-soft, 64 MiB), and 1,024 descriptors. A connection whose
	// reader is slow has one, or two, for as long; when all are lent, others are copied from
	// then on.
	maxPipes = 512

	// idleLooks is how often in one idle time a connection is looked at: one that rests is
	// closed at most a quarter of it later.
	idleLooks = 4

	// closeTime bounds what is told to a client that is turned away.
	closeTime = time.Second

	// DefaultIdle is how long neither side may say anything.
	DefaultIdle = 10 * time.Minute

	// DefaultHelloTime is how long a ClientHello may take to arrive.
	DefaultHelloTime = 10 * time.Second
)
