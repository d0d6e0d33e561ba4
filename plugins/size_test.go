package plugins

import "testing"

// maxSize is what a shipped module may have grown to, in bytes.
const maxSize = 2_500_000

// TestSizes: the shipped modules are within that. (Measured with Go 1.26.)
func TestSizes(t *testing.T) {
	for _, name := range names {
		wasm, err := Builtin(name)
		if err != nil {
			t.Skip(err)
		}
		if len(wasm) > maxSize {
			t.Errorf("%s.wasm has %d bytes, more than %d: what has come to be linked?", name, len(wasm), maxSize)
		}
	}
}
