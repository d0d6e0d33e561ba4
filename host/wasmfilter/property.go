package wasmfilter

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
)

// Property implements host.Stream: the well-known properties (abi.md 6.1), and
// below them the bag that the plugins of the exchange share. plugin_* are the host's.
func (s *stream) Property(dst []byte, path string) ([]byte, bool) {
	x := s.f.x
	x.Mu.Lock()
	defer x.Mu.Unlock()
	switch path { // what limits and metrics ask for at each request, without a detour
	case "route_name":
		if r := s.f.route; r != nil {
			return append(dst, r.Name...), true
		}
	case "source\x00address":
		if out, ok := (&view{x: x}).address(dst, "source", "address"); ok {
			return out, true
		}
	case abi.PropertyClientAddress:
		return clientAddress(dst, x)
	case abi.PropertyWatched:
		if w := s.f.factory.watch; w != nil && s.f.told.Load() {
			return w.AppendProperty(dst, &s.f.watched), true
		}
		return dst, false
	case abi.PropertyPassed:
		if s.f.factory.passes && s.f.told.Load() {
			return s.f.appendPassed(dst), true
		}
		return dst, false
	case abi.PropertyRefresh:
		if x.Refresh {
			return append(dst, '1'), true
		}
		return dst, false
	case "request\x00scheme":
		return append(dst, s.f.shownRequest().Scheme...), true
	}
	v := view{
		x: x, head: s.f.shownRequest(), outcome: &s.f.outcome, route: s.f.route, status: s.f.status, reason: s.f.reason, final: s.f.final,
		requestTrailers: s.f.req.trailer, responseTrailers: s.f.resp.trailer,
	}
	if s.f.resp.stage != stageNone {
		v.response = s.f.resp.head
	}
	return v.property(dst, abi.TrimPath(path))
}

// property appends the value of the property at path.
func (v *view) property(dst []byte, path string) ([]byte, bool) {
	first, rest, more := abi.CutPath(path)
	known := wellKnown(first, more)
	if first == "xds" && more { // the newer spelling of what stood at the top
		first, rest, more = abi.CutPath(rest)
		if !inXDS(first) {
			return dst, false
		}
	}
	var out []byte
	var ok bool
	if more {
		out, ok = v.group(dst, first, rest)
	} else {
		out, ok = v.top(dst, first)
	}
	if ok {
		return out, true
	}
	if known {
		return dst, false
	}
	if value, found := v.x.Prop(path); found {
		return append(dst, value...), true
	}
	return dst, false
}

// wellKnown reports whether a property is the host's to tell: one that is not there is
// not read from what plugins have set, or the first of them could make up for those
// behind it what they take for facts.
func wellKnown(first string, more bool) bool {
	switch first {
	case "request", "response", "source", "destination", "connection", "upstream", "route_metadata", "xds", "filter_state",
		"node", "cluster_metadata", "listener_metadata", "upstream_host_metadata":
		return true
	case "route_name", "cluster_name", "connection_id", "listener_direction", "listener_name",
		"plugin_name", "plugin_root_id", "plugin_vm_id", "plugin_vm_memory":
		return !more
	}
	return false
}

// inXDS reports whether a property has a name below xds. Those of Envoy that nothing
// here stands for (node, virtual_host_name, ...) are not found.
func inXDS(name string) bool {
	switch name {
	case "route_name", "route_metadata", "cluster_name", "listener_direction", "listener_name":
		return true
	}
	return false
}

// group appends a property that has a group in front of its name.
func (v *view) group(dst []byte, group, name string) ([]byte, bool) {
	switch group {
	case "request":
		return v.request(dst, name)
	case "response":
		return v.responseProp(dst, name)
	case "source", "destination":
		return v.address(dst, group, name)
	case "connection":
		return v.connection(dst, name)
	case "upstream":
		return v.upstream(dst, name)
	case "route_metadata":
		return v.metadata(dst, name)
	case "filter_state":
		return v.filterState(dst, name)
	}
	return dst, false
}

// filterState appends what a plugin has set: by set_envoy_filter_state under its name,
// and by set_property with "wasm." in front of it, as in Envoy.
func (v *view) filterState(dst []byte, name string) ([]byte, bool) {
	path := abi.JoinPath("filter_state", name)
	if own, ok := strings.CutPrefix(name, "wasm."); ok {
		path = own
	}
	value, ok := v.x.Prop(path)
	return append(dst, value...), ok
}

// filterStates appends all of it, as a map.
func (v *view) filterStates(dst []byte) []byte {
	var pairs []abi.Pair
	for _, p := range v.x.Props() {
		name, ok := strings.CutPrefix(p.Path, "filter_state\x00")
		if !ok {
			name = "wasm." + p.Path
		}
		pairs = append(pairs, abi.Pair{Name: name, Value: string(p.Value)})
	}
	return abi.AppendPairs(dst, pairs)
}

