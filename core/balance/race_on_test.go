//go:build race

package balance_test

// raceDetector: the race detector is on, and a pick takes ten times as long.
const raceDetector = true
