package host_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"wproxy/abi"
	"wproxy/host"
)

// standingGuest passes its configuration to wproxy.fields.v1.standing, twice, and stores the
// status at 1024. In a response callback it does so again.
const standingGuest = `(module
  (import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_call_foreign_function" (func $foreign (param i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (data (i32.const 512) "wproxy.fields.v1.standing")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param $n i32) (result i32) (i32.const 65536))
  (func $say
    (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const 100000) (i32.const 600) (i32.const 604)))
    (i32.store (i32.const 1024) (call $foreign (i32.const 512) (i32.const 25)
      (i32.load (i32.const 600)) (i32.load (i32.const 604)) (i32.const 608) (i32.const 612))))
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (call $say) (call $say) (i32.const 1))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (call $say) (i32.const 0)))`

func TestStandingEdits(t *testing.T) {
	t.Parallel()
	edits := []abi.FieldEdit{
		{Op: abi.FieldSet, Name: "X-Case", Value: "1"}, {Op: abi.FieldRemove, Name: "server", Value: "not\nlooked at"},
	}
	good := abi.AppendStandingEdits(nil, abi.EditsTLS, edits)
	want := host.StandingEdits{When: abi.EditsTLS, Edits: []abi.FieldEdit{
		{Op: abi.FieldSet, Name: "x-case", Value: "1"}, {Op: abi.FieldRemove, Name: "server", Value: "not\nlooked at"},
	}}
	one := func(name, value string) string {
		return string(abi.AppendStandingEdits(nil, abi.EditsAlways, []abi.FieldEdit{{Name: name, Value: value}}))
	}
	many := make([]abi.FieldEdit, abi.MaxStandingEdits/2+1)
	for i := range many {
		many[i].Name = "x"
	}
	large := strings.Repeat("v", abi.MaxStandingEditBytes/2)
	for name, tt := range map[string]struct {
		args   string
		status byte // of the second call
		want   []host.StandingEdits
	}{
		"good":           {string(good), 0, []host.StandingEdits{want, want}},
		"nothing":        {"", 2, nil},
		"cut":            {string(good[:len(good)-1]), 2, nil},
		"bad condition":  {"\x03" + string(good[1:]), 2, nil},
		"a line break":   {one("x", "a\r\nb: c"), 2, nil},
		"no name":        {one("", "a"), 2, nil},
		"a pseudo field": {one(":status", "200"), 2, nil},
		"a length":       {one("Content-Length", "1"), 2, nil},
		"too many at last": {
			string(abi.AppendStandingEdits(nil, abi.EditsAlways, many)), 2,
			[]host.StandingEdits{{Edits: many}},
		},
		"too much at last": {
			one("x", large), 2, []host.StandingEdits{{Edits: []abi.FieldEdit{{Name: "x", Value: large}}}},
		},
		"no edits": {string(abi.AppendStandingEdits(nil, abi.EditsAlways, nil)), 0, nil},
	} {
		s := startWasm(t, assemble(t, standingGuest), options{config: tt.args, plugin: host.PluginOptions{Instances: 3}})
		if got := s.root.StandingEdits(); len(got) != len(tt.want) || len(got) > 0 && !reflect.DeepEqual(got, tt.want) || s.plugin.Peek()[1024] != tt.status {
			t.Errorf("%s: status %d, %+v, want %d, %+v", name, s.plugin.Peek()[1024], got, tt.status, tt.want)
		}
	}
	s := startWasm(t, assemble(t, standingGuest), options{config: string(good)})
	var c host.Context
	if err := s.root.Open(&c, newStream()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ResponseHeaders(1, true); err != nil || s.plugin.Peek()[1024] != 2 || len(s.root.StandingEdits()) != 2 {
		t.Errorf("in a stream's callback: %v, status %d", err, s.plugin.Peek()[1024])
	}
	_ = c.Finish(nil)
	s = startWasm(t, assemble(t, standingGuest), options{config: string(good), host: host.HostOptions{Without: []string{abi.ForeignStandingEdits}}})
	if s.plugin.Peek()[1024] != 1 || s.root.StandingEdits() != nil {
		t.Errorf("on a host without it: status %d, %v", s.plugin.Peek()[1024], s.root.StandingEdits())
	}
}

func TestStandingList(t *testing.T) {
	t.Parallel()
	text := strings.Replace(standingGuest, abi.ForeignStandingEdits, abi.ForeignStandingList, 1)
	edit := func(name, value string) []abi.FieldEdit { return []abi.FieldEdit{{Name: name, Value: value}} }
	good := []host.StandingEdits{
		{Request: true, Mark: "{n}", Edits: edit("x-nonce", "{n}")},
		{Types: []string{"text/html", "image/*"}, Except: []string{"image/svg+xml"}, Edits: edit("x", "1")},
	}
	twice := append(slices.Clone(good), good...)
	one := func(s host.StandingEdits) []host.StandingEdits { return []host.StandingEdits{s} }
	typed := func(types ...string) []host.StandingEdits {
		return one(host.StandingEdits{Types: types, Edits: edit("x", "1")})
	}
	half := func(what string) string { return strings.Repeat(what, abi.MaxStandingMarks/2+1) }
	for name, tt := range map[string]struct {
		args   []host.StandingEdits
		status byte // of the second call
		want   []host.StandingEdits
	}{
		"good":                      {good, 0, twice},
		"nothing":                   {nil, 0, nil},
		"host of an answer":         {one(host.StandingEdits{Edits: edit("Host", "a")}), 0, slices.Repeat(one(host.StandingEdits{Edits: edit("host", "a")}), 2)},
		"host of a request":         {one(host.StandingEdits{Request: true, Edits: edit("Host", "a")}), 2, nil},
		"a pseudo field":            {one(host.StandingEdits{Request: true, Edits: edit(":path", "/")}), 2, nil},
		"a length of a request":     {one(host.StandingEdits{Request: true, Edits: edit("Content-Length", "1")}), 2, nil},
		"a line break":              {one(host.StandingEdits{Mark: "\r\n", Edits: edit("x", "a\r\nb: c")}), 2, nil},
		"all of it or nothing":      {append(slices.Clone(good), host.StandingEdits{Edits: edit(":status", "200")}), 2, nil},
		"a type in upper case":      {typed("text/HTML"), 2, nil},
		"no type":                   {typed("text"), 2, nil},
		"no subtype":                {typed("text/"), 2, nil},
		"no kind":                   {typed("/html"), 2, nil},
		"all types by name":         {typed("*/*"), 2, nil},
		"a parameter":               {typed("text/html;a=b"), 2, nil},
		"two slashes":               {typed("text/html/x"), 2, nil},
		"an exception that is none": {one(host.StandingEdits{Except: []string{"html"}, Edits: edit("x", "1")}), 2, nil},
		"too many types at last":    {typed(slices.Repeat([]string{"a/b"}, abi.MaxStandingTypes/2+1)...), 2, typed(slices.Repeat([]string{"a/b"}, abi.MaxStandingTypes/2+1)...)},
		"too many marks at last": {
			one(host.StandingEdits{Mark: "$", Edits: edit("x", half("$"))}), 2, one(host.StandingEdits{Mark: "$", Edits: edit("x", half("$"))}),
		},
	} {
		s := startWasm(t, assemble(t, text), options{
			config: string(abi.AppendStandingList(nil, tt.args)), plugin: host.PluginOptions{Instances: 3},
		})
		if got := s.root.StandingEdits(); len(got) != len(tt.want) || len(got) > 0 && !reflect.DeepEqual(got, tt.want) || s.plugin.Peek()[1024] != tt.status {
			t.Errorf("%s: status %d, %+v, want %d, %+v", name, s.plugin.Peek()[1024], got, tt.status, tt.want)
		}
	}
	s := startWasm(t, assemble(t, text), options{config: string(abi.AppendStandingList(nil, good))})
	var c host.Context
	if err := s.root.Open(&c, newStream()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ResponseHeaders(1, true); err != nil || s.plugin.Peek()[1024] != 2 || len(s.root.StandingEdits()) != len(twice) {
		t.Errorf("in a stream's callback: %v, status %d", err, s.plugin.Peek()[1024])
	}
	_ = c.Finish(nil)
	s = startWasm(t, assemble(t, text), options{
		config: string(abi.AppendStandingList(nil, good)), host: host.HostOptions{Without: []string{abi.ForeignStandingList}},
	})
	if s.plugin.Peek()[1024] != 1 || s.root.StandingEdits() != nil {
		t.Errorf("on a host without it: status %d, %v", s.plugin.Peek()[1024], s.root.StandingEdits())
	}
}
