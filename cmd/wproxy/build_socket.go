package main

import (
	"net/netip"

	"go.uber.org/zap"

	"wproxy/core/config"
	"wproxy/core/listen"
)

// socketSettings returns what l does with the connections that it accepts.
func socketSettings(l *config.Listener) listen.Settings {
	s := listen.Settings{Socket: listen.Socket{
		ReusePort: l.ReusePort, Backlog: l.Backlog, Delay: !l.NoDelay, NoKeepAlive: l.KeepAlive.Idle == 0,
		KeepAlive: listen.KeepAlive{Idle: l.KeepAlive.Idle, Interval: l.KeepAlive.Interval, Count: l.KeepAlive.Count},
	}}
	if l.ProxyProtocol {
		s.Proxy = &listen.ProxyProtocol{Trust: l.TrustProxy, Timeout: l.Limits.HeaderTime}
	}
	return s
}

// proxyRefused is told about connections without a PROXY header, where there has to be one.
func (a *app) proxyRefused(listener string, peer netip.AddrPort, err *listen.ProxyError) {
	a.parts.metrics.ProxyRefused(listener, err.Reason)
	if log := a.log.Check(zap.DebugLevel, "no PROXY header"); log != nil {
		log.Write(zap.String("listener", listener), zap.Stringer("peer", peer), zap.String("reason", err.Reason), zap.Error(err.Err))
	}
}
