package meter

import (
	"crypto/sha256"
	"sync"
)

// cacheSize is how many modules a Cache keeps.
const cacheSize = 8

// A Cache is for who has the same few modules rewritten over and over, as tests of plugins do: it keeps
// what became of the last ones. The zero value is empty. It is safe for concurrent use; whoever asks
// for a module while another one is rewritten waits.
type Cache struct {
	mu   sync.Mutex
	list []rewritten // the one used last comes first
}

// A rewritten module is known by the hash of what it was.
type rewritten struct {
	hash   [sha256.Size]byte
	o      Options
	module []byte
	info   *Info
}

// Rewrite is [Rewrite]. The results belong to everybody who asks, and are not to be changed.
func (c *Cache) Rewrite(module []byte, o Options) ([]byte, *Info, error) {
	hash := sha256.Sum256(module)
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.list {
		if r := c.list[i]; r.hash == hash && r.o == o {
			copy(c.list[1:], c.list[:i])
			c.list[0] = r
			return r.module, r.info, nil
		}
	}
	out, info, err := Rewrite(module, o)
	if err != nil {
		return nil, nil, err
	}
	if len(c.list) < cacheSize {
		c.list = append(c.list, rewritten{})
	}
	copy(c.list[1:], c.list)
	c.list[0] = rewritten{hash, o, out, info}
	return out, info, nil
}
