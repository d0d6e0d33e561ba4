package route

// A Table finds the route of a request. It is immutable and safe for
// concurrent use.
type Table[T any] struct{ entries []Entry[T] }

// New builds a table. The error is a joined list of *Error, one per mistake.
func New[T any](routes []Entry[T]) (*Table[T], error) { panic("not yet") }

// Match returns the value of the most specific route for q, and false if there
// is none. It allocates nothing.
func (t *Table[T]) Match(q *Request) (v T, ok bool) { panic("not yet") }

// An Error is what is wrong with a spec, or with two.
type Error struct {
	// Route is the name of the spec.
	Route string
	// Other is the name of the spec it clashes with, or "".
	Other string
	// Text says what is wrong, without the route's name.
	Text string
}

// Error implements error.
func (e *Error) Error() string { return `route "` + e.Route + `": ` + e.Text }

// A Shadow is a route that can never match.
type Shadow struct {
	Route   string // that can never match
	By      string // what covers it, in part or (for one pattern) whole
	Pattern string // host and path that By covers, e.g. "api.example.com/v1/*"
}

// A Candidate is a route that Explain looked at.
type Candidate[T any] struct {
	Name    string // of the route
	Value   T
	Pattern string // host and path that came nearest, e.g. "api.example.com/v1/*"
	Lost    string // "" for the winner; else the first condition that did not hold, or "less specific than NAME"
}

// Shadowed returns the routes that can never match because others cover them.
func (t *Table[T]) Shadowed() []Shadow { panic("not yet") }

// Explain returns the route that Match returns, if any, and then those that lost, the
// nearest first, at most limit in all.
func (t *Table[T]) Explain(q *Request, limit int) []Candidate[T] { panic("not yet") }
