// Command bench measures wproxy beside other reverse proxies, on one machine
// and in one run: `go run ./bench`, or `make bench`.
//
// Absolute numbers are not stable on shared machines, so what counts is the
// ratio between two proxies whose rounds alternate. The origin (nginx, static
// bodies) and the load generator (wrk) share one CPU; each proxy in turn is
// alone on another. The figure to trust is CPU time per request: user and
// system time of the proxy's processes, from /proc, over the requests that wrk
// counted. It does not depend on how fast the load generator is.
//
// A program that is not installed is skipped with a message, and a measurement
// that fails is reported as such: bench is no test and never fails a build.
//
// Every process runs below its own directory in bench/out, listens on loopback
// only, and is ended with the run, also by a signal.
package main
