package route

// A Spec says which requests a route is for. Every set condition must hold;
// the zero value is for all.
type Spec struct {
	// Name of the route, unique in a table.
	Name string
	// Hosts: "a.example.com", "*.example.com" (one or more labels in front),
	// "*" (any). Lower case, no port. Empty: any.
	Hosts []string
	// Paths: "/v1" (exactly), "/v1/*" (/v1 and all below), "/*" (any).
	// Empty: any, unless PathRegex is set.
	Paths []string
	// PathRegex is an RE2 expression searched in the path. Not with Paths.
	PathRegex string
	// Methods: one of these. Empty: any.
	Methods []string
	// Listeners: one of these. Empty: any.
	Listeners []string
	// Headers and Query: all of these hold.
	Headers, Query []Condition
	// Priority decides between routes that are equally specific: the higher first.
	Priority int
}

// A Condition is on one header field (name in lower case) or query parameter
// (name and values as they are after percent decoding). One that is there more
// than once has no one value: it meets presence, but never Values. Otherwise
// two routes for different values could both claim it.
type Condition struct {
	Name string
	// Values: one of these, byte for byte. Empty: it is there (or Absent).
	Values []string
	// Absent: it is not there. Values must be empty.
	Absent bool
}

// An Entry is a spec with what the caller attached to it.
type Entry[T any] struct {
	Spec
	Value T
}
