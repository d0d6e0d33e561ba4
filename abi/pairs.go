package abi

// A Pair is one entry of a header map.
type Pair struct{ Name, Value string }
