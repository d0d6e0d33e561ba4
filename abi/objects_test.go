package abi_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"wproxy/abi"
)

func TestObjectArguments(t *testing.T) {
	t.Parallel()
	edits := []abi.FieldEdit{{Op: abi.FieldSet, Name: "age", Value: "1"}, {Op: abi.FieldRemove, Name: "x"}}
	serve := abi.ObjectServe{Key: "http://h/\nr", Status: 206, HeadOnly: true, Offset: 5, Length: -1, Edits: edits}
	var gotServe abi.ObjectServe
	if err := gotServe.Parse(string(serve.Append(nil))); err != nil || !reflect.DeepEqual(gotServe, serve) {
		t.Errorf("got %+v, %v", gotServe, err)
	}
	for _, names := range [][]string{nil, {""}, {"accept-encoding", "accept"}, make([]string, abi.MaxRepeatNames)} {
		serve.Repeat = string(abi.AppendNames(nil, names))
		if err := gotServe.Parse(string(serve.Append(nil))); err != nil || !reflect.DeepEqual(gotServe, serve) {
			t.Errorf("got %+v, %v", gotServe, err)
		}
		if got := abi.ParseNames(nil, gotServe.Repeat); !slices.Equal(got, names) {
			t.Errorf("got names %q, want %q", got, names)
		}
	}
	store := abi.ObjectStore{Key: "k", Meta: "\x00m", Tags: "a\x00b", Record: true, MaxObject: 1, MaxSize: 1 << 40, Gone: 3, Promise: abi.ObjectPromise{Since: 1 << 33, Age: 1, Lifetime: 9}}
	var gotStore abi.ObjectStore
	if err := gotStore.Parse(string(store.Append(nil))); err != nil || !reflect.DeepEqual(gotStore, store) {
		t.Errorf("got %+v, %v", gotStore, err)
	}
	for _, pass := range []abi.ObjectPass{
		{Since: 1 << 33, Seconds: 10, Same: []string{"cache-control", "vary"}, There: []string{"set-cookie"}, Edits: edits},
		{Since: 0, Seconds: 1},
		{Since: 0, Seconds: abi.MaxPromise, There: []string{"a", "b"}},
	} {
		store.Pass = &pass
		if err := gotStore.Parse(string(store.Append(nil))); err != nil || !reflect.DeepEqual(gotStore, store) {
			t.Errorf("got %+v, %v", gotStore, err)
		}
	}
	store.Record, store.Pass, store.Tags = false, nil, ""
	for _, model := range []abi.ObjectModel{
		{Extra: 1},
		{Extra: abi.MaxPromise, Tenth: 5, Same: []string{"cache-control", "vary"}, Filled: []string{"date"}, Edits: edits, Meta: []abi.ModelPart{
			{Text: "x"}, {Kind: abi.ModelNow}, {Kind: abi.ModelAge}, {Kind: abi.ModelDate}, {Kind: abi.ModelField, Text: "etag"}, {},
		}},
	} {
		store.Model = &model
		if err := gotStore.Parse(string(store.Append(nil))); err != nil || !reflect.DeepEqual(gotStore, store) {
			t.Errorf("got %+v, %v", gotStore, err)
		}
	}
	refusal := abi.ObjectStore{
		Key: "k", Meta: "m", Record: true, Pass: &abi.ObjectPass{Seconds: 1, Same: []string{"a"}, There: []string{"b"}, Edits: edits},
		Model: &abi.ObjectModel{Extra: 7, Meta: []abi.ModelPart{{Text: "x"}, {Kind: abi.ModelNow}}},
	}
	for _, v := range []abi.ObjectStore{
		{Key: "k", Meta: "m", Record: true, Tags: "t", Variant: &abi.ObjectVariant{Mark: "a\x00b", Key: []string{"set:x", "list:y"}}},
		{Key: "k", Meta: "m", Promise: store.Promise, Model: &abi.ObjectModel{Extra: 1, Same: []string{"s"}}, Variant: &abi.ObjectVariant{Mark: "a", Key: []string{"cookie:x"}, Meta: "mm"}},
	} {
		if err := gotStore.Parse(string(v.Append(nil))); err != nil || !reflect.DeepEqual(gotStore, v) {
			t.Errorf("got %+v, %v", gotStore, err)
		}
	}
	nothing := refusal
	nothing.Model = &abi.ObjectModel{}
	if err := gotStore.Parse(string(nothing.Append(nil))); err != nil || !reflect.DeepEqual(gotStore, nothing) {
		t.Errorf("got %+v, %v", gotStore, err)
	}
	nothing.Model = &abi.ObjectModel{Meta: refusal.Model.Meta}
	if gotStore.Parse(string(nothing.Append(nil))) == nil {
		t.Error("metadata of nothing are taken")
	}
	if err := gotStore.Parse(string(refusal.Append(nil))); err != nil || !reflect.DeepEqual(gotStore, refusal) {
		t.Errorf("got %+v, %v", gotStore, err)
	}
	update := abi.ObjectUpdate{Key: "k", Meta: "m", Gone: 3, Edits: edits, Promise: store.Promise}
	var gotUpdate abi.ObjectUpdate
	if err := gotUpdate.Parse(string(update.Append(nil))); err != nil || !reflect.DeepEqual(gotUpdate, update) {
		t.Errorf("got %+v, %v", gotUpdate, err)
	}
	standing := abi.ObjectStanding{
		Absent: []string{"range", ""}, AgeField: "age", TTLField: "cache-status", TTLPrefix: "c; ttl=",
		LogField: "cache", LogValue: "hit", CounterHead: "hits;route=", CounterTail: ";a=b",
	}
	for _, pass := range [][2]string{{"", ""}, {"miss", ";a=c"}, {"", ";a=c"}, {"miss", ""}} {
		standing.PassValue, standing.PassTail = pass[0], pass[1]
		var gotStanding abi.ObjectStanding
		if err := gotStanding.Parse(string(standing.Append(nil))); err != nil || !reflect.DeepEqual(gotStanding, standing) {
			t.Errorf("got %+v, %v", gotStanding, err)
		}
	}
	for _, absent := range [][]string{nil, {"authorization"}, {"a", "b"}} {
		standing.PassValue, standing.Misses, standing.Joins, standing.MissAlone = "miss", true, !standing.Joins, absent
		var gotStanding abi.ObjectStanding
		if err := gotStanding.Parse(string(standing.Append(nil))); err != nil || !reflect.DeepEqual(gotStanding, standing) {
			t.Errorf("got %+v, %v", gotStanding, err)
		}
	}
	for _, repeats := range [][]string{{"range"}, {"range", "if-none-match"}, nil} {
		for range 2 {
			standing.Repeats, standing.Misses, standing.Joins = repeats, !standing.Misses, false
			if standing.MissAlone = nil; standing.Misses {
				standing.MissAlone = []string{"c"}
			}
			var gotStanding abi.ObjectStanding
			if err := gotStanding.Parse(string(standing.Append(nil))); err != nil || !reflect.DeepEqual(gotStanding, standing) {
				t.Errorf("got %+v, %v", gotStanding, err)
			}
		}
	}
	for _, unsafe := range []abi.ObjectStanding{
		{PassTail: "x", SafeMethods: []string{"OPTIONS"}},
		{PassTail: "x", SafeMethods: []string{"OPTIONS", "TRACE"}, OwnMethods: []string{"PURGE"}, UnsafeShown: []string{"location", "b"}, MethodValue: "bypass", MethodTail: ";a=d"},
	} {
		for _, more := range []bool{false, true} {
			o := unsafe
			if more {
				o.Absent, o.Repeats, o.PassValue = standing.Absent, []string{"range"}, "miss"
				o.Misses, o.Joins, o.MissAlone = true, true, []string{"c"}
			}
			var got abi.ObjectStanding
			if err := got.Parse(string(o.Append(nil))); err != nil || !reflect.DeepEqual(got, o) {
				t.Errorf("got %+v, %v, want %+v", got, err, o)
			}
		}
	}
	if err := new(abi.ObjectStanding).Parse(string((&abi.ObjectStanding{SafeMethods: []string{"OPTIONS"}}).Append(nil))); err == nil {
		t.Error("an order about methods is taken without a word for what goes by")
	}
	for _, key := range [][]string{{"list:x"}, {"cookie:a", "set:b", ""}} {
		for _, o := range []abi.ObjectStanding{{}, {Absent: []string{"range"}, Repeats: []string{"range"}, PassTail: "x", SafeMethods: []string{"OPTIONS"}}} {
			o.Key = key
			var got abi.ObjectStanding
			if err := got.Parse(string(o.Append(nil))); err != nil || !reflect.DeepEqual(got, o) {
				t.Errorf("got %+v, %v, want %+v", got, err, o)
			}
		}
	}
	info := abi.ObjectInfo{Status: 200, Whole: true, Flying: true, Length: -1, Meta: []byte("m")}
	if got, err := abi.ParseObjectInfo(abi.AppendObjectInfo(nil, &info)); err != nil || !reflect.DeepEqual(got, info) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestObjectArgumentsBytes has the layout that docs/host-extensions.md gives.
func TestObjectArgumentsBytes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, got, want string }{
		{
			"serve", string((&abi.ObjectServe{Key: "k", Status: 304, HeadOnly: true, Offset: 1, Length: -1}).Append(nil)),
			"\x30\x01\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xffk",
		},
		{
			"serve with a repeat", string((&abi.ObjectServe{
				Key: "k", Length: -1, Repeat: string(abi.AppendNames(nil, []string{"a", "bb"})), Edits: []abi.FieldEdit{{Op: abi.FieldRemove, Name: "d"}},
			}).Append(nil)),
			"\x00\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xffk" +
				"\x02\x00\x00\x00\x01\x00\x00\x00a\x02\x00\x00\x00bb" + "\x03\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00d",
		},
		{
			"standing with repeats", string((&abi.ObjectStanding{AgeField: "a", Absent: []string{"x"}, Repeats: []string{"b", "c"}}).Append(nil)),
			"\x01\x00\x00\x10a" + strings.Repeat("\x00", 24) + "\x03\x00\x00\x00b\x00c\x01\x00\x00\x00x",
		},
		{
			"standing with a key", string((&abi.ObjectStanding{AgeField: "a", Absent: []string{"x"}, Key: []string{"list:b", "cookie:c"}}).Append(nil)),
			"\x01\x00\x00\x04a" + strings.Repeat("\x00", 24) + "\x0f\x00\x00\x00list:b\x00cookie:c\x01\x00\x00\x00x",
		},
		{
			"store", string((&abi.ObjectStore{Key: "k", Meta: "mm", Tags: "t", Record: true, MaxObject: 1, MaxSize: 2, Gone: 3}).Append(nil)),
			"\x01\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00kmmt",
		},
		{
			"store with a variant", string((&abi.ObjectStore{Key: "k", Meta: "mm", Record: true, Variant: &abi.ObjectVariant{Mark: "v", Key: []string{"list:a", "set:b"}}}).Append(nil)),
			"\x11\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00" + strings.Repeat("\x00", 24) +
				"\x01\x00\x00\x00\x0c\x00\x00\x00\x00\x00\x00\x00" + "kmmvlist:a\x00set:b",
		},
		{
			"update", string((&abi.ObjectUpdate{Key: "k", Meta: "m", Gone: 2}).Append(nil)),
			"\x01\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00km",
		},
		{
			"update with a promise", string((&abi.ObjectUpdate{Key: "k", Promise: abi.ObjectPromise{Since: 1, Age: 2, Lifetime: 3}}).Append(nil)),
			"\x01\x00\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
				"\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00k",
		},
		{
			"store with a promise", string((&abi.ObjectStore{Key: "k", Promise: abi.ObjectPromise{Since: 1, Age: 2, Lifetime: 3}}).Append(nil)[16:]),
			strings.Repeat("\x00", 24) + "\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00k",
		},
		{
			"standing", string((&abi.ObjectStanding{AgeField: "a", CounterTail: "t", Absent: []string{"x", "yy"}}).Append(nil)),
			"\x01\x00\x00\x00a" + strings.Repeat("\x00", 20) + "\x01\x00\x00\x00t\x01\x00\x00\x00x\x02\x00\x00\x00yy",
		},
		{
			"standing with passes", string((&abi.ObjectStanding{AgeField: "a", PassValue: "v", PassTail: "t", Absent: []string{"x"}}).Append(nil)),
			"\x01\x00\x00\x80a" + strings.Repeat("\x00", 24) + "\x01\x00\x00\x00v\x01\x00\x00\x00t\x01\x00\x00\x00x",
		},
		{
			"store with a pass", string((&abi.ObjectStore{Key: "k", Meta: "m", Record: true, Pass: &abi.ObjectPass{
				Since: 1, Seconds: 2, Same: []string{"a", "b"}, There: []string{"c"}, Edits: []abi.FieldEdit{{Op: abi.FieldAdd, Name: "d", Value: "ee"}},
			}}).Append(nil)),
			"\x05\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00" + strings.Repeat("\x00", 24) +
				"\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x01\x00\x00\x00\x0f\x00\x00\x00" +
				"kma\x00bc\x01\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00dee",
		},
		{
			"standing with misses", string((&abi.ObjectStanding{AgeField: "a", PassValue: "v", Misses: true, Joins: true, MissAlone: []string{"b", "c"}, Absent: []string{"x"}}).Append(nil)),
			"\x01\x00\x00\xe0a" + strings.Repeat("\x00", 24) + "\x01\x00\x00\x00v\x00\x00\x00\x00\x03\x00\x00\x00b\x00c\x01\x00\x00\x00x",
		},
		{
			"store with a model", string((&abi.ObjectStore{Key: "k", Meta: "m", Promise: abi.ObjectPromise{Since: 1, Age: 2, Lifetime: 3}, Model: &abi.ObjectModel{
				Extra: 2, Tenth: 4, Same: []string{"a", "b"}, Filled: []string{"c"}, Edits: []abi.FieldEdit{{Op: abi.FieldAdd, Name: "d", Value: "ee"}},
				Meta: []abi.ModelPart{{Kind: abi.ModelField, Text: "f"}, {Kind: abi.ModelNow}},
			}}).Append(nil)),
			"\x0a\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00" + strings.Repeat("\x00", 24) +
				"\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00" +
				"\x02\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x01\x00\x00\x00\x0f\x00\x00\x00\x11\x00\x00\x00" +
				"kma\x00bc\x01\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00dee\x05\x00\x00\x00\x01\x00\x00\x00f\x01\x00\x00\x00\x00\x00\x00\x00",
		},
		{"passed", string(abi.AppendPassed(nil, 5, "k", []byte("m"))), "\x05\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00km"},
		{
			"info", string(abi.AppendObjectInfo(nil, &abi.ObjectInfo{Status: 200, Whole: true, Length: 7, Meta: []byte("m")})),
			"\xc8\x00\x00\x00\x01\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00m",
		},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, tc.got, tc.want)
		}
	}
}

