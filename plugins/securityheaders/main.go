//go:build wasip1

package main

import (
	"wproxy/abi"
	"wproxy/plugins/internal/hostcall"

	"github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm"
	"github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/types"
)

func main() { proxywasm.SetVMContext(&vm{}) }

// vm is the VM context.
type vm struct{ types.DefaultVMContext }

func (*vm) NewPluginContext(uint32) types.PluginContext { return &plugin{} }

// plugin is the context of one set of settings. Without a nonce its streams have no
// state, and one httpContext serves them all.
type plugin struct {
	types.DefaultPluginContext
	policy *policy
	shared httpContext
	values hostcall.Values // the type of a response, and the scheme of its request
	media  []byte          // the type that was seen last
	chosen int             // the index of its policy in types; -1: it is policy

	// edits are the policy, and behind it those of its types, for a host that makes all edits
	// of a response in one call, without and with TLS; nil: the policy has a nonce, or the
	// host is another one.
	edits [][2][]byte
	nonce bool // some policy has one
}

func (p *plugin) OnPluginStart(size int) types.OnPluginStartStatus {
	var data []byte
	if size > 0 {
		var err error
		if data, err = proxywasm.GetPluginConfiguration(); err != nil {
			proxywasm.LogError("securityheaders: cannot read the settings: " + err.Error())
			return types.OnPluginStartStatusFailed
		}
	}
	policy, err := parseConfig(data)
	if err != nil {
		proxywasm.LogError("securityheaders: " + err.Error())
		return types.OnPluginStartStatusFailed
	}
	p.policy = policy
	p.shared.plugin = p
	p.chosen = policy.choose(nil)
	p.values = hostcall.NewValues(maxMedia+8,
		abi.ReadValue{Kind: abi.MapResponseHeaders, Name: "content-type"}, abi.ReadValue{Kind: abi.ReadProperty, Name: "request\x00scheme"})
	p.addEdits(policy)
	for _, t := range policy.types {
		p.addEdits(t.policy)
	}
	p.nonce = policy.anyNonce()
	switch { // another host calls all the same
	case leave(policy):
		hostcall.Foreign(abi.ForeignSkipCallbacks, []byte("proxy_on_request_headers\x00proxy_on_response_headers"))
	case !p.nonce: // requests are looked at for the nonce only
		hostcall.Foreign(abi.ForeignSkipCallbacks, []byte("proxy_on_request_headers"))
	}
	return types.OnPluginStartStatusOK
}

// leave has the host do by itself all that the callbacks would; false if it does not.
func leave(policy *policy) bool {
	if len(policy.types) > 0 || policy.anyNonce() {
		return hostcall.Foreign(abi.ForeignStandingList, abi.AppendStandingList(nil, policy.standing())) == hostcall.OK
	}
	if !policy.needsTLS {
		return hostcall.Foreign(abi.ForeignStandingEdits, abi.AppendStandingEdits(nil, abi.EditsAlways, policy.edits(false))) == hostcall.OK
	}
	// If only the first were taken, the callback would do the same again.
	return hostcall.Foreign(abi.ForeignStandingEdits, abi.AppendStandingEdits(nil, abi.EditsTLS, policy.edits(true))) == hostcall.OK &&
		hostcall.Foreign(abi.ForeignStandingEdits, abi.AppendStandingEdits(nil, abi.EditsWithout, policy.edits(false))) == hostcall.OK
}

// addEdits encodes the edits of a policy.
func (p *plugin) addEdits(policy *policy) {
	var edits [2][]byte
	if !policy.needsNonce {
		for tls := range edits {
			edits[tls] = abi.AppendFieldEdits(nil, abi.MapResponseHeaders, policy.edits(tls == 1))
		}
	}
	p.edits = append(p.edits, edits)
}

func (p *plugin) NewHttpContext(uint32) types.HttpContext {
	if !p.nonce {
		return &p.shared
	}
	return &httpContext{plugin: p}
}

// httpContext is the context of one exchange.
type httpContext struct {
	types.DefaultHttpContext
	plugin *plugin
	nonce  string // "" until it is needed
}

func (c *httpContext) OnHttpRequestHeaders(int, bool) types.Action {
	if c.plugin.nonce {
		c.nonce = newNonce()
		// Also replaces what a client sent: only the real nonce gets into pages.
		if err := proxywasm.ReplaceHttpRequestHeader(nonceHeader, c.nonce); err != nil {
			proxywasm.LogError("securityheaders: cannot pass the nonce on: " + err.Error())
		}
	}
	return types.ActionContinue
}

// OnHttpResponseHeaders is also called for answers that the proxy makes itself, some of
// which had no OnHttpRequestHeaders.
func (c *httpContext) OnHttpResponseHeaders(int, bool) types.Action {
	p := c.plugin
	policy, index := p.policy, 0
	p.values.Read()
	if len(policy.types) > 0 {
		if i := p.choose(); i >= 0 {
			policy, index = policy.types[i].policy, i+1
		}
	}
	overTLS := policy.needsTLS && p.overTLS()
	if p.editAll(index, overTLS) {
		return types.ActionContinue
	}
	nonce := c.nonce
	if policy.needsNonce && nonce == "" {
		nonce = newNonce()
	}
	policy.apply(&responseHeaders{}, overTLS, nonce)
	return types.ActionContinue
}

// maxMedia is the longest type of a response whose policy is remembered.
const maxMedia = 64

// choose returns the index of the policy for the response, or -1. Most have the same type as the
// one before.
func (p *plugin) choose() int {
	media, _ := p.values.Get(0)
	if string(media) == string(p.media) {
		return p.chosen
	}
	i := p.policy.choose(media)
	if len(media) <= maxMedia {
		p.media, p.chosen = append(p.media[:0], media...), i
	}
	return i
}

// editAll applies a policy in one call; false if that cannot be done here.
func (p *plugin) editAll(index int, overTLS bool) bool {
	args := p.edits[index][0]
	if overTLS {
		args = p.edits[index][1]
	}
	if args == nil {
		return false
	}
	switch hostcall.Foreign(abi.ForeignEditFields, args) {
	case hostcall.OK:
	case hostcall.BadArgument:
		proxywasm.LogError("securityheaders: the host refuses to set one of the fields")
	default:
		clear(p.edits)
		return false
	}
	return true
}

// overTLS reports whether the client's request came over TLS.
func (p *plugin) overTLS() bool {
	if scheme, ok := p.values.Get(1); ok {
		return string(scheme) == "https"
	}
	_, ok := hostcall.Property(nil, "connection\x00tls_version")
	return ok
}

// newNonce makes a nonce. Without randomness there is no safe one; the trap takes the
// plugin's failure policy.
func newNonce() string {
	var b [nonceSize]byte
	if !hostcall.Random(b[:]) {
		panic("securityheaders: the host has no random bytes for a nonce")
	}
	return nonceText(b)
}

// responseHeaders are the fields of the current response. Its methods have pointer
// receivers because a call through an interface is then one call in a guest, and not two.
type responseHeaders struct{}

func (*responseHeaders) Has(name string) bool {
	_, err := proxywasm.GetHttpResponseHeader(name)
	return err == nil
}

func (*responseHeaders) Set(name, value string) {
	if hostcall.SetResponseHeader(name, value) != hostcall.OK {
		proxywasm.LogError("securityheaders: the host refuses to set " + name)
	}
}

func (*responseHeaders) Remove(name string) {
	if err := proxywasm.RemoveHttpResponseHeader(name); err != nil {
		proxywasm.LogError("securityheaders: cannot remove " + name + ": " + err.Error())
	}
}
