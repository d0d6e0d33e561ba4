package plugintest

import (
	"errors"
	"slices"
	"testing/synctest"

	"wproxy/core/exchange"
	"wproxy/core/filter"
)

// What an engine does for plugins that store messages (filter.Streamer).

var _ filter.Streamer = (*engine)(nil)

// entry returns where an answer of a filter enters.
func (e *engine) entry(from filter.Filter) (int, exchange.Sink[*exchange.Response], error) {
	i := slices.Index(e.filters, from)
	if i < 0 {
		return 0, nil, errors.New("plugintest: answer from a filter that is not in the chain")
	}
	return i, e.responses[i], nil
}

// Stream implements filter.Streamer.
func (e *engine) Stream(from filter.Filter, head *exchange.Response, reason string, p filter.Pusher) error {
	_, to, err := e.entry(from)
	if err != nil {
		return err
	}
	if !e.claim() {
		return exchange.ErrAnswered
	}
	e.x.Mu.Lock()
	e.x.Response, e.x.Reason = head, reason
	e.x.Mu.Unlock()
	return p.Push(to)
}

// MayFill implements filter.Streamer.
func (e *engine) MayFill(f filter.Filling) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.filling = f
	return true
}

// Fill implements filter.Streamer.
func (e *engine) Fill(f filter.Filling) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.filling = f
	e.fills.Add(1)
	return true
}

// Filled implements filter.Streamer.
func (e *engine) Filled() { e.fills.Done() }

// cutFilling tells who has the response that no more of it will come, and waits for its client.
func (e *engine) cutFilling() {
	e.mu.Lock()
	f := e.filling
	e.mu.Unlock()
	if f != nil {
		f.Cut(e.response.error())
		e.fills.Wait()
	}
}

// Refresh implements filter.Streamer.
func (e *engine) Refresh(from filter.Filter) bool {
	i, _, err := e.entry(from)
	if err != nil || e.refresh == nil {
		return false
	}
	h := e.x.Request
	e.x.Mu.Lock()
	req := Request{Method: h.Method, Scheme: h.Scheme, Authority: h.Authority, Path: h.Target, Protocol: h.Version.String(), Fields: drain(&h.Fields)}
	e.x.Mu.Unlock()
	return e.refresh(i, req)
}

// Refreshes returns the exchanges without a client that plugins have begun
// (wproxy.exchange.v1.refresh), as far as they have not been returned before. What a client gets of
// them goes nowhere; the test answers as their upstream, and finishes them.
func (p *Plugin) Refreshes() []*Stream {
	synctest.Wait()
	p.sink.mu.Lock()
	defer p.sink.mu.Unlock()
	list := p.sink.refreshes
	p.sink.refreshes = nil
	return list
}

// Stored returns how many messages plugins have stored that can be found, and the bytes that they
// and those that are still being read take.
func (p *Plugin) Stored() (messages int, bytes int64) {
	bytes, messages = p.sink.objects.Space(p.plugin.VMID()).Used()
	return messages, bytes
}

// Purge removes the messages of the plugin whose keys begin with prefix, and returns how many.
func (p *Plugin) Purge(prefix string) int {
	return p.sink.objects.Space(p.plugin.VMID()).DeletePrefix(prefix)
}
