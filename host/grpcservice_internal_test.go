package host

import (
	"testing"
	"time"

	"wproxy/abi"
)

// FuzzGRPCService: whatever a guest passes as the name of an upstream is read without a
// panic; what is accepted names something that can be printed, and has a time that a call
// can have.
func FuzzGRPCService(f *testing.F) {
	field := func(n uint32, s string) string { return string(abi.AppendProtoBytes(nil, n, s)) }
	f.Add(field(1, field(1, "cluster")+field(2, "authority")))
	f.Add(field(2, field(1, "dns:///host:443")) + field(3, "\x08\x02\x10\x05"))
	f.Add(field(1, field(1, "c")) + field(5, field(1, "Key")+field(2, "value")) + field(5, field(1, "k-bin")+field(3, "AA")))
	f.Add(field(3, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Add("outbound|80||host.ns.svc.cluster.local")
	f.Fuzz(func(t *testing.T, message string) {
		s, ok := parseGRPCService(message)
		if !ok {
			return
		}
		if s.upstream == "" || !isPrintable(s.upstream) || s.timeout < 0 || s.timeout > 1<<62 {
			t.Fatalf("%q is read as %+v", message, s)
		}
		var r GRPCRequest
		if r.add(s.metadata) != nil {
			return
		}
		for _, m := range r.Metadata {
			if _, _, clean := CleanField(m.Name, m.Value); !clean || m.Name[0] == ':' {
				t.Fatalf("%q has the field %q: %q", message, m.Name, m.Value)
			}
		}
	})
}

func TestGRPCDuration(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		message string
		want    time.Duration
	}{
		{"", 0},
		{"\x08\x02", 2 * time.Second},
		{"\x08\x01\x10\x05", time.Second + 5},
		{"\x10\x80\x94\xeb\xdc\x03", 0},                             // a second of nanoseconds
		{"\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 0},             // too long
		{"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 0},         // negative
		{"\x08\x01\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 0}, // the same, in its other part
		{"\x08", 0},
	} {
		if got := protoDuration(tt.message); got != tt.want {
			t.Errorf("%q: %v, want %v", tt.message, got, tt.want)
		}
	}
}
