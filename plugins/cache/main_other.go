//go:build !wasip1

package main

import "os"

// main is here so that the package builds on every platform; its tests need no guest.
func main() {
	os.Stderr.WriteString("this is a wproxy plugin; build it with: wproxy plugin build\n")
	os.Exit(2)
}
