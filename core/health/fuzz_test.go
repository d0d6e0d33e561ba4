package health

import "testing"

// FuzzHealthResponse: whatever a server sends, reading it ends well, and what is read is
// a status that the message has.
func FuzzHealthResponse(f *testing.F) {
	for _, s := range []string{"\x00\x00\x00\x00\x02\x08\x01", "\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x07\x1a\x03abc\x08\x02", "\x01\x00\x00\x00\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		status, ok := parseHealthResponse(b)
		if !ok && status != 0 {
			t.Errorf("no message, and status %d", status)
		}
		if ok && len(b) < 5 {
			t.Errorf("%q has no frame", b)
		}
		r := judgeGRPC(&answer{status: 200, body: b})
		if r.OK {
			t.Error("good without a grpc-status")
		}
	})
}
