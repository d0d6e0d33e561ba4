package filter

// A Flow consumes one direction of a TCP connection: Open once, then Data any number of
// times, of which the call made with end set is the last.
//
// In the direction of the upstream, Open makes the connection to it; in the direction of
// the client it says that there is one. Calls never overlap, but may come from different
// goroutines. p belongs to the caller again when the call returns. A flow that holds bytes
// back returns, and is given more, until it has as much as it may; then, and at the end, it
// does not return before they have been let go of. That is how backpressure works. After an
// error the direction is dead. exchange.ErrAnswered means that the connection is over, by
// whatever Exchange.Reason says.
type Flow interface {
	Open() error
	Data(p []byte, end bool) error
}

// A TCPFilter handles one TCP connection. Downstream and Upstream are called once each,
// before the first Open, and wrap the flow that follows: Downstream what the client sends,
// which runs through a route's filters in order, Upstream what the upstream sends, in
// reverse order. A filter with no interest in a direction returns next.
type TCPFilter interface {
	Downstream(next Flow) Flow
	Upstream(next Flow) Flow

	// Close is called once, when both directions have ended and Exchange.Finished and the
	// byte counts are final. byClient says that the client ended the connection, and not
	// wproxy.
	Close(byClient bool)
}

// A TCPFactory makes the filters of TCP connections. It is safe for concurrent use and
// lives as long as the snapshot that names it.
//
// What a TCPFilter may see of its connection is an Exchange in which Request has nothing but
// Conn and, as Authority, the name that the client has asked for (TLS SNI); Response is nil.
// Of its Engine only Abort and Fail have an effect: both close the connection.
type TCPFactory interface {
	// Name is the plugin's name in the configuration.
	Name() string
	// NewTCP makes the filter of one connection. An error closes the connection, with the
	// reason of an *exchange.Error or "plugin_failed:NAME".
	NewTCP(x *Exchange) (TCPFilter, error)
}
