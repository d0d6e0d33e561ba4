package config

// Load reads the file at path and what it includes. The error is a Problems
// list with everything that is wrong, sorted by place; the File is nil then.
func Load(path string) (*File, error) { panic("not yet") }

// Parse is Load for a main file whose content is already at hand; name is used
// in messages, and relative paths resolve against its directory.
func Parse(name string, content []byte) (*File, error) { panic("not yet") }

// ForAddress returns the configuration of `wproxy run --to ADDRESS`: one route
// "all" for everything, on the default listener, to one server. The error is a
// Problems list.
func ForAddress(address string) (*File, error) { panic("not yet") }

// Defaults returns what an empty file means.
func Defaults() *File { panic("not yet") }
