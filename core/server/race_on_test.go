//go:build race

package server_test

// raceDetector: these tests run with the race detector.
const raceDetector = true