func FuzzObjectArguments(f *testing.F) {
	f.Add(string((&abi.ObjectServe{Key: "k", Length: -1, Edits: []abi.FieldEdit{{Op: abi.FieldAdd, Name: "a", Value: "b"}}}).Append(nil)))
	f.Add(string((&abi.ObjectServe{Key: "k", Repeat: string(abi.AppendNames(nil, []string{"a", "bb"})), Edits: []abi.FieldEdit{{Name: "a"}}}).Append(nil)))
	f.Add(string((&abi.ObjectStore{Key: "k", Meta: "m", Tags: "t"}).Append(nil)))
	f.Add(string((&abi.ObjectStore{Key: "k", Meta: "m", Record: true, Variant: &abi.ObjectVariant{Mark: "v", Key: []string{"list:a", "set:b"}}}).Append(nil)))
	f.Add(string((&abi.ObjectUpdate{Key: "k", Meta: "m"}).Append(nil)))
	f.Add(string((&abi.ObjectUpdate{Key: "k", Promise: abi.ObjectPromise{Since: 1, Age: 2, Lifetime: 3}}).Append(nil)))
	f.Add(string((&abi.ObjectStanding{AgeField: "a", CounterTail: "t", Absent: []string{"x", "yy"}}).Append(nil)))
	f.Add(string((&abi.ObjectStanding{AgeField: "a", PassValue: "v", PassTail: "t", Absent: []string{"x"}}).Append(nil)))
	f.Add(string((&abi.ObjectStanding{AgeField: "a", Key: []string{"list:a", "cookie:b"}, Absent: []string{"x"}}).Append(nil)))
	f.Add(string((&abi.ObjectStore{Key: "k", Meta: "m", Record: true, Pass: &abi.ObjectPass{
		Seconds: 1, Same: []string{"a", "b"}, There: []string{"c"}, Edits: []abi.FieldEdit{{Name: "d"}},
	}}).Append(nil)))
	f.Add(string((&abi.ObjectStanding{AgeField: "a", PassValue: "v", Misses: true, Joins: true, MissAlone: []string{"b", "c"}, Absent: []string{"x"}}).Append(nil)))
	f.Add(string((&abi.ObjectStore{Key: "k", Meta: "m", Promise: abi.ObjectPromise{Since: 1, Age: 2, Lifetime: 3}, Model: &abi.ObjectModel{
		Extra: 2, Same: []string{"a", "b"}, Filled: []string{"c"}, Edits: []abi.FieldEdit{{Name: "d"}}, Meta: []abi.ModelPart{{Kind: abi.ModelField, Text: "f"}},
	}}).Append(nil)))
	f.Add(string((&abi.ObjectStore{Key: "k", Record: true, Pass: &abi.ObjectPass{Seconds: 1, Same: []string{"a"}}, Model: &abi.ObjectModel{
		Extra: 7, Meta: []abi.ModelPart{{Kind: abi.ModelNow}},
	}}).Append(nil)))
	f.Add(string((&abi.ObjectStanding{AgeField: "a", PassValue: "v", Misses: true, Repeats: []string{"b", "c"}, Absent: []string{"x"}}).Append(nil)))
	f.Add(string(abi.AppendPassed(nil, 5, "k", []byte("m"))))
	f.Fuzz(func(t *testing.T, s string) {
		var standing abi.ObjectStanding
		if standing.Parse(s) == nil && string(standing.Append(nil)) != s {
			t.Errorf("standing: %q", s)
		}
		if at, key, meta, err := abi.ParsePassed(s); err == nil && string(abi.AppendPassed(nil, at, key, []byte(meta))) != s {
			t.Errorf("passed: %q", s)
		}
		var serve abi.ObjectServe
		if serve.Parse(s) == nil {
			if len(serve.Append(nil)) != len(s) {
				t.Errorf("serve: %q", s)
			}
			if serve.Repeat != "" && string(abi.AppendNames(nil, abi.ParseNames(nil, serve.Repeat))) != serve.Repeat {
				t.Errorf("serve: the names are %q", serve.Repeat)
			}
		}
		abi.ParseNames(nil, s)
		var store abi.ObjectStore
		if store.Parse(s) == nil && len(store.Append(nil)) != len(s) {
			t.Errorf("store: %q", s)
		}
		var update abi.ObjectUpdate
		if update.Parse(s) == nil && len(update.Append(nil)) != len(s) {
			t.Errorf("update: %q", s)
		}
	})
}

