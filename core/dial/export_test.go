package dial

import "time"

// Expire makes the next dial look whether the files of t have changed.
func Expire(t *TLS) {
	t.files.mu.Lock()
	defer t.files.mu.Unlock()
	t.files.looked = time.Time{}
}
