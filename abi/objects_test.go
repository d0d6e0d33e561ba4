package abi_test

import (
	"reflect"
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
	store := abi.ObjectStore{Key: "k", Meta: "\x00m", Tags: "a\x00b", Record: true, MaxObject: 1, MaxSize: 1 << 40, Gone: 3}
	var gotStore abi.ObjectStore
	if err := gotStore.Parse(string(store.Append(nil))); err != nil || gotStore != store {
		t.Errorf("got %+v, %v", gotStore, err)
	}
	update := abi.ObjectUpdate{Key: "k", Meta: "m", Gone: 3, Edits: edits}
	var gotUpdate abi.ObjectUpdate
	if err := gotUpdate.Parse(string(update.Append(nil))); err != nil || !reflect.DeepEqual(gotUpdate, update) {
		t.Errorf("got %+v, %v", gotUpdate, err)
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
			"store", string((&abi.ObjectStore{Key: "k", Meta: "mm", Tags: "t", Record: true, MaxObject: 1, MaxSize: 2, Gone: 3}).Append(nil)),
			"\x01\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00kmmt",
		},
		{
			"update", string((&abi.ObjectUpdate{Key: "k", Meta: "m", Gone: 2}).Append(nil)),
			"\x01\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00km",
		},
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
	f.Add(string((&abi.ObjectStore{Key: "k", Meta: "m", Tags: "t"}).Append(nil)))
	f.Add(string((&abi.ObjectUpdate{Key: "k", Meta: "m"}).Append(nil)))
	f.Fuzz(func(t *testing.T, s string) {
		var serve abi.ObjectServe
		if serve.Parse(s) == nil && len(serve.Append(nil)) != len(s) {
			t.Errorf("serve: %q", s)
		}
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
