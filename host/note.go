package host

// A Noter is a Stream that keeps no property whose path begins with "wproxy" and NUL: it is
// something that the plugin says of the exchange, for the access log it may be. Nobody reads it back as
// a property. Others get them by SetProperty.
type Noter interface {
	// Note takes what a guest says; path is without that prefix. Both strings are the host's.
	Note(path, value string)
}

const notePrefix = "wproxy\x00"

// A noteCache has what a guest has noted lately as strings of the host: most guests say one of a few
// things of each exchange.
type noteCache struct {
	list [cachedNotes]note
	next uint8 // whose turn it is to go
}

type note struct{ path, value string }

// own returns borrowed path and value as strings of the host.
func (c *noteCache) own(path string, value []byte) (ownPath, ownValue string) {
	for i := range c.list {
		if n := &c.list[i]; n.path == path && n.value == string(value) {
			return n.path, n.value
		}
	}
	both := path + string(value)
	ownPath, ownValue = both[:len(path)], both[len(path):]
	if len(both) <= cachedNoteBytes {
		c.list[c.next] = note{ownPath, ownValue}
		c.next = (c.next + 1) % cachedNotes
	}
	return ownPath, ownValue
}
