package route_test

import (
	"fmt"
	"strings"
	"testing"

	"wproxy/core/route"
)

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		tb, err := route.New(big(n))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			q := request(fmt.Sprintf("GET h%d.example.com/api/v1/service7/users/42?x=1", n/10-1), "accept", "*/*")
			b.ReportAllocs()
			for b.Loop() {
				if v, ok := tb.Match(q); !ok || v != n-3 {
					b.Fatal(v, ok)
				}
			}
		})
		b.Run(fmt.Sprintf("routes=%d/hostile", n), func(b *testing.B) {
			q := request("GET " + strings.Repeat("a.", 120) + "example.com/" + strings.Repeat("/", 60_000))
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := tb.Match(q); ok {
					b.Fatal("matched")
				}
			}
		})
	}
}
