package main

import (
	"crypto/sha256"

	"wproxy/core/config"
	"wproxy/core/proxy"
)

// markRoute says of p, made of r, when it is the same route in another generation, and
// gives it the count of the tunnels of its name.
func (b *builder) markRoute(p *proxy.Route, r *config.Route) error {
	count, letGo, err := b.tunnels.get(r.Name, func() (*proxy.TunnelCount, error) { return new(proxy.TunnelCount), nil })
	if err != nil {
		return err
	}
	b.hold(letGo)
	p.Tunnels = count
	p.Mark, p.Parts = b.marks(r)
	return nil
}

// marks returns the marks of r: of what it says, and of that with its upstreams.
func (b *builder) marks(r *config.Route) (settings, parts [sha256.Size]byte) {
	mark := sha256.New()
	mark.Write(r.Hash[:])
	for _, use := range r.Plugins { // their settings are in r.Hash, what they run is not
		if plugin := b.gen.plugins[use.Plugin]; plugin != nil {
			mark.Write(b.file.Plugins[use.Plugin].Hash[:])
			mark.Write(plugin.key.hash[:])
		}
	}
	settings = [sha256.Size]byte(mark.Sum(nil))
	for _, t := range r.Upstream {
		key := b.gen.callable[t.Upstream]
		mark.Write(key.hash[:])
	}
	return settings, [sha256.Size]byte(mark.Sum(nil))
}