// TestObjectPromiseBounds: a promise whose age would run over, or that begins before time does, is
// refused with the argument that it is in.
func TestObjectPromiseBounds(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		p  abi.ObjectPromise
		ok bool
	}{
		{abi.ObjectPromise{Since: 0, Age: 0, Lifetime: 1}, true},
		{abi.ObjectPromise{Since: 1<<63 - 1, Age: abi.MaxPromise, Lifetime: abi.MaxPromise}, true},
		{abi.ObjectPromise{Since: -1, Lifetime: 1}, false},
		{abi.ObjectPromise{Age: -1, Lifetime: 1}, false},
		{abi.ObjectPromise{Age: abi.MaxPromise + 1, Lifetime: 1}, false},
		{abi.ObjectPromise{Since: 1, Lifetime: 0}, false},
		{abi.ObjectPromise{Lifetime: abi.MaxPromise + 1}, false},
	} {
		args := string((&abi.ObjectStore{Key: "k", Promise: tc.p}).Append(nil))
		if err := new(abi.ObjectStore).Parse(args); (err == nil) != tc.ok {
			t.Errorf("%+v: %v", tc.p, err)
		}
		if new(abi.ObjectStore).Parse(args[:len(args)-2]) == nil {
			t.Errorf("%+v is taken without its end", tc.p)
		}
	}
	names := abi.ObjectStanding{Absent: make([]string, abi.MaxStandingFields+1)}
	if new(abi.ObjectStanding).Parse(string(names.Append(nil))) == nil {
		t.Error("any number of names is taken")
	}
}

