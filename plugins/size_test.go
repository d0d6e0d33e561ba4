package plugins

import "testing"

// TestSizes: what the shipped modules may have grown to, in bytes: 2.5 MiB, and for the cache, whose own
// code is as much again as that of the others, what it has. (Measured with Go 1.26.)
func TestSizes(t *testing.T) {
	for name, most := range map[string]int{
		"securityheaders": 2_621_440, "ratelimit": 2_621_440, "breaker": 2_621_440, "cache": 2_750_000,
	} {
		wasm, err := Builtin(name)
		if err != nil {
			t.Skip(err)
		}
		if len(wasm) > most {
			t.Errorf("%s.wasm has %d bytes, more than %d: what has come to be linked?", name, len(wasm), most)
		}
	}
}
