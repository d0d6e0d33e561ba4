package exchangetest

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Case is one case of testdata/h1; see the README there for what the keys mean.
type Case struct {
	Name   string
	Line   int    // of the file
	Send   string // bytes, escapes resolved
	FIN    bool   // end: fin
	Status []int
	Reason string
	Open   bool // then: open

	// Requests.
	Sees   []SeenRequest
	Partly *SeenRequest
	Slash  bool

	// Responses.
	Method  string // "GET" if not given
	Upgrade string
	Body    string
	Cut     bool

	Fields [][2]string
	Hidden []string
}

// A SeenRequest is a request as an upstream must see it.
type SeenRequest struct{ Method, Target, Authority, Body string }

// ReadCorpus reads a file of testdata/h1. The error names file and line.
func ReadCorpus(file string) ([]Case, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var cases []Case
	names := map[string]bool{}
	for i, l := range strings.Split(string(text), "\n") {
		key, value, _ := strings.Cut(l, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case strings.TrimSpace(l) == "" || l[0] == '#':
			continue
		case key == "case":
			if names[value] {
				return nil, fmt.Errorf("%s:%d: two cases called %q", file, i+1, value)
			}
			names[value] = true
			cases = append(cases, Case{Name: value, Line: i + 1, Method: "GET"})
			continue
		case len(cases) == 0:
			return nil, fmt.Errorf("%s:%d: no case yet", file, i+1)
		}
		if err := cases[len(cases)-1].set(key, value); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, i+1, err)
		}
	}
	return cases, nil
}

func (c *Case) set(key, value string) (err error) {
	switch key {
	case "send":
		s, err := expand(value)
		c.Send += s
		return err
	case "end":
		c.FIN = true
		return oneOf(value, "fin")
	case "status":
		for s := range strings.FieldsSeq(value) {
			n, err := strconv.Atoi(s)
			if err != nil {
				return err
			}
			c.Status = append(c.Status, n)
		}
	case "reason":
		c.Reason = value
	case "then":
		c.Open = value == "open"
		return oneOf(value, "open", "closed")
	case "sees":
		s, err := seen(value)
		c.Sees = append(c.Sees, s)
		return err
	case "partly":
		s, err := seen(value)
		c.Partly = &s
		return err
	case "slash":
		c.Slash = true
		return oneOf(value, "yes")
	case "cut":
		c.Cut = true
		return oneOf(value, "yes")
	case "method":
		c.Method = value
	case "upgrade":
		c.Upgrade = value
	case "body":
		c.Body, err = strconv.Unquote(value)
		return err
	case "fields":
		name, v, ok := strings.Cut(value, ": ")
		if !ok {
			return errors.New("fields: want name: value")
		}
		c.Fields = append(c.Fields, [2]string{name, v})
	case "hidden":
		c.Hidden = append(c.Hidden, value)
	default:
		return fmt.Errorf("unknown key %q", key)
	}
	return nil
}

func oneOf(value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("got %q, want one of %v", value, allowed)
}

func seen(value string) (SeenRequest, error) {
	f := strings.SplitN(value, " ", 4)
	if len(f) != 4 {
		return SeenRequest{}, errors.New(`want METHOD target authority "body"`)
	}
	body, err := strconv.Unquote(f[3])
	return SeenRequest{f[0], f[1], f[2], body}, err
}

// expand resolves repetitions, inner ones first, and escapes.
func expand(s string) (string, error) {
	repeat := regexp.MustCompile(`\{\{([^{}]*)\*(\d+)\}\}`)
	for {
		m := repeat.FindStringSubmatchIndex(s)
		if m == nil {
			break
		}
		n, err := strconv.Atoi(s[m[4]:m[5]])
		if err != nil {
			return "", err
		}
		s = s[:m[0]] + strings.Repeat(s[m[2]:m[3]], n) + s[m[1]:]
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if i++; i == len(s) {
			return "", errors.New("escape at the end of the line")
		}
		switch s[i] {
		case 'r':
			b.WriteByte('\r')
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case '0':
			b.WriteByte(0)
		case '\\':
			b.WriteByte('\\')
		case 'x':
			if i+2 >= len(s) {
				return "", errors.New("cut \\x")
			}
			v, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", err
			}
			b.WriteByte(byte(v))
			i += 2
		default:
			return "", fmt.Errorf("unknown escape \\%c", s[i])
		}
	}
	return b.String(), nil
}
