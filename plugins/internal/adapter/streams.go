//go:build wasip1

package adapter

import (
	_ "unsafe" // for go:linkname

	"github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/types"
)

// The SDK keeps a stream in two Go maps and looks it up at every callback: two inserts, two
// deletes and half a dozen look-ups, which is 1.5 µs of a guest's time for each request, as
// much as many plugins need for everything else. All that they are needed for is
// calls (which stream made one) and TCP. Where a plugin has neither, streams are kept
// here, and the plugin's contexts are called through the SDK's public interface.

// sdkState is the SDK's state, as far as it is looked at. `plugin build` compares the
// SDK's declaration with this one before it builds.
type sdkState struct {
	vmContext      types.VMContext
	pluginContexts map[uint32]*sdkPluginState
}

type sdkPluginState struct {
	context types.PluginContext
}

//go:linkname sdkCurrentState github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/internal.currentState
var sdkCurrentState *sdkState

// lastRoot is the root context that created the last stream; most plugins have one.
var (
	lastRoot   uint32
	lastPlugin types.PluginContext
)

// pluginContext returns the root context with an id.
func pluginContext(id uint32) types.PluginContext {
	if id != lastRoot || lastPlugin == nil {
		p, ok := sdkCurrentState.pluginContexts[id]
		if !ok {
			panic("invalid plugin context id")
		}
		lastRoot, lastPlugin = id, p.context
	}
	return lastPlugin
}

// forgetRoot forgets a root context that is about to be deleted.
func forgetRoot(id uint32) {
	if id == lastRoot {
		lastRoot, lastPlugin = 0, nil
	}
}

// A slot of the table of streams; id 0, which no stream has, marks a free one.
type slot struct {
	id      uint32
	context types.HttpContext
}

// streams is an open-addressed table with linear probing, at most half full, its length a
// power of two. Ids are counted up, so the id itself is the hash.
var (
	streams = make([]slot, 64)
	live    int
)

// A host that knows the extension wproxy_stream_slots_v1 has called streamSlots, and slotted
// is true. A stream's id then has the index of a place in its lower bits, and above them
// a number by which streams in the same place differ. There is no call when a stream
// begins or ends: a callback with another number means that a new stream has taken the place
// of one that has ended. on_context_create tells the root context of a place, and on_delete
// frees it.
var places []place

// slotted is for plugins that keep something for each slot, too: they know it by a fixed name, as
// room.
//
//go:linkname slotted wproxy_adapter.slotted
var slotted bool

const placeBits = 20

// A place has the current stream of a slot of the host.
type place struct {
	plugin  types.PluginContext // of the root context; nil: not in use
	id      uint32
	context types.HttpContext
}

// take makes room for a place of the root context.
func take(id, root uint32) {
	i := int(id & (1<<placeBits - 1))
	for i >= len(places) {
		places = append(places, place{})
	}
	places[i] = place{plugin: pluginContext(root)}
}

// in makes the context of the stream that is in a place now.
func (p *place) in(id uint32) types.HttpContext {
	if p.plugin == nil {
		panic("invalid context id")
	}
	c := p.plugin.NewHttpContext(id)
	if c == nil {
		panic("invalid context id on proxy_on_context_create")
	}
	p.id, p.context = id, c
	return c
}

// find returns the index of the slot of a stream, or of the free one where it would go.
func find(id uint32) uint32 {
	mask := uint32(len(streams) - 1)
	i := id & mask
	for streams[i].id != id && streams[i].id != 0 {
		i = (i + 1) & mask
	}
	return i
}

// createStream makes the context of a stream.
func createStream(id, root uint32) {
	if slotted {
		take(id, root)
		return
	}
	c := pluginContext(root).NewHttpContext(id)
	if c == nil {
		panic("invalid context id on proxy_on_context_create")
	}
	if 2*(live+1) > len(streams) {
		old := streams
		streams = make([]slot, 2*len(old))
		for i := range old {
			if old[i].id != 0 {
				streams[find(old[i].id)] = old[i]
			}
		}
	}
	s := &streams[find(id)]
	if s.id == id {
		panic("context id duplicated")
	}
	s.id, s.context = id, c
	live++
}

// stream returns the context of a stream.
func stream(id uint32) types.HttpContext {
	if slotted {
		p := &places[id&(1<<placeBits-1)]
		if p.id == id { // not the first callback of a stream
			return p.context
		}
		return p.in(id)
	}
	s := &streams[find(id)]
	if s.id != id {
		panic("invalid context id")
	}
	return s.context
}

// hasStream reports whether there is a stream with that id.
func hasStream(id uint32) bool {
	if slotted { // root contexts have ids without a number
		return id>>placeBits != 0
	}
	return id != 0 && streams[find(id)].id == id
}

// deleteStream deletes a stream that is there, and closes the gap in its run of slots, so that
// no look-up ends there early.
func deleteStream(id uint32) {
	if slotted {
		places[id&(1<<placeBits-1)] = place{}
		return
	}
	mask := uint32(len(streams) - 1)
	gap := find(id)
	for i := (gap + 1) & mask; streams[i].id != 0; i = (i + 1) & mask {
		// A slot may move to the gap if that is not before its own place.
		if (i-streams[i].id)&mask >= (i-gap)&mask {
			streams[gap] = streams[i]
			gap = i
		}
	}
	streams[gap] = slot{}
	live--
}
