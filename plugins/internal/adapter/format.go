package adapter

// The SDK uses package fmt for the messages of its panics and for Log…f: with that come os,
// reflect's machinery and much more, a third of a module, and plugins that format nothing pay
// for it too. For those `plugin build` puts this file in the place of package fmt, which is why
// it imports nothing.

// sprintf is Sprintf, as far as the SDK's own messages need it: %s, %d and %v of texts, errors
// and whole numbers.
func sprintf(format string, args []any) string {
	var out []byte
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) || len(args) == 0 {
			out = append(out, format[i])
			continue
		}
		i++
		out = appendValue(out, args[0])
		args = args[1:]
	}
	return string(out)
}

func appendValue(out []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		return append(out, v...)
	case error:
		return append(out, v.Error()...)
	case uint32:
		return appendNumber(out, uint64(v))
	case uint64:
		return appendNumber(out, v)
	case int64:
		if v < 0 {
			return appendNumber(append(out, '-'), -uint64(v))
		}
		return appendNumber(out, uint64(v))
	}
	return append(out, '?')
}

func appendNumber(out []byte, n uint64) []byte {
	if n >= 10 {
		out = appendNumber(out, n/10)
	}
	return append(out, byte('0'+n%10))
}
