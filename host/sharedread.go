package host

// SharedData returns a copy of what the plugin's vm_id keeps under key in its shared
// data, as a guest would get it. For tests of plugins and for tools.
func (p *Plugin) SharedData(key string) (value []byte, ok bool) {
	value, _, ok = p.shared.get(nil, key)
	return value, ok
}
