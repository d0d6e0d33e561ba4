package dial

import (
	"context"
	"net"
	"time"

	"github.com/pires/go-proxyproto"

	"wproxy/core/pool"
)

// introduce writes the PROXY header of a connection, the first bytes on it. ctx, which has a
// deadline, bounds it.
func introduce(ctx context.Context, nc net.Conn, version int, from pool.Source) error {
	h, err := proxyHeader(version, from)
	if err != nil {
		return err
	}
	if end, ok := ctx.Deadline(); ok {
		_ = nc.SetWriteDeadline(end) // fails on closed connections only, and then so does writing
	}
	if _, err := nc.Write(h); err != nil {
		return err
	}
	_ = nc.SetWriteDeadline(time.Time{}) // as above
	return nil
}

// proxyHeader returns a PROXY header. It is the peer that speaks for itself if from does
// not have both addresses.
func proxyHeader(version int, from pool.Source) ([]byte, error) {
	h := &proxyproto.Header{Version: 1, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}
	if from.Client.IsValid() && from.Server.IsValid() {
		h = proxyproto.HeaderProxyFromAddrs(1, net.TCPAddrFromAddrPort(from.Client), net.TCPAddrFromAddrPort(from.Server))
	}
	if version == ProxyV2 {
		h.Version = 2
	}
	return h.Format()
}
