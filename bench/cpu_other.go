//go:build !linux

package main

// chooseCPUs returns -1 twice: only Linux binds processes to CPUs here.
func chooseCPUs() (proxy, load int) { return -1, -1 }