// top appends a property that has no group.
func (v *view) top(dst []byte, name string) ([]byte, bool) {
	switch name {
	case "route_name":
		if v.route != nil {
			return append(dst, v.route.Name...), true
		}
	case "cluster_name":
		return v.cluster(dst)
	case "route_metadata":
		return v.metadataMessage(dst)
	case "filter_state":
		return v.filterStates(dst), true
	case "connection_id":
		return v.connection(dst, "id")
	case "listener_direction":
		return abi.AppendInt(dst, 1), true // inbound
	case "listener_name":
		if c := v.x.Request.Conn; c != nil {
			return text(dst, c.Listener)
		}
	}
	return dst, false
}

// cluster appends the name of the upstream: of the one that was tried, or else of the
// only one there is on the route.
func (v *view) cluster(dst []byte) ([]byte, bool) {
	if v.outcome.Cluster == "" && v.route != nil {
		return text(dst, v.route.Cluster)
	}
	return text(dst, v.outcome.Cluster)
}

// text appends s if there is any.
func text(dst []byte, s string) ([]byte, bool) {
	return append(dst, s...), s != ""
}

func (v *view) request(dst []byte, name string) ([]byte, bool) {
	r := v.head
	switch name {
	case "path":
		return append(dst, r.Target...), true
	case "url_path":
		return append(dst, r.Path()...), true
	case "query":
		q, _ := r.Query()
		return append(dst, q...), true
	case "host":
		return append(dst, r.Authority...), true
	case "scheme":
		return append(dst, r.Scheme...), true
	case "method":
		return append(dst, r.Method...), true
	case "protocol":
		return append(dst, r.Version.String()...), true
	case "referer":
		return field(dst, &r.Fields, "referer")
	case "useragent":
		return field(dst, &r.Fields, "user-agent")
	case "id":
		if out, ok := field(dst, &r.Fields, "x-request-id"); ok {
			return out, true
		}
		return text(dst, v.x.RequestID)
	case "time":
		return abi.AppendTime(dst, v.x.Start), true
	case "duration":
		return abi.AppendDuration(dst, v.x.Finished.Sub(v.x.Start)), v.final
	case "size":
		return v.size(dst, v.x.BytesIn, r.Length)
	case "headers_bytes":
		return abi.AppendInt(dst, v.requestHeadBytes()), true
	case "total_size":
		return abi.AppendInt(dst, v.requestHeadBytes()+v.x.BytesIn), v.final
	}
	return headers(dst, &r.Fields, "headers", name)
}

func (v *view) requestHeadBytes() int64 {
	r := v.head
	return int64(r.Fields.Size() + len(r.Target) + len(r.Authority) + len(r.Method) + len(r.Scheme))
}

// size appends the size of a body: of all of it once that is known, else what its
// head has announced.
func (v *view) size(dst []byte, counted, announced int64) ([]byte, bool) {
	if v.final {
		return abi.AppendInt(dst, counted), true
	}
	return abi.AppendInt(dst, announced), announced >= 0
}

func (v *view) responseProp(dst []byte, name string) ([]byte, bool) {
	r := v.response
	if name == "backend_latency" {
		return abi.AppendDuration(dst, v.outcome.FirstByteTime), v.outcome.FirstByteTime > 0
	}
	if name == "code" {
		return abi.AppendInt(dst, int64(v.status)), v.status != 0
	}
	if r == nil {
		return dst, false
	}
	switch name {
	case "code_details":
		if v.reason == "" {
			return append(dst, "via_upstream"...), v.final
		}
		return append(dst, v.reason...), true
	case "flags":
		return abi.AppendInt(dst, 0), true
	case "grpc_status":
		return v.grpcStatus(dst)
	case "size":
		return v.size(dst, v.x.BytesOut, r.Length)
	case "headers_bytes":
		return abi.AppendInt(dst, int64(r.Fields.Size())), true
	case "total_size":
		return abi.AppendInt(dst, int64(r.Fields.Size())+v.x.BytesOut), v.final
	}
	if v.responseTrailers != nil {
		if out, ok := headers(dst, v.responseTrailers, "trailers", name); ok {
			return out, true
		}
	}
	return headers(dst, &r.Fields, "headers", name)
}

func (v *view) grpcStatus(dst []byte) ([]byte, bool) {
	s := v.response.Fields.Value("grpc-status")
	if v.responseTrailers != nil {
		if t, ok := v.responseTrailers.Get("grpc-status"); ok {
			s = t
		}
	}
	n, err := strconv.ParseInt(s, 10, 32)
	return abi.AppendInt(dst, n), err == nil
}

// field appends the value of a field; lines of the same name are joined.
func field(dst []byte, f *exchange.Fields, name string) ([]byte, bool) {
	found := false
	for _, x := range f.List() {
		if !sameName(name, x.Name) {
			continue
		}
		if found {
			dst = append(dst, ',')
		}
		dst, found = append(dst, x.Value...), true
	}
	return dst, found
}

// headers appends a whole map, or one field of it: path is its name, or that and
// the name of a field.
func headers(dst []byte, f *exchange.Fields, name, path string) ([]byte, bool) {
	first, key, more := abi.CutPath(path)
	if first != name {
		return dst, false
	}
	if more {
		return field(dst, f, key)
	}
	pairs := make([]abi.Pair, 0, f.Len())
	for _, x := range f.List() {
		pairs = append(pairs, abi.Pair(x))
	}
	return abi.AppendPairs(dst, pairs), true
}

