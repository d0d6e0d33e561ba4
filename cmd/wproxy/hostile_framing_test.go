package main

import "strings"

// msg joins a request line and field lines to a head.
func msg(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n\r\n" }

const (
	hostLine = "Host: a.test"
	// smuggled is what must never reach the origin as a request of its own.
	smuggled = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"
	second   = "GET /second HTTP/1.1\r\nHost: a.test\r\n\r\n"
)

// post makes a POST /x with these field lines and what follows the head.
func post(rest string, lines ...string) string {
	return msg(append([]string{"POST /x HTTP/1.1", hostLine}, lines...)...) + rest
}

// chunked makes a chunked POST /x of what follows the head.
func chunked(rest string) string { return post(rest, "Transfer-Encoding: chunked") }

// framingCases: where a message ends (RFC 9112 6, RFC 9110 8.6).
var framingCases = []hostileCase{
	{name: "length and coding", in: post("0\r\n\r\n"+smuggled, "Content-Length: 6", "Transfer-Encoding: chunked"), want: "400"},
	{name: "coding and length", in: post("0\r\n\r\n"+smuggled, "Transfer-Encoding: chunked", "Content-Length: 5"), want: "400"},
	{name: "length covers what coding ends", in: post("0\r\n\r\n"+smuggled, "Content-Length: 50", "Transfer-Encoding: chunked"), want: "400"},
	{name: "two different lengths", in: post("hello"+smuggled, "Content-Length: 5", "Content-Length: 6"), want: "400"},
	{name: "two different lengths, one zero", in: post(smuggled, "Content-Length: 0", "Content-Length: 40"), want: "400"},
	{name: "different lengths in a list", in: post("hello"+smuggled, "Content-Length: 5, 6"), want: "400"},
	// Merged to one or refused (RFC 9110 8.6), never passed on as two.
	{name: "equal lengths", in: post("hello", "Content-Length: 5", "Content-Length: 5"), want: "200|400", seen: []string{"POST /x hello"}},
	{name: "equal lengths in a list", in: post("hello", "Content-Length: 5, 5"), want: "200|400", seen: []string{"POST /x hello"}},
	{name: "plus sign", in: post("hello", "Content-Length: +5"), want: "400"},
	{name: "minus sign", in: post("hello", "Content-Length: -5"), want: "400"},
	{name: "minus zero", in: post(smuggled, "Content-Length: -0"), want: "400"},
	{name: "hexadecimal length", in: post("hello", "Content-Length: 0x5"), want: "400"},
	{name: "blank within the length", in: post("hello", "Content-Length: 1 0"), want: "400"},
	{name: "empty length", in: post(smuggled, "Content-Length:"), want: "400"},
	{name: "length with a decimal point", in: post("hello", "Content-Length: 5.0"), want: "400"},
	{name: "length with a unit", in: post("hello", "Content-Length: 5b"), want: "400"},
	{name: "length with an underscore", in: post("0123456789", "Content-Length: 1_0"), want: "400"},
	{name: "length that overflows 64 bits to 5", in: post("hello", "Content-Length: 18446744073709551621"), want: "400|413"},
	{name: "length of 2^63", in: post("hello", "Content-Length: 9223372036854775808"), want: "400|413"},
	{name: "length in full-width digits", in: post("hello", "Content-Length: \xef\xbc\x95"), want: "400"},
	{name: "length with NUL", in: post("hello", "Content-Length: 5\x00"), want: "400"},
	{name: "length with a vertical tab", in: post("hello", "Content-Length: \x0b5"), want: "400"},
	{name: "length folded", in: post("hello", "Content-Length:\r\n 5"), want: "400"},
	{name: "blank before the colon of the length", in: post("hello", "Content-Length : 5"), want: "400"},
	{name: "leading zeros", in: post("hello", "Content-Length: 0000000000000000000000005"), want: "200|400", seen: []string{"POST /x hello"}},

	{name: "chunked twice", in: post("0\r\n\r\n"+smuggled, "Transfer-Encoding: chunked, chunked"), want: "400"},
	{name: "chunked on two lines", in: post("0\r\n\r\n"+smuggled, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), want: "400"},
	{name: "chunked is not last", in: post("0\r\n\r\n"+smuggled, "Transfer-Encoding: chunked, identity"), want: "400|501"},
	{name: "chunked is not last, two lines", in: post("0\r\n\r\n"+smuggled, "Transfer-Encoding: chunked", "Transfer-Encoding: gzip"), want: "400|501"},
	{name: "identity", in: post("hello", "Transfer-Encoding: identity", "Content-Length: 5"), want: "400|501"},
	{name: "unknown coding", in: post("hello", "Transfer-Encoding: xchunked"), want: "400|501"},
	{name: "coding that only starts like chunked", in: post("0\r\n\r\n", "Transfer-Encoding: chunkedfoo"), want: "400|501"},
	{name: "gzip and chunked", in: post("0\r\n\r\n", "Transfer-Encoding: gzip, chunked"), want: "400|501"},
	{name: "chunked with a parameter", in: post("0\r\n\r\n", "Transfer-Encoding: chunked;q=1"), want: "400|501"},
	{name: "quoted chunked", in: post("0\r\n\r\n", "Transfer-Encoding: \"chunked\""), want: "400|501"},
	{name: "empty coding", in: post(smuggled, "Transfer-Encoding:", "Content-Length: 40"), want: "400|501"},
	{name: "list with an empty member", in: post("0\r\n\r\n"+smuggled, "Transfer-Encoding: ,chunked", "Content-Length: 5"), want: "400"},
	{name: "coding with a vertical tab", in: post("0\r\n\r\n", "Transfer-Encoding: \x0bchunked"), want: "400"},
	{name: "coding with NUL", in: post("0\r\n\r\n", "Transfer-Encoding: chunked\x00"), want: "400"},
	{name: "coding folded", in: post("0\r\n\r\n"+smuggled, "Transfer-Encoding:\r\n chunked", "Content-Length: 5"), want: "400"},
	{name: "folded into another field", in: post("0\r\n\r\n"+smuggled, "X-A: b\r\n Transfer-Encoding: chunked", "Content-Length: 5"), want: "400"},
	{name: "blank before the colon of the coding", in: post("0\r\n\r\n"+smuggled, "Transfer-Encoding : chunked", "Content-Length: 46"), want: "400"},
	{name: "CR before the name of the coding", in: post("0\r\n\r\n"+smuggled, "X-A: b\rTransfer-Encoding: chunked", "Content-Length: 46"), want: "400"},
	{name: "LF before the name of the coding", in: post("0\r\n\r\n"+smuggled, "X-A: b\nTransfer-Encoding: chunked", "Content-Length: 46"), want: "400"},
	{name: "chunked in HTTP/1.0", in: "POST /x HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, want: "400"},
	{name: "chunked in HTTP/1.0 with keep-alive", in: "POST /x HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + smuggled, want: "400"},
	{name: "chunked in mixed case", in: post("5\r\nhello\r\n0\r\n\r\n"+second, "Transfer-Encoding: ChUnKeD"), want: "200 200", seen: []string{"POST /x hello", "GET /second"}, keeps: true},
	{name: "coding after a tab", in: post("5\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding:\tchunked\t"), want: "200|400", seen: []string{"POST /x hello"}},

	// A body on any method is a body.
	{name: "GET with a body", in: "GET /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 40\r\n\r\n" + smuggled + second, want: "200 200", seen: []string{"GET /x " + smuggled, "GET /second"}, keeps: true},
	{name: "HEAD with a body", in: "HEAD /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 40\r\n\r\n" + smuggled + second, method: "HEAD", want: "200 200", seen: []string{"HEAD /x " + smuggled, "GET /second"}, keeps: true},
	{name: "DELETE with a chunked body", in: "DELETE /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n28\r\n" + smuggled + "\r\n0\r\n\r\n" + second, want: "200 200", seen: []string{"DELETE /x " + smuggled, "GET /second"}, keeps: true},
	{name: "OPTIONS with a body", in: "OPTIONS * HTTP/1.1\r\nHost: a.test\r\nContent-Length: 40\r\n\r\n" + smuggled + second, want: "200 200", seen: []string{"OPTIONS * " + smuggled, "GET /second"}, keeps: true},
	{name: "body that looks like a request", in: post(smuggled+second, "Content-Length: 40"), want: "200 200", seen: []string{"POST /x " + smuggled, "GET /second"}, keeps: true},
	{name: "no length at all", in: post(second), want: "200 200", seen: []string{"POST /x", "GET /second"}, keeps: true},
	// An answer that wproxy makes itself leaves the body to be drained or the
	// connection to be closed.
	{name: "body of a request that has no route", in: "POST /x HTTP/1.1\r\nHost: nowhere.test\r\nContent-Length: 40\r\n\r\n" + smuggled, want: "404", local: true},
	{name: "chunked body of a request that has no route", in: "POST /x HTTP/1.1\r\nHost: nowhere.test\r\nTransfer-Encoding: chunked\r\n\r\n28\r\n" + smuggled + "\r\n0\r\n\r\n", want: "404", local: true},
	{name: "body of a request that is denied", in: "POST /denied HTTP/1.1\r\nHost: a.test\r\nContent-Length: 40\r\n\r\n" + smuggled, want: "403", local: true},
	{name: "body of a request that is answered from the file", in: "POST /respond HTTP/1.1\r\nHost: a.test\r\nContent-Length: 40\r\n\r\n" + smuggled, want: "418", local: true},

	{name: "body cut short", in: post("hel", "Content-Length: 5"), fin: true, want: "400|closed", partial: true},
	{name: "head cut short", in: "POST /x HTTP/1.1\r\nHost: a.te", fin: true, want: "400|closed"},
}

// chunkCases: the chunked coding (RFC 9112 7.1).
var chunkCases = []hostileCase{
	{name: "good", in: chunked("5\r\nhello\r\n006\r\n world\r\n0\r\n\r\n" + second), want: "200 200", seen: []string{"POST /x hello world", "GET /second"}, keeps: true},
	{name: "extensions are dropped", in: chunked("5;a=b;c=\"d;e\"\r\nhello\r\n0;f\r\n\r\n" + second), want: "200 200", seen: []string{"POST /x hello", "GET /second"}, keeps: true},
	{name: "size with a blank", in: chunked("5 \r\nhello\r\n0\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "blank before the size", in: chunked(" 5\r\nhello\r\n0\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "size with 0x", in: chunked("0x5\r\nhello\r\n0\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "size with a sign", in: chunked("+5\r\nhello\r\n0\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "negative size", in: chunked("-5\r\nhello\r\n0\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "size with an underscore", in: chunked("0_5\r\nhello\r\n0\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "size with a letter that is no digit", in: chunked("5g\r\nhello\r\n0\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "no size", in: chunked("\r\nhello\r\n0\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "extension without a size", in: chunked(";a\r\nhello\r\n0\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "size that overflows to 5", in: chunked("10000000000000005\r\nhello\r\n0\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "size of 2^64-1", in: chunked("ffffffffffffffff\r\nhello\r\n0\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "size of 2^63", in: chunked("8000000000000000\r\nhello\r\n0\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "size with very many zeros", in: chunked(strings.Repeat("0", 70_000) + "5\r\nhello\r\n0\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "LF after the size", in: chunked("5\nhello\r\n0\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "CR after the size", in: chunked("5\rhello\r\n0\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "two CRs after the size", in: chunked("5\r\r\nhello\r\n0\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "LF after the data", in: chunked("5\r\nhello\n0\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "CR after the data", in: chunked("5\r\nhello\r0\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "nothing after the data", in: chunked("5\r\nhello0\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "two other bytes after the data", in: chunked("5\r\nhelloXX0\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "data longer than its size", in: chunked("3\r\nhello\r\n0\r\n\r\n" + smuggled), want: "400", partial: true},
	// What some parsers take for the end of the line ends no line here.
	{name: "LF in an extension", in: chunked("5;a\nhello\r\n0\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "LF in the extension of the last chunk", in: chunked("0;a\n\r\n" + smuggled + "\r\n"), want: "400", partial: true},
	{name: "CR in an extension", in: chunked("5;a\rb\r\nhello\r\n0\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "NUL in an extension", in: chunked("5;a\x00\r\nhello\r\n0\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "LF in a quoted extension", in: chunked("5;a=\"\n\"\r\nhello\r\n0\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "huge extension", in: chunked("5;" + strings.Repeat("a", 70_000) + "\r\nhello\r\n0\r\n\r\n"), want: "400|413|431", partial: true},
	{name: "many extensions on small chunks", in: chunked(strings.Repeat("1;"+strings.Repeat("a", 200)+"\r\nx\r\n", 1000) + "0\r\n\r\n"), want: "400|413|431", partial: true},
	{name: "last chunk without the empty line", in: chunked("5\r\nhello\r\n0\r\n" + smuggled), want: "400", partial: true},
	{name: "LF ends the trailer section", in: chunked("5\r\nhello\r\n0\r\n\n" + smuggled), want: "400", partial: true},
	{name: "cut in the size", in: chunked("5"), fin: true, want: "400|closed", partial: true},
	{name: "cut in the data", in: chunked("5\r\nhel"), fin: true, want: "400|closed", partial: true},
	{name: "cut before the last chunk", in: chunked("5\r\nhello\r\n"), fin: true, want: "400|closed", partial: true},
	{name: "cut in the last chunk", in: chunked("5\r\nhello\r\n0\r\n"), fin: true, want: "400|closed", partial: true},

	// Trailers are passed on as trailers or dropped, never merged into the head.
	{name: "trailer", in: chunked("5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n" + second), want: "200 200", seen: []string{"POST /x hello", "GET /second"}, keeps: true},
	{name: "length in the trailer", in: chunked("5\r\nhello\r\n0\r\nContent-Length: 40\r\n\r\n" + second), want: "200|400 200|none", seen: []string{"POST /x hello", "GET /second"}, partial: true},
	{name: "host in the trailer", in: chunked("5\r\nhello\r\n0\r\nHost: b.test\r\nTransfer-Encoding: chunked\r\n\r\n"), want: "200|400", seen: []string{"POST /x hello"}, partial: true},
	{name: "trailer without a colon", in: chunked("5\r\nhello\r\n0\r\nX-Sum\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "blank before the colon in the trailer", in: chunked("5\r\nhello\r\n0\r\nX-Sum : 1\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "trailer folded", in: chunked("5\r\nhello\r\n0\r\nX-Sum: 1\r\n 2\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "NUL in the trailer", in: chunked("5\r\nhello\r\n0\r\nX-Sum: \x00\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "LF in the trailer", in: chunked("5\r\nhello\r\n0\r\nX-Sum: 1\nX-B: 2\r\n\r\n" + smuggled), want: "400", partial: true},
	{name: "huge trailer", in: chunked("5\r\nhello\r\n0\r\nX-Sum: " + strings.Repeat("a", 70_000) + "\r\n\r\n"), want: "400|413|431", partial: true},
	{name: "very many trailers", in: chunked("5\r\nhello\r\n0\r\n" + strings.Repeat("X: 1\r\n", 300) + "\r\n"), want: "400|413|431", partial: true},
}
