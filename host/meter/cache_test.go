package meter_test

import (
	"bytes"
	"reflect"
	"testing"

	"wproxy/host/meter"
	"wproxy/host/wasmtest"
)

// TestCache: what comes out of a cache is what Rewrite makes, for each module and options, also when there have
// been more than it keeps; and it is made once.
func TestCache(t *testing.T) {
	t.Parallel()
	var c meter.Cache
	for round := range 2 {
		for i := range int32(20) {
			m := &wasmtest.Module{}
			m.Func("f", ">i", i32(i))
			module := m.Bytes()
			for _, o := range []meter.Options{{}, {TailCalls: true}} {
				want, wantInfo, err := meter.Rewrite(module, o)
				if err != nil {
					t.Fatal(err)
				}
				got, info, err := c.Rewrite(module, o)
				if err != nil || !bytes.Equal(got, want) || !reflect.DeepEqual(info, wantInfo) {
					t.Fatalf("round %d, module %d, %+v: not what Rewrite makes (%v)", round, i, o, err)
				}
				again, _, err := c.Rewrite(bytes.Clone(module), o)
				if err != nil || &again[0] != &got[0] {
					t.Fatalf("round %d, module %d, %+v: made twice (%v)", round, i, o, err)
				}
			}
		}
	}
	for range 2 {
		if _, _, err := c.Rewrite([]byte("no module"), meter.Options{}); err == nil {
			t.Fatal("what is no module is rewritten")
		}
	}
}