// address appends addresses and ports of the client, after trust_proxy, and of the
// listener.
func (v *view) address(dst []byte, group, name string) ([]byte, bool) {
	c := v.x.Request.Conn
	if c == nil {
		return dst, false
	}
	a, s := c.Local, c.LocalAddr
	if group == "source" {
		a, s = c.Remote, c.RemoteAddr
		// Compared without the 4-in-6 form, which is the same address.
		if v.x.ClientAddr.IsValid() && v.x.ClientAddr.Unmap() != a.Addr().Unmap() {
			a = netip.AddrPortFrom(v.x.ClientAddr, 0) // a proxy in front does not tell the port
			s = ""
		}
	}
	switch name {
	case "address":
		if s == "" {
			return a.AppendTo(dst), a.IsValid()
		}
		return append(dst, s...), true
	case "port":
		return abi.AppendInt(dst, int64(a.Port())), true
	}
	return dst, false
}

// clientAddress appends the client's address, after trust_proxy, as 4 or 16 bytes.
func clientAddress(dst []byte, x *filter.Exchange) ([]byte, bool) {
	switch a := clientAddr(x).Unmap(); {
	case a.Is4():
		b := a.As4()
		return append(dst, b[:]...), true
	case a.Is6():
		b := a.As16()
		return append(dst, b[:]...), true
	}
	return dst, false
}

func (v *view) connection(dst []byte, name string) ([]byte, bool) {
	c := v.x.Request.Conn
	if c == nil {
		return dst, false
	}
	switch name {
	case "id":
		return abi.AppendUint(dst, c.ID), true
	case "mtls":
		return abi.AppendBool(dst, c.TLS != nil && len(c.TLS.VerifiedChains) > 0), true
	case "requested_server_name":
		if c.TLS != nil {
			return text(dst, c.TLS.ServerName)
		}
		if c.Proxied != nil && c.Proxied.Authority != "" { // somebody else has ended TLS
			return text(dst, c.Proxied.Authority)
		}
	case "tls_version":
		if c.TLS != nil {
			return append(dst, tlsVersion(c.TLS.Version)...), true
		}
	default:
		if name, ok := strings.CutSuffix(name, "_local_certificate"); ok && c.Certificate != nil {
			return peerCertificate(dst, c.Certificate, name+"_peer_certificate")
		}
		if c.TLS != nil && len(c.TLS.VerifiedChains) > 0 {
			return peerCertificate(dst, c.TLS.PeerCertificates[0], name)
		}
	}
	return dst, false
}

// peerCertificate appends a property of the certificate that the client has shown, which
// was verified.
func peerCertificate(dst []byte, c *x509.Certificate, name string) ([]byte, bool) {
	switch name {
	case "subject_peer_certificate":
		return text(dst, c.Subject.String())
	case "dns_san_peer_certificate":
		if len(c.DNSNames) > 0 {
			return text(dst, c.DNSNames[0])
		}
	case "uri_san_peer_certificate":
		if len(c.URIs) > 0 {
			return text(dst, c.URIs[0].String())
		}
	case "sha256_peer_certificate_digest":
		sum := sha256.Sum256(c.Raw)
		return hex.AppendEncode(dst, sum[:]), true
	case "peer_certificate":
		p := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
		return append(dst, strings.ReplaceAll(url.QueryEscape(p), "+", "%20")...), true
	}
	return dst, false
}

// tlsVersion names a version as Envoy does.
func tlsVersion(v uint16) string {
	switch v {
	case 0x0303:
		return "TLSv1.2"
	case 0x0304:
		return "TLSv1.3"
	}
	return "TLSv1." + strconv.Itoa(int(v)-0x0301)
}

// upstream appends what is known of the upstream: once it has answered, or the
// engine has answered for it.
func (v *view) upstream(dst []byte, name string) ([]byte, bool) {
	o := v.outcome
	switch name {
	case "address":
		return text(dst, o.Address)
	case "port":
		i := strings.LastIndexByte(o.Address, ':')
		n, err := strconv.ParseUint(o.Address[i+1:], 10, 16)
		return abi.AppendInt(dst, int64(n)), i >= 0 && err == nil
	case "cluster":
		return v.cluster(dst)
	case "attempts", "request_attempt_count":
		return abi.AppendUint(dst, uint64(max(o.Attempts, 0))), v.status != 0
	case "failure", "transport_failure_reason":
		return append(dst, o.Failure...), v.status != 0
	case "connect_time", "cx_pool_ready_duration":
		return abi.AppendDuration(dst, o.ConnectTime), o.Attempts > 0
	case "first_byte_time":
		return abi.AppendDuration(dst, o.FirstByteTime), o.FirstByteTime > 0
	case "tls_version":
		if o.TLS != nil {
			return append(dst, tlsVersion(o.TLS.Version)...), true
		}
	default:
		if o.TLS != nil && len(o.TLS.PeerCertificates) > 0 {
			return peerCertificate(dst, o.TLS.PeerCertificates[0], name)
		}
	}
	return dst, false
}
