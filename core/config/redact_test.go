package config

import "testing"

func TestRedact(t *testing.T) {
	env := map[string]string{"KEY": "s3cr\"et-key", "PEM": "-----BEGIN\nbase64stuff\n-----END", "LONG": "s3cr\"et-key-and-more", "PORT": "80", "HTML": `it"s<&>key`}
	x := &expander{env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
	value := func(s string) Value {
		v, err := x.expand(s, "")
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	config := map[string]any{
		"a": value("Bearer ${env:KEY} and ${env:PORT}"), "b": []any{map[string]any{"c": value("${env:PEM}")}}, "d": "plain", "e": 5,
		"f": value("${env:HTML}"),
	}
	vars := map[string]Value{"X": value("${env:LONG}")}
	for _, tt := range []struct{ in, want string }{
		{"nothing to see: plain 80", "nothing to see: plain 80"},
		{`key is s3cr"et-key, twice s3cr"et-key`, "key is ${env:KEY}, twice ${env:KEY}"},
		{`{"a":"Bearer s3cr\"et-key and 80"}`, `{"a":"Bearer ${env:KEY} and 80"}`},
		{`s3cr"et-key-and-more`, "${env:LONG}"},
		{"a pem:\n\tbase64stuff\n", "a pem:\n\t${env:PEM}\n"},
		{"-----BEGIN\nbase64stuff\n-----END", "${env:PEM}"},
		{`{"pem":"-----BEGIN\nbase64stuff\n-----END"}`, `{"pem":"${env:PEM}"}`},
		{"cut: s3cr\"e\nnext", "cut: ${env:LONG}\nnext"},
		{"s3c", "s3c"},
		{`it"s<&>key, {"f":"it\"s\u003c\u0026\u003ekey"}, {"f":"it\"s<&>key"}`, `${env:HTML}, {"f":"${env:HTML}"}, {"f":"${env:HTML}"}`},
		{"cut: s3cr\"e... (17 bytes more)", "cut: ${env:LONG}... (17 bytes more)"},
		{"whole... (17 bytes more)", "whole... (17 bytes more)"},
	} {
		if got := NewRedactor(config, vars, nil, "x").Redact(tt.in); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.in, got, tt.want)
		}
	}
	if r := NewRedactor(map[string]any{"d": "plain", "p": value("${env:PORT}")}, nil); r != nil || r.Redact("80") != "80" {
		t.Errorf("nothing to hide: got %v", r)
	}
}
