package h1

import (
	"strings"
	"testing"
)

func TestCheckMethod(t *testing.T) {
	for m, want := range map[string]struct {
		status int
		reason string
	}{
		"GET": {}, "get": {}, "M-SEARCH": {}, "!#$%&'*+-.^_`|~09": {}, "OPTIONS": {}, strings.Repeat("A", maxMethod): {},
		"":                                   {400, ReasonBadRequestLine},
		"G T":                                {400, ReasonBadRequestLine},
		"GET ":                               {400, ReasonBadRequestLine},
		" GET":                               {400, ReasonBadRequestLine},
		"G\r\nT":                             {400, ReasonBadMethod},
		"G(T":                                {400, ReasonBadMethod},
		"GÉT":                                {400, ReasonBadMethod},
		"CONNECT":                            {501, ReasonConnect},
		strings.Repeat("A", maxMethod+1):     {501, ReasonBadMethod},
		strings.Repeat("A", maxMethod) + " ": {400, ReasonBadRequestLine},
	} {
		got := CheckMethod(m)
		switch {
		case got == nil && want.status != 0:
			t.Errorf("%q is accepted, want %d", m, want.status)
		case got != nil && (got.Status != want.status || got.Reason != want.reason):
			t.Errorf("%q: got %d %s, want %d %s", m, got.Status, got.Reason, want.status, want.reason)
		}
	}
}
