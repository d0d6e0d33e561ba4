// Package handover gives listening sockets to another process, and takes them from one:
// from the wproxy that is being replaced by another binary, or from a service manager
// (socket activation, sd_listen_fds(3)).
//
// The nouns: the old process hands over, the new one takes over; a [Child] is the new
// process as the old one sees it, a [Parent] the old one as the new one sees it, and they
// talk in frames over a pair of sockets. [Inherited] is what a process was started with,
// whoever has started it: both ways arrive as descriptors from 3 on, counted and named by
// LISTEN_FDS and LISTEN_FDNAMES.
//
// handover knows processes, descriptors and frames, and nothing of what is in a state.
package handover
