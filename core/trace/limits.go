package trace

import "time"

const (
	// flushEvery is how long a span waits for others to travel with it.
	flushEvery = time.Second

	// flushBytes is how many bytes of spans are sent without waiting for that: about a
	// thousand spans of 500 bytes.
	flushBytes = 512 << 10

	// maxHeld is how many bytes of spans wait while others are sent, or cannot be: some
	// ten thousand spans. As many may be under way. Below the 20 MiB that a receiver
	// takes in one request by default.
	maxHeld = 4 << 20

	// maxBatch is the largest Batch whose memory is used again.
	maxBatch = 64 << 10

	// sendTime is how long one attempt to send may take: that of OTLP's own default.
	sendTime = 10 * time.Second

	// keepTrying is how long spans are sent again that the receiver did not take. What
	// is older says nothing about now, and holds up what does.
	keepTrying = time.Minute

	// firstWait and longestWait bound the time before spans are sent again.
	firstWait   = time.Second
	longestWait = 15 * time.Second

	// closeTime is how long Close waits for a receiver: it holds up reloads and the end
	// of the process.
	closeTime = 2 * time.Second

	// maxAnswer is how much of a receiver's answer is looked at, in bytes.
	maxAnswer = 4 << 10

	// maxText is the longest text of an attribute, in bytes; what is longer is cut.
	maxText = 1024

	// maxState is the longest tracestate that is written down, in bytes: W3C Trace
	// Context 3.3.1.5 asks for at least 512.
	maxState = 512
)
