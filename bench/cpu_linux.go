package main

import "golang.org/x/sys/unix"

// chooseCPUs returns the first two CPUs this process may use: one for the
// proxy, one for the load and the origin. Both are -1 if there is only one.
func chooseCPUs() (proxy, load int) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil || set.Count() < 2 {
		return -1, -1
	}
	var cpus []int
	for i := 0; len(cpus) < 2; i++ {
		if set.IsSet(i) {
			cpus = append(cpus, i)
		}
	}
	return cpus[0], cpus[1]
}
