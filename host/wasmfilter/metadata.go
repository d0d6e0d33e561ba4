package wasmfilter

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"wproxy/abi"
)

// metadata appends a value of the route's metadata, which guests find below
// route_metadata.filter_metadata, as with Envoy.
func (v *view) metadata(dst []byte, path string) ([]byte, bool) {
	first, path, more := abi.CutPath(path)
	if first != "filter_metadata" || v.route == nil {
		return dst, false
	}
	var value any = v.route.Metadata
	for depth := 0; more && depth < maxMetadataDepth; depth++ {
		var part string
		part, path, more = abi.CutPath(path)
		switch x := value.(type) {
		case map[string]any:
			next, ok := x[part]
			if !ok {
				return dst, false
			}
			value = next
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(x) {
				return dst, false
			}
			value = x[i]
		default:
			return dst, false
		}
	}
	return appendValue(dst, value, 0), !more
}

// metadataMessage appends all of it as an envoy.config.core.v3.Metadata, whose field 1 is
// a map from names to structs.
func (v *view) metadataMessage(dst []byte) ([]byte, bool) {
	const filterMetadata, key, value = 1, 1, 2
	if v.route == nil {
		return dst, false
	}
	for _, name := range slices.Sorted(maps.Keys(v.route.Metadata)) {
		m, ok := v.route.Metadata[name].(map[string]any)
		if !ok { // no struct: what is not below a name of its own has no place there
			continue
		}
		s := abi.AppendStruct(nil, m, maxMetadataDepth, func(v any) string { return fmt.Sprint(v) })
		entry := abi.AppendProtoBytes(abi.AppendProtoBytes(nil, key, name), value, string(s))
		dst = abi.AppendProtoBytes(dst, filterMetadata, string(entry))
	}
	return dst, true
}

// appendValue appends a value of the configuration as a property (abi.md 3.3).
// Numbers are doubles, as in the structs that guests know from Envoy.
func appendValue(dst []byte, value any, depth int) []byte {
	if depth > maxMetadataDepth {
		return dst
	}
	switch x := value.(type) {
	case string:
		return append(dst, x...)
	case bool:
		return abi.AppendBool(dst, x)
	case int:
		return abi.AppendDouble(dst, float64(x))
	case int64:
		return abi.AppendDouble(dst, float64(x))
	case float64:
		return abi.AppendDouble(dst, x)
	case map[string]any:
		pairs := make([]abi.Pair, 0, len(x))
		for _, k := range slices.Sorted(maps.Keys(x)) {
			pairs = append(pairs, abi.Pair{Name: k, Value: string(appendValue(nil, x[k], depth+1))})
		}
		return abi.AppendPairs(dst, pairs)
	case []any:
		pairs := make([]abi.Pair, 0, len(x))
		for _, e := range x {
			pairs = append(pairs, abi.Pair{Name: string(appendValue(nil, e, depth+1))})
		}
		return abi.AppendPairs(dst, pairs)
	}
	return fmt.Append(dst, value) // dates and times of the configuration
}
