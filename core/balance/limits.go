package balance

// maxSequence is the longest precomputed order of picks, in picks: 64 KiB of
// pointers. Weights whose sum, after dividing by their greatest common divisor,
// is above it are scaled down; an error of 1/8192 of the traffic is not seen.
const maxSequence = 8192
