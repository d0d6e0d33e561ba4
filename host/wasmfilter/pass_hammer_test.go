package wasmfilter_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"wproxy/abi"
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/core/objects"
	"wproxy/host"
	"wproxy/host/wasmfilter"
)

// TestPassHammer: however exchanges end, at the same time as passes come and go, nobody sees what is another's,
// and nothing of what was found is held on to.
func TestPassHammer(t *testing.T) {
	h, err := host.NewHost(host.HostOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	p, err := h.Load(context.Background(), passGuest(), host.PluginOptions{Name: "p", Instances: 2, Grants: passOptions.Grants})
	if err != nil {
		t.Fatal(err)
	}
	root, err := p.NewRoot(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	store := objects.New(objects.Options{})
	space := store.Space(p.VMID())
	f := wasmfilter.New(root, wasmfilter.Options{Objects: store})
	note := wasmfilter.NewPass(root.StandingLookup(), time.Now().Unix()+1000, abi.FieldEdit{Name: "x-edit", Value: "1"})
	const exchanges, workers = 400, 8
	var passed, told [workers]int
	var wg sync.WaitGroup
	for w := range workers {
		x := newExchange(t)
		request, route := x.Request, x.Route
		request.Method = "GET"
		wg.Go(func() {
			for i := range exchanges {
				mine := fmt.Sprintf("%d-%d", w, i)
				x.Reset()
				x.Context, x.Request, x.Route, x.Engine = context.Background(), request, route, filter.Engine(noEngine{})
				request.Target = fmt.Sprintf("/%d", i%2)
				request.Fields.Set("x-auth", mine)
				key := "https://api.example:8443" + request.Target + "\napi"
				switch (w + i) % 5 {
				case 0:
					space.Delete(key)
				case 1, 2:
					space.Put(key, objects.Record{Meta: []byte("m"), Note: note}, nil)
				}
				g, err := f.New(x)
				if err != nil {
					t.Error(err)
					return
				}
				in, out := g.Request(requestEnd{}), g.Response(responseEnd{})
				if err := in.Head(x.Request, true); err != nil {
					t.Error(err)
				}
				if i%7 == 3 { // the client has left
					g.Close(exchange.ErrReset)
					continue
				}
				var resp exchange.Response
				resp.Status = 200 + i%3%2
				var answer sync.WaitGroup
				answer.Go(func() { // as an upstream's
					if err := out.Head(&resp, true); err != nil {
						t.Error(err)
					}
				})
				answer.Wait()
				switch by, edit := resp.Fields.Value("x-guest"), resp.Fields.Value("x-edit"); {
				case edit == "1" && by == "" && resp.Status == 200:
					passed[w]++
				case edit == "" && by == mine:
					told[w]++
				default:
					t.Errorf("%s: got %+v", mine, resp)
				}
				g.Close(nil)
			}
		})
	}
	wg.Wait()
	for w := range workers {
		if passed[w] == 0 || told[w] == 0 {
			t.Errorf("%d have gone by, %d were the guest's", passed[w], told[w])
		}
	}
	space.DeletePrefix("")
	if bytes, n := space.Used(); bytes != 0 || n != 0 {
		t.Errorf("%d objects are left, %d bytes", n, bytes)
	}
}
