package objects_test

import (
	"strconv"
	"strings"
	"testing"

	"wproxy/core/objects"
)

// BenchmarkPut stores answers of 1 KiB in a space that is full: each has another one evicted.
func BenchmarkPut(b *testing.B) {
	body := []byte(strings.Repeat("x", 1024))
	fields := objects.Pack(objects.Field{Name: "content-type", Value: "text/html"}, objects.Field{Name: "cache-control", Value: "max-age=600"}, objects.Field{Name: "etag", Value: `"abc"`})
	for name, put := range map[string]func(s *objects.Space, key string){
		"fill": func(s *objects.Space, key string) {
			f := s.Fill(key, objects.FillOptions{Record: objects.Record{Status: 200, Fields: fields}, Length: 1024})
			_ = f.Write(body)
			f.End("")
		},
		"whole": func(s *objects.Space, key string) {
			s.PutWhole(key, &objects.Whole{Record: objects.Record{Status: 200, Fields: fields}, Body: body})
		},
	} {
		b.Run(name, func(b *testing.B) {
			s := objects.New(objects.Options{Bytes: 32 << 20}).Space("a")
			key := func(i int) string { return "http://example.com/" + strconv.Itoa(i) + "\nroute" }
			for i := range 20_000 {
				put(s, key(i))
			}
			i := 20_000
			b.ReportAllocs()
			for b.Loop() {
				put(s, key(i))
				i++
			}
		})
	}
}

func BenchmarkLead(b *testing.B) {
	s := objects.New(objects.Options{}).Space("a")
	b.ReportAllocs()
	for b.Loop() {
		f, _, _ := s.Lead("http://example.com/a\nroute", 0)
		f.Land(objects.Unstored)
	}
}
