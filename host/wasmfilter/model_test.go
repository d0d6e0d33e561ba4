package wasmfilter_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/host/plugintest"
	"wproxy/host/wasmfilter"
)

// TestModelRefused: a model of which an edit would be refused, or that is larger with what is compared than
// may be, is not taken, and nothing is stored.
func TestModelRefused(t *testing.T) {
	names := make([]string, abi.MaxModelNames)
	for i := range names {
		names[i] = "n" + strconv.Itoa(i)
	}
	lines := func(n int) (out []abi.Pair) {
		for range n {
			out = append(out, abi.Pair{Name: "v", Value: "x"})
		}
		return out
	}
	value := func(n int) []abi.Pair { return plugintest.Fields("v", strings.Repeat("x", n)) }
	for name, tc := range map[string]struct {
		model  abi.ObjectModel
		fields []abi.Pair
		taken  bool
	}{
		"nothing":             {abi.ObjectModel{}, nil, true},
		"as many names":       {abi.ObjectModel{Same: names[:20], Filled: names[20:]}, nil, true},
		"as much as may be":   {abi.ObjectModel{Same: []string{"v"}}, value(abi.MaxModelText - 2), true},
		"a byte more":         {abi.ObjectModel{Same: []string{"v"}}, value(abi.MaxModelText - 1), false},
		"parts count":         {abi.ObjectModel{Same: []string{"v"}, Meta: []abi.ModelPart{{Text: "x"}}}, value(abi.MaxModelText - 2), false},
		"as many lines":       {abi.ObjectModel{Same: []string{"v"}}, lines(32), true},
		"a line more":         {abi.ObjectModel{Same: []string{"v"}}, lines(33), false},
		"no name":             {abi.ObjectModel{Same: []string{"a b"}}, nil, false},
		"a pseudo field":      {abi.ObjectModel{Filled: []string{":status"}}, nil, false},
		"a part of none":      {abi.ObjectModel{Meta: []abi.ModelPart{{Kind: abi.ModelField, Text: ":status"}}}, nil, false},
		"a part without":      {abi.ObjectModel{Meta: []abi.ModelPart{{Kind: abi.ModelField}}}, nil, false},
		"an edit of a length": {abi.ObjectModel{Edits: []abi.FieldEdit{{Name: "Content-Length", Value: "1"}}}, nil, false},
		"an edit of a status": {abi.ObjectModel{Edits: []abi.FieldEdit{{Name: ":status", Value: "200"}}}, nil, false},
		"a line break":        {abi.ObjectModel{Edits: []abi.FieldEdit{{Name: "a", Value: "b\r\nc: d"}}}, nil, false},
	} {
		store := missStore()
		tc.model.Extra = 1
		store.Model = &tc.model
		plugintest.Run(t, missGuest(missOrder(), store), passOptions, func(t *testing.T, p *plugintest.Plugin) {
			resp := missAnswer("x-store", "1")
			resp.Fields = append(resp.Fields, tc.fields...)
			c := p.Do(missRequest("/a"), resp).Client()
			if taken := line(c, "x-refused") == "" && storedOf(p) == 1; taken != tc.taken || string(c.Body) != "answer" {
				t.Errorf("%s: taken %t, %+v", name, taken, c)
			}
			before := calls(p)
			resp.Fields = without(resp.Fields, "x-store")
			p.Do(missRequest("/b"), resp)
			if told := calls(p).resp != before.resp; told == tc.taken {
				t.Errorf("%s: the guest is told of the next: %t", name, told)
			}
		})
	}
}

// TestModels: the last few are kept, each in the place of one about the same answers.
func TestModels(t *testing.T) {
	plugintest.Run(t, missGuest(missOrder(), missStore()), passOptions, func(t *testing.T, p *plugintest.Plugin) {
		told := func(path string, status int, more ...string) bool {
			before := calls(p)
			resp := missAnswer(more...)
			resp.Status = status
			p.Do(missRequest(path), resp)
			p.Purge("")
			return calls(p).resp != before.resp
		}
		teach := func(status int, how string) {
			req := missRequest("/a")
			req.Fields = append(req.Fields, plugintest.Fields("range", "1", "x-plain", "1")...) // to the guest in any case
			resp := missAnswer(how, "1")
			resp.Status = status
			p.Do(req, resp)
			p.Purge("")
		}
		for i := range wasmfilter.MaxModels {
			teach(200+i, "x-store")
		}
		for range 20 { // which others do not make room for
			teach(200, "x-store")
			teach(201, "x-store")
			teach(202, "x-other")
			teach(202, "x-store")
		}
		for i := range wasmfilter.MaxModels {
			if told("/b", 200+i) {
				t.Errorf("the model for %d is gone", 200+i)
			}
		}
		teach(101, "x-store")
		if !told("/b", 101) {
			t.Error("a change of protocol is kept")
		}
		teach(299, "x-store")
		if !told("/b", 200) || !told("/b", 201) {
			t.Error("the oldest is still there")
		}
		for _, status := range []int{202, 299, 200 + wasmfilter.MaxModels - 1} {
			if told("/b", status) {
				t.Errorf("the model for %d is gone", status)
			}
		}
	})
}

// TestModelTenth: what lasts for a part of the time that it has not changed for.
func TestModelTenth(t *testing.T) {
	store := missStore()
	store.Model.Tenth = 40
	at := func(ago time.Duration) []abi.Pair {
		return plugintest.Fields("last-modified", time.Unix(passTime, 0).UTC().Add(-ago).Format("Mon, 02 Jan 2006 15:04:05 GMT"))
	}
	for name, tc := range map[string]struct {
		fields   []abi.Pair
		date     string
		lifetime int // 0: it is the guest's
	}{
		"a while":         {at(105 * time.Second), missDate, 10},
		"just now":        {at(9 * time.Second), missDate, 0},
		"nearly now":      {at(10 * time.Second), missDate, 1},
		"long ago":        {at(1000 * time.Hour), missDate, 40},
		"after that":      {at(-time.Hour), missDate, 0},
		"nothing":         {nil, missDate, 0},
		"no time":         {plugintest.Fields("last-modified", "yesterday"), missDate, 0},
		"two times":       {append(at(time.Hour), at(time.Hour)...), missDate, 0},
		"one and nothing": {append(at(time.Hour), plugintest.Fields("last-modified", "")...), missDate, 0},
		"no date":         {at(time.Hour), "", 0},
	} {
		plugintest.Run(t, missGuest(missOrder(), store), passOptions, func(t *testing.T, p *plugintest.Plugin) {
			p.Do(missRequest("/a"), missAnswer("x-store", "1"))
			before := calls(p)
			resp := missAnswer()
			if tc.date == "" {
				resp.Fields = without(resp.Fields, "date")
			}
			resp.Fields = append(resp.Fields, tc.fields...)
			p.Do(missRequest("/b"), resp)
			if told := calls(p).resp != before.resp; told != (tc.lifetime == 0) || told != (storedOf(p) == 1) {
				t.Errorf("%s: the guest was told: %t; %d are stored", name, told, storedOf(p))
			}
			if tc.lifetime == 0 {
				return
			}
			for age := range tc.lifetime + 1 {
				good := p.Do(missRequest("/b"), missAnswer()).LogField("l") == "hit"
				if good != (age < tc.lifetime) {
					t.Errorf("%s: after %d seconds it is served: %t", name, age, good)
				}
				p.Advance(time.Second)
			}
		})
	}
}
