//go:build !race

package balance_test

// raceDetector: the race detector is off.
const raceDetector = false
