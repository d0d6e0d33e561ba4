package h2

// A window is how many bytes one end may send to the other: of a stream, or of
// the connection (RFC 9113 6.9). It may be negative, when a SETTINGS frame has
// made it smaller than what was sent already.
type window int64

// add opens the window by n, which may be negative. False: it would be larger than
// windows can be.
func (w *window) add(n int64) bool {
	if int64(*w)+n > maxWindow {
		return false
	}
	*w += window(n)
	return true
}

// take uses n bytes of the window. False: it has less.
func (w *window) take(n int) bool {
	if int64(*w) < int64(n) {
		return false
	}
	*w -= window(n)
	return true
}

// An allowance is a window that we grant.
type allowance struct {
	left  window // what the peer may send
	size  int    // of the window when nothing is held
	taken int    // what was taken and not yet granted again
}

// give notes that n bytes were taken. It returns how much to grant the peer:
// not each byte at once, but half a window.
func (a *allowance) give(n int) int {
	a.taken += n
	if a.taken < a.size/2 {
		return 0
	}
	n, a.taken = a.taken, 0
	a.left += window(n)
	return n
}

// grow makes the window larger by n bytes, which are to be granted too.
func (a *allowance) grow(n int) {
	a.size += n
	a.left += window(n)
}
