//go:build !race

package main

import "testing"

// sinkResponse takes edits and allocates nothing.
type sinkResponse struct{ n int }

func (r *sinkResponse) Has(string) bool    { return false }
func (r *sinkResponse) Set(string, string) { r.n++ }
func (r *sinkResponse) Remove(string)      { r.n++ }

func TestApplyAllocs(t *testing.T) {
	for doc, want := range map[string]float64{
		`{"preset":"strict","remove":["server"]}`:                                    0,
		`{"preset":"strict","content-security-policy":"script-src 'nonce-{nonce}'"}`: 1, // the value with this response's nonce
	} {
		p, err := parseConfig([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		r := &sinkResponse{}
		if n := testing.AllocsPerRun(100, func() { p.apply(r, true, "nonce") }); n != want {
			t.Errorf("%s: %v allocations, want %v", doc, n, want)
		}
	}
}
