package wasmfilter

import "time"

const (
	// defaultBodyBuffer is the most bytes of a body that a paused message
	// holds back where Options.BodyBuffer is 0: what Envoy buffers per stream
	// by default, which plugins are tested against.
	defaultBodyBuffer = 1 << 20

	// maxBodyBuffer is the most that a plugin may raise its buffer to with the
	// properties set_decoder_buffer_limit and set_encoder_buffer_limit.
	maxBodyBuffer = 64 << 20

	// defaultPause bounds a pause on a route without a timeout, so that a
	// guest that forgets a stream does not keep it for ever.
	defaultPause = 5 * time.Minute

	// deadlineMargin is how long before the deadline of the exchange a pause
	// ends, so that the answer names the plugin and is not the engine's own.
	deadlineMargin = 20 * time.Millisecond

	// maxHeadBytes and maxHeadFields bound a head (and trailers) after edits: the bytes
	// of all names and values, and the number of lines. More than the most that a
	// listener can be told to let in (limits.header, limits.fields), so that a plugin
	// always has room to add, and abi.ParsePairs accepts more still.
	maxHeadBytes  = 2 << 20
	maxHeadFields = 12_000

	// maxDetails bounds the details of a local reply, which become the
	// log's reason.
	maxDetails = 128

	// maxProps and maxPropBytes bound the bag of properties that the plugins
	// of one exchange set: entries, and bytes of all paths and values.
	maxProps     = 64
	maxPropBytes = 64 << 10

	// maxLogFields, maxLogKey and maxLogValue bound what plugins add to the
	// access log line: fields, and bytes of a key and of a value. The verdict
	// is bounded like a value.
	maxLogFields = 16
	maxLogKey    = 64
	maxLogValue  = 1 << 10

	// keptServe is the longest argument of a serve, in bytes, that a pooled Filter keeps for the
	// next exchange.
	keptServe = 4 << 10

	// maxStandingKey is the longest key, in bytes, that a standing order looks for: a request
	// that would have a longer one is left to the guest.
	maxStandingKey = 4 << 10

	// textsSize is how many bytes of texts that heads are given share an allocation, and
	// maxSharedText the longest of them: who keeps one of them keeps the others.
	textsSize     = 1 << 10
	maxSharedText = 512

	// maxLikeLines is how many lines of an answer a pass or a model has others compared with; their
	// bytes are bounded with the rest of it.
	maxLikeLines = 32

	// maxModels is how many models a root keeps about requests that miss alone, and about others: of each kind of answer that is stored one, such as
	// one for each number of seconds that its Cache-Control says. Each answer that none fits is
	// compared with all.
	maxModels = 8

	// maxModelHead is how many lines an answer may have that is compared with models: what it costs
	// to find that none fits is to be less than a call of the guest.
	maxModelHead = 256

	// maxRepeats is how many answers the note of a record repeats: clients have a handful of ways to ask for
	// encodings, and of what one has most of the others have the last version or the one before. Each request
	// is compared with the hashes of all.
	maxRepeats = 16

	// maxRepeatLines and maxRepeatEdits are how many lines of a request a repeat is compared with, and how many edits
	// it makes; their bytes are bounded with the rest of it (abi.MaxRepeatText).
	maxRepeatLines = 16
	maxRepeatEdits = 16

	// maxRepeatHead is how many lines a request may have to which an answer is repeated.
	maxRepeatHead = 256

	// seenWords is how many hashes of what was asked for lately a factory keeps: 8 KiB.
	seenWords = 1024

	// keepBuffer is the largest body buffer that stays with a pooled Filter: one
	// large body must not pin its size for ever.
	keepBuffer = 64 << 10

	// maxGather is how much of a body that is to be stored is gathered before others may read it
	// and its client gets anything of it: what arrives at once of an answer, a few reads of a
	// socket. A longer one takes so long that a goroutine for its client is little.
	maxGather = 64 << 10

	// keptPack is how much memory for what is stored beside a body stays with a pooled Filter.
	keptPack = 4 << 10

	// maxGone is the longest time after which a stored message is gone, in seconds: 250
	// years, as durations end at 292.
	maxGone = 250 * 365 * 86400

	// maxDeletes is how many deletes of a prefix or a tag one callback may ask for.
	maxDeletes = 256

	// maxMetadataDepth bounds how deep a path into route metadata is followed
	// and how deep a value of it is encoded.
	maxMetadataDepth = 8
)
