//go:build race

package main

// raceDetector: the race detector is on, and compiling a guest takes ten times as long.
const raceDetector = true
