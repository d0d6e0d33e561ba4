package upstream

// An Observer is told what has become of tries at an endpoint, each once: health
// counts them. Its methods are called on the goroutines of exchanges, from many at
// a time; they neither block nor allocate. A try that the client gave up is not
// told of.
type Observer interface {
	// Answered is told the status of the final head of an answer.
	Answered(status int)
	// Failed is told of a try that has failed. kind is one of the names by which
	// metrics count failures: "connect", "tls", "reset", "timeout", "protocol".
	Failed(kind string)
}
