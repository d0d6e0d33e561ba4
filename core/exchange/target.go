package exchange

// ParseTarget parses and canonicalises an origin-form target (path with
// optional query) into r (RFC 3986 6.2.2; config.md rule 8): dot segments
// removed, unreserved characters decoded, hex digits in upper case, empty
// segments kept, the query byte for byte. A canonical s is kept as it is,
// without allocating. Plugins' edits of :path come through here too. The error
// is an *Error with Status 400 and a Reason.
func (r *Request) ParseTarget(s string) error { panic("written by the h1 work") }

// ParseAuthority validates s as uri-host[:port] (RFC 9110 7.2, RFC 3986 3.2.2;
// no userinfo, path, list or white space) and stores its canonical form. The
// error is an *Error with Status 400 and a Reason.
func (r *Request) ParseAuthority(s string) error { panic("written by the h1 work") }

// Hostname returns the host of Authority without port and brackets.
func (r *Request) Hostname() string { panic("written by the h1 work") }
