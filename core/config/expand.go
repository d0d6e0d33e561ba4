package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// An expander resolves ${env:NAME} and ${file:/path} in strings.
type expander struct {
	env   func(name string) (string, bool)
	files []string // that were read
}

// newExpander returns an expander that reads the process's environment and files.
func newExpander() *expander { return &expander{env: os.LookupEnv} }

// expand resolves the references in s; dir is what relative paths are relative
// to. "$${" is a literal "${". Other uses of "$", such as the $1 and ${1} of
// rewrites, stay as they are.
func (x *expander) expand(s, dir string) (Value, error) {
	if !strings.Contains(s, "${") {
		return Plain(s), nil
	}
	var out strings.Builder
	var refs []reference
	for rest := s; ; {
		i := strings.Index(rest, "${")
		if i < 0 {
			out.WriteString(rest)
			break
		}
		if i > 0 && rest[i-1] == '$' {
			out.WriteString(rest[:i-1] + "${")
			rest = rest[i+2:]
			continue
		}
		end := strings.IndexByte(rest[i:], '}')
		scheme, arg, ok := "", "", false
		if end > 0 {
			scheme, arg, ok = strings.Cut(rest[i+2:i+end], ":")
		}
		if !ok {
			out.WriteString(rest[:i+2])
			rest = rest[i+2:]
			continue
		}
		v, err := x.resolve(scheme, arg, dir)
		if err != nil {
			return Value{}, err
		}
		refs = append(refs, reference{rest[i : i+end+1], v})
		out.WriteString(rest[:i] + v)
		rest = rest[i+end+1:]
	}
	if refs == nil {
		return Plain(out.String()), nil
	}
	return Value{text: s, content: out.String(), refs: refs}, nil
}

// resolve returns what one reference stands for.
func (x *expander) resolve(scheme, arg, dir string) (string, error) {
	ref := "${" + scheme + ":" + arg + "}"
	switch scheme {
	case "env":
		v, ok := x.env(arg)
		if !ok {
			return "", fmt.Errorf("%s: the environment has no variable %s; set it where wproxy is started", ref, arg)
		}
		return v, nil
	case "file":
		path := arg
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		x.files = append(x.files, path)
		content, err := readFile(path, maxSecretSize)
		if err != nil {
			return "", fmt.Errorf("%s: %w; a relative path is from the directory of the file that names it", ref, err)
		}
		return strings.TrimRight(string(content), "\r\n"), nil
	default:
		return "", fmt.Errorf("%s: unknown reference; ${env:NAME} and ${file:/path} are known, $${ is a literal ${", ref)
	}
}
