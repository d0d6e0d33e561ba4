package route

import "wproxy/core/exchange"

// A Rewrite changes the path that the upstream sees. nil changes nothing. It
// is immutable and safe for concurrent use.
type Rewrite struct{ strip string }

// RewriteSpec says how; Strip comes first, then either Path or Regex with To.
type RewriteSpec struct {
	Strip string // path prefix to take away, at a segment border; "" none
	Path  string // replaces the path; "" no
	Regex string // RE2; where it matches, To replaces the match
	To    string // with $1 or ${1} for groups
}

// NewRewrite compiles s. It returns nil for a spec that changes nothing.
func NewRewrite(s RewriteSpec) (*Rewrite, error) { panic("not yet") }

// Apply changes r's target; the query is kept byte for byte. An error is an
// *exchange.Error with Status 400: the rewritten path is not a valid target.
func (w *Rewrite) Apply(r *exchange.Request) error { panic("not yet") }

// A Redirect composes the target of a redirect. It is immutable and safe for
// concurrent use.
type Redirect struct {
	to     string
	status int
}

// NewRedirect returns a redirect to a path ("/new"), an absolute URL, an
// absolute URL without a path (the request's path and query are kept), or
// "https" (the same URL on the TLS door, whose port is httpsPort).
func NewRedirect(to string, status, httpsPort int) (*Redirect, error) { panic("not yet") }

// Status returns the status code.
func (d *Redirect) Status() int { return d.status }

// Location returns the value of the location field for r.
func (d *Redirect) Location(r *exchange.Request) string { panic("not yet") }
