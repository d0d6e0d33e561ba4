package wasmfilter_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"wproxy/abi"
	"wproxy/core/objects"
	"wproxy/host"
	"wproxy/host/plugintest"
)

// TestJoinLate: who has looked for something, and joins after the flight that brought it has ended, does not lead
// another one: it is told that there is something now, as if it had waited. What else has changed meanwhile does not matter.
func TestJoinLate(t *testing.T) {
	land := func(s *objects.Space, key string, o objects.Outcome) {
		f, _, _ := s.Lead(key, 0)
		if o == objects.Stored {
			s.PutWhole(key, &objects.Whole{Record: objects.Record{Status: 200, Meta: []byte("new")}})
		}
		f.Land(o)
	}
	for name, tc := range map[string]struct {
		looks   string // keys that are looked up
		between func(s *objects.Space)
		want    string
	}{
		"nothing happens":         {"k", func(*objects.Space) {}, "leads"},
		"it has come":             {"k", func(s *objects.Space) { land(s, "k", objects.Stored) }, "waits, stored"},
		"it has come anew":        {"old", func(s *objects.Space) { land(s, "old", objects.Stored) }, "waits, stored"},
		"a variant has":           {"old k v", func(s *objects.Space) { land(s, "v", objects.Stored) }, "waits, stored"},
		"another has":             {"k", func(s *objects.Space) { land(s, "other", objects.Stored) }, "leads"},
		"nothing has come":        {"k", func(s *objects.Space) { land(s, "k", objects.Failed) }, "leads"},
		"it has gone":             {"old", func(s *objects.Space) { land(s, "other", objects.Stored); s.Delete("old") }, "leads"},
		"it was not looked for":   {"", func(s *objects.Space) { land(s, "k", objects.Stored) }, "leads"},
		"it was annotated":        {"old", func(s *objects.Space) { land(s, "other", objects.Stored); annotate(s, "old") }, "leads"},
		"more than is remembered": {strings.Repeat("x ", 8) + "k", func(s *objects.Space) { land(s, "k", objects.Stored) }, "leads"},
		"longer than that":        {strings.Repeat("x", 17<<10) + " k", func(s *objects.Space) { land(s, "k", objects.Stored) }, "waits, stored"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := objects.New(objects.Options{}).Space("a")
				s.Put("old", objects.Record{Status: 200}, nil)
				said := ""
				ask := func(c *call, f host.ObjectCall, args []byte) abi.Status {
					_, status := c.Stream.(host.ObjectStream).Object(f, nil, args)
					return status
				}
				join := func(c *call) abi.Action {
					args := append(make([]byte, 4), "j"...)
					if status := ask(c, host.ObjectJoin, args); status != abi.StatusOK {
						t.Errorf("join: %v", status)
					}
					if binary.LittleEndian.Uint32(args) == abi.ObjectLeads {
						said += "leads"
						return abi.Continue
					}
					said += "waits"
					return abi.Pause
				}
				p := newPlugin("p", script{
					onReqHeaders: func(c *call, _ int, _ bool) abi.Action {
						for key := range strings.FieldsSeq(tc.looks) {
							ask(c, host.ObjectLookup, []byte(key))
						}
						tc.between(s)
						return join(c)
					},
					onForeign: func(c *call, id uint32, args []byte) {
						said += ", " + map[uint32]string{abi.ObjectStored: "stored", abi.ObjectUnstored: "unstored", abi.ObjectFailed: "failed"}[binary.LittleEndian.Uint32(args)]
						if id != abi.ObjectJoined {
							t.Errorf("function %d", id)
						}
						c.Resume(abi.StreamRequest)
					},
				}, fakeOptions{})
				p.StoreIn(s)
				x := open(t, plugintest.Request{Path: "/"}, p)
				synctest.Wait()
				x.Respond(plugintest.Response{})
				if x.Finish(); said != tc.want {
					t.Errorf("said %q, want %q", said, tc.want)
				}
				if s.Flying("j") {
					t.Error("the flight has not landed")
				}
			})
		})
	}
}

func annotate(s *objects.Space, key string) {
	o := s.Get(key)
	defer o.Release()
	if !s.Annotate(o, o.Record(), joinNote{}) {
		panic(fmt.Sprintf("%s has no note", key))
	}
}

type joinNote struct{}

func (joinNote) Size() int64 { return 1 }