// TestObjectRepeatBounds: names end where the list says, and are few; an argument whose end is missing is refused.
func TestObjectRepeatBounds(t *testing.T) {
	t.Parallel()
	serve := func(repeat string) string {
		return string((&abi.ObjectServe{Key: "k", Length: -1, Repeat: repeat}).Append(nil))
	}
	for name, tc := range map[string]struct {
		repeat string
		ok     bool
	}{
		"none":              {"\x00\x00\x00\x00", true},
		"as many as may be": {string(abi.AppendNames(nil, make([]string, abi.MaxRepeatNames))), true},
		"one more":          {string(abi.AppendNames(nil, make([]string, abi.MaxRepeatNames+1))), false},
		"a count cut short": {"\x00\x00\x00", false},
		"fewer than said":   {"\x01\x00\x00\x00", false},
		"a name too short":  {"\x01\x00\x00\x00\x02\x00\x00\x00a", false},
		"a name of 4 GiB":   {"\x01\x00\x00\x00\xff\xff\xff\xffa", false},
		"more than said":    {"\x00\x00\x00\x00a", false}, // which is not an edit
	} {
		if err := new(abi.ObjectServe).Parse(serve(tc.repeat)); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	args := serve(string(abi.AppendNames(nil, []string{"a", "bb"})))
	for n := range args {
		if new(abi.ObjectServe).Parse(args[:n]) == nil {
			t.Errorf("%d of %d bytes are taken", n, len(args))
		}
	}
	for name, o := range map[string]abi.ObjectStanding{
		"any number of names":    {Repeats: make([]string, abi.MaxStandingFields+1)},
		"names of any length":    {Repeats: []string{strings.Repeat("x", abi.MaxStandingText+1)}},
		"a list of one, nothing": {Repeats: []string{""}}, // which is how none would be written
		"any number of parts":    {Key: make([]string, abi.MaxStandingFields+1)},
		"parts of any length":    {Key: []string{"list:" + strings.Repeat("x", abi.MaxStandingText)}},
		"a key of one, nothing":  {Key: []string{""}},
	} {
		if new(abi.ObjectStanding).Parse(string(o.Append(nil))) == nil {
			t.Errorf("taken: %s", name)
		}
	}
}

// TestObjectVariantBounds: a variant is of a record that is no pass, or beside a model, and neither empty nor long.
func TestObjectVariantBounds(t *testing.T) {
	t.Parallel()
	variant := &abi.ObjectVariant{Mark: "m", Key: []string{"list:a"}}
	for name, tc := range map[string]struct {
		s  abi.ObjectStore
		ok bool
	}{
		"of a record":          {abi.ObjectStore{Record: true, Variant: variant}, true},
		"of a pass":            {abi.ObjectStore{Record: true, Variant: variant, Pass: &abi.ObjectPass{Seconds: 1}}, false},
		"of a message":         {abi.ObjectStore{Promise: abi.ObjectPromise{Lifetime: 1}, Variant: variant}, false},
		"of a message's model": {abi.ObjectStore{Promise: abi.ObjectPromise{Lifetime: 1}, Variant: variant, Model: &abi.ObjectModel{Extra: 1}}, true},
		"metadata of a record": {abi.ObjectStore{Record: true, Variant: &abi.ObjectVariant{Mark: "m", Key: []string{"list:a"}, Meta: "m"}}, false},
		"no mark":              {abi.ObjectStore{Record: true, Variant: &abi.ObjectVariant{Key: []string{"list:a"}}}, false},
		"no parts":             {abi.ObjectStore{Record: true, Variant: &abi.ObjectVariant{Mark: "m"}}, false},
		"as many parts as can": {abi.ObjectStore{Record: true, Variant: &abi.ObjectVariant{Mark: "m", Key: make([]string, abi.MaxVariantParts)}}, true},
		"a part more":          {abi.ObjectStore{Record: true, Variant: &abi.ObjectVariant{Mark: "m", Key: make([]string, abi.MaxVariantParts+1)}}, false},
		"as long as can be":    {abi.ObjectStore{Record: true, Variant: &abi.ObjectVariant{Mark: strings.Repeat("m", abi.MaxVariantText-1), Key: []string{"k"}}}, true},
		"a byte more":          {abi.ObjectStore{Record: true, Variant: &abi.ObjectVariant{Mark: strings.Repeat("m", abi.MaxVariantText), Key: []string{"k"}}}, false},
	} {
		tc.s.Key = "k"
		args := string(tc.s.Append(nil))
		if err := new(abi.ObjectStore).Parse(args); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
		for n := range args {
			if new(abi.ObjectStore).Parse(args[:n]) == nil {
				t.Errorf("%s: %d of %d bytes are taken", name, n, len(args))
			}
		}
	}
}

// TestObjectPassBounds: what is compared and edited at each answer is few, and a pass is of a record and for
// a time.
func TestObjectPassBounds(t *testing.T) {
	t.Parallel()
	list := func(n int) []string { return make([]string, n) }
	for name, tc := range map[string]struct {
		p  abi.ObjectPass
		ok bool
	}{
		"as many names as may be":   {abi.ObjectPass{Seconds: 1, Same: list(8), There: list(8)}, true},
		"a name more":               {abi.ObjectPass{Seconds: 1, Same: list(8), There: list(9)}, false},
		"all names the same":        {abi.ObjectPass{Seconds: 1, Same: list(17)}, false},
		"as many edits as may be":   {abi.ObjectPass{Seconds: 1, Edits: make([]abi.FieldEdit, abi.MaxPassEdits)}, true},
		"an edit more":              {abi.ObjectPass{Seconds: 1, Edits: make([]abi.FieldEdit, abi.MaxPassEdits+1)}, false},
		"as long as may be":         {abi.ObjectPass{Seconds: 1, Edits: []abi.FieldEdit{{Value: strings.Repeat("x", abi.MaxPassText)}}}, true},
		"a byte more":               {abi.ObjectPass{Seconds: 1, Edits: []abi.FieldEdit{{Value: strings.Repeat("x", abi.MaxPassText+1)}}}, false},
		"a name too long":           {abi.ObjectPass{Seconds: 1, Same: []string{strings.Repeat("x", abi.MaxPassText+1)}}, false},
		"for no time":               {abi.ObjectPass{}, false},
		"for less":                  {abi.ObjectPass{Seconds: -1}, false},
		"for ever":                  {abi.ObjectPass{Seconds: abi.MaxPromise + 1}, false},
		"from before the beginning": {abi.ObjectPass{Since: -1, Seconds: 1}, false},
	} {
		args := string((&abi.ObjectStore{Key: "k", Record: true, Pass: &tc.p}).Append(nil))
		if err := new(abi.ObjectStore).Parse(args); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
		for n := range args {
			if new(abi.ObjectStore).Parse(args[:n]) == nil {
				t.Errorf("%s: %d of %d bytes are taken", name, n, len(args))
			}
		}
	}
	if args := string((&abi.ObjectStore{Key: "k", Pass: &abi.ObjectPass{Seconds: 1}}).Append(nil)); new(abi.ObjectStore).Parse(args) == nil {
		t.Error("a message has a pass")
	}
	if new(abi.ObjectStanding).Parse("\x00\x00\x00\x80"+strings.Repeat("\x00", 32)) == nil {
		t.Error("texts that are said to be there, and are not, are taken")
	}
}

// TestObjectStandingTexts: what is written for each answer, and kept by each exchange, is bounded.
func TestObjectStandingTexts(t *testing.T) {
	t.Parallel()
	for i := range 10 {
		for n, ok := range map[int]bool{abi.MaxStandingText: true, abi.MaxStandingText + 1: false} {
			o := abi.ObjectStanding{Absent: []string{""}}
			text := strings.Repeat("x", n)
			*[]*string{
				&o.AgeField, &o.TTLField, &o.TTLPrefix, &o.LogField, &o.LogValue, &o.CounterHead, &o.CounterTail, &o.Absent[0],
				&o.PassValue, &o.PassTail,
			}[i] = text
			if err := new(abi.ObjectStanding).Parse(string(o.Append(nil))); (err == nil) != ok {
				t.Errorf("text %d of %d bytes: %v", i, n, err)
			}
		}
	}
}

// TestObjectModelBounds: what is compared, edited and written at each answer is few.
func TestObjectModelBounds(t *testing.T) {
	t.Parallel()
	list := func(n int) []string { return make([]string, n) }
	parts := func(n int, p abi.ModelPart) (out []abi.ModelPart) {
		for range n {
			out = append(out, p)
		}
		return out
	}
	for name, tc := range map[string]struct {
		m  abi.ObjectModel
		ok bool
	}{
		"as many names as may be": {abi.ObjectModel{Extra: 1, Same: list(16), Filled: list(16)}, true},
		"a name more":             {abi.ObjectModel{Extra: 1, Same: list(16), Filled: list(17)}, false},
		"all names the same":      {abi.ObjectModel{Extra: 1, Same: list(33)}, false},
		"as many edits as may be": {abi.ObjectModel{Extra: 1, Edits: make([]abi.FieldEdit, abi.MaxModelEdits)}, true},
		"an edit more":            {abi.ObjectModel{Extra: 1, Edits: make([]abi.FieldEdit, abi.MaxModelEdits+1)}, false},
		"as many parts as may be": {abi.ObjectModel{Extra: 1, Meta: parts(abi.MaxModelParts, abi.ModelPart{Kind: abi.ModelAge})}, true},
		"a part more":             {abi.ObjectModel{Extra: 1, Meta: parts(abi.MaxModelParts+1, abi.ModelPart{})}, false},
		"as long as may be":       {abi.ObjectModel{Extra: 1, Meta: parts(1, abi.ModelPart{Text: strings.Repeat("x", abi.MaxModelText)})}, true},
		"a byte more":             {abi.ObjectModel{Extra: 1, Meta: parts(1, abi.ModelPart{Text: strings.Repeat("x", abi.MaxModelText+1)})}, false},
		"a number with a text":    {abi.ObjectModel{Extra: 1, Meta: parts(1, abi.ModelPart{Kind: abi.ModelNow, Text: "x"})}, false},
		"an unknown part":         {abi.ObjectModel{Extra: 1, Meta: parts(1, abi.ModelPart{Kind: abi.ModelField + 1})}, false},
		"gone with its promise":   {abi.ObjectModel{}, false},
		"gone before":             {abi.ObjectModel{Extra: -1}, false},
		"for ever":                {abi.ObjectModel{Extra: abi.MaxPromise + 1}, false},
		"a tenth of the time":     {abi.ObjectModel{Extra: 1, Tenth: abi.MaxPromise}, true},
		"a tenth of too much":     {abi.ObjectModel{Extra: 1, Tenth: abi.MaxPromise + 1}, false},
		"a tenth of less":         {abi.ObjectModel{Extra: 1, Tenth: -1}, false},
	} {
		args := string((&abi.ObjectStore{Key: "k", Promise: abi.ObjectPromise{Lifetime: 1}, Model: &tc.m}).Append(nil))
		if err := new(abi.ObjectStore).Parse(args); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
		for n := range args {
			if new(abi.ObjectStore).Parse(args[:n]) == nil {
				t.Errorf("%s: %d of %d bytes are taken", name, n, len(args))
			}
		}
	}
	for name, s := range map[string]abi.ObjectStore{
		"a record":          {Key: "k", Record: true, Promise: abi.ObjectPromise{Lifetime: 1}},
		"a pass with tags":  {Key: "k", Record: true, Tags: "t", Pass: &abi.ObjectPass{Seconds: 1}},
		"without a promise": {Key: "k"},
		"with tags":         {Key: "k", Tags: "t", Promise: abi.ObjectPromise{Lifetime: 1}},
	} {
		s.Model = &abi.ObjectModel{Extra: 1}
		if new(abi.ObjectStore).Parse(string(s.Append(nil))) == nil {
			t.Errorf("%s has a model", name)
		}
	}
	for name, m := range map[string]abi.ObjectModel{
		"names": {Extra: 1, Same: []string{"a"}}, "other names": {Extra: 1, Filled: []string{"a"}}, "edits": {Extra: 1, Edits: make([]abi.FieldEdit, 1)},
		"a tenth": {Extra: 1, Tenth: 1}, "an age": {Extra: 1, Meta: parts(1, abi.ModelPart{Kind: abi.ModelAge})},
		"a date": {Extra: 1, Meta: parts(1, abi.ModelPart{Kind: abi.ModelDate})}, "a lifetime": {Extra: 1, Meta: parts(1, abi.ModelPart{Kind: abi.ModelLifetime})},
	} {
		if new(abi.ObjectStore).Parse(string((&abi.ObjectStore{Key: "k", Record: true, Pass: &abi.ObjectPass{Seconds: 1}, Model: &m}).Append(nil))) == nil {
			t.Errorf("a model beside a pass has %s", name)
		}
	}
	for name, o := range map[string]abi.ObjectStanding{
		"misses without a name for them": {Misses: true},
		"joins without misses":           {Joins: true, PassValue: "v"},
	} {
		if new(abi.ObjectStanding).Parse(string(o.Append(nil))) == nil {
			t.Errorf("%s", name)
		}
	}
}
