package host

import (
	"strings"

	"github.com/tetratelabs/wazero/api"
)

// signature writes the type of a function: parameters, and after '>' results; i is
// i32, I i64, f f32, F f64, ? anything else.
func signature(def api.FunctionDefinition) string {
	var b []byte
	for _, t := range def.ParamTypes() {
		b = append(b, typeLetter(t))
	}
	for i, t := range def.ResultTypes() {
		if i == 0 {
			b = append(b, '>')
		}
		b = append(b, typeLetter(t))
	}
	if len(b) == 0 {
		return "()"
	}
	return string(b)
}

// typeText writes a signature for people: "ii>I" is (i32, i32) -> i64.
func typeText(sig string) string {
	params, results, more := strings.Cut(strings.Trim(sig, "()"), ">")
	text := "(" + typeNames(params) + ")"
	switch {
	case len(results) > 1:
		return text + " -> (" + typeNames(results) + ")"
	case more:
		return text + " -> " + typeNames(results)
	}
	return text
}

// typeNames writes the types that letters stand for, with commas between them.
func typeNames(letters string) string {
	var s strings.Builder
	for i := range len(letters) {
		if i > 0 {
			s.WriteString(", ")
		}
		switch letters[i] {
		case 'i':
			s.WriteString("i32")
		case 'I':
			s.WriteString("i64")
		case 'f':
			s.WriteString("f32")
		case 'F':
			s.WriteString("f64")
		default:
			s.WriteString("another type")
		}
	}
	return s.String()
}

func typeLetter(t api.ValueType) byte {
	switch t {
	case api.ValueTypeI32:
		return 'i'
	case api.ValueTypeI64:
		return 'I'
	case api.ValueTypeF32:
		return 'f'
	case api.ValueTypeF64:
		return 'F'
	}
	return '?'
}

// typeTexts writes signatures of which each will do.
func typeTexts(sigs []string) string {
	texts := make([]string, len(sigs))
	for i, s := range sigs {
		texts[i] = typeText(s)
	}
	return strings.Join(texts, " or ")
}
