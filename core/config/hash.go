package config

// A Hash identifies the settings of an object: equal for equal settings,
// wherever they were written. The zero Hash is no hash.
type Hash [32]byte
