package tabletest

import (
	"net/netip"
	"strconv"
	"time"

	"wproxy/host/plugintest"
)

// A connection is a TCP connection through the plugin: what the client sends, and then what
// the upstream does, if there is a connection to it. Both end their side after that.
type connection struct {
	Client     string `toml:"client"`      // address and port
	ServerName string `toml:"server_name"` // that the client asks for (TLS SNI)
	Send       any    `toml:"send"`        // a string, or a list of strings that arrive one by one
	Respond    any    `toml:"respond"`     // the same, of the upstream
}

// An expectConnection says what must have come of it.
type expectConnection struct {
	Joined   *bool `toml:"joined"`   // the upstream was connected to
	Upstream any   `toml:"upstream"` // what it has got
	Client   any   `toml:"client"`   // what the client has got
	Closed   any   `toml:"closed"`   // why the plugin, or its failure, has closed it; false: it was not
}

// check says what is wrong with a connection, or "".
func (c *connection) check() string {
	if why := checkBody(c.Send); why != "" {
		return "send: " + why
	}
	if why := checkBody(c.Respond); why != "" {
		return "respond: " + why
	}
	if c.Client != "" {
		if _, err := netip.ParseAddrPort(c.Client); err != nil {
			return "client: " + strconv.Quote(c.Client) + " is not an address with a port"
		}
	}
	return ""
}

// connect makes the connection of a step, once, and returns what came of it.
func (s *step) connect(c *comparer) *plugintest.TCPStream {
	x := c.p.Connect(plugintest.Connection{Client: s.Connection.Client, ServerName: s.Connection.ServerName})
	for _, piece := range pieces(s.Connection.Send) {
		x.Send(piece, false)
	}
	rest := c.calls(s.Calls)
	if s.Wait > 0 {
		c.p.Advance(time.Duration(s.Wait))
	}
	for _, piece := range pieces(s.Connection.Respond) {
		x.Respond(piece, false)
	}
	x.Send("", true)
	x.Respond("", true)
	for i := range rest {
		c.fail("call", "a call to "+rest[i].Upstream, "(none was made)")
	}
	x.Leave()
	return x
}

// connection compares what came of a connection.
func (c *comparer) connection(e *expect, x *plugintest.TCPStream) {
	if e == nil {
		return
	}
	if w := e.Connection; w != nil {
		up, client := x.Upstream(), x.Client()
		if w.Joined != nil && *w.Joined != up.Open {
			c.fail("joined (the upstream was connected to)", strconv.FormatBool(*w.Joined), strconv.FormatBool(up.Open))
		}
		c.value("what the upstream has got", w.Upstream, string(up.Data))
		c.value("what the client has got", w.Client, string(client.Data))
		reason, _ := x.Closed()
		c.value("closed", w.Closed, some(reason)...)
	}
	c.kept(e, x)
}
