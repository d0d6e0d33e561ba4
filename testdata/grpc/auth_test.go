package grpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// An authServer says who may pass: who sends "secret". It has the service that the plugin of
// authguest asks.
type authServer struct {
	unary, streams, watched atomic.Int64
}

func (s *authServer) judge(token string) (*wrapperspb.BoolValue, error) {
	switch token {
	case "broken":
		return nil, status.Error(codes.Internal, "the server is broken: 100 %")
	case "secret":
		return wrapperspb.Bool(true), nil
	}
	return wrapperspb.Bool(false), nil
}

func (s *authServer) check(ctx context.Context, in *wrapperspb.StringValue) (*wrapperspb.BoolValue, error) {
	s.unary.Add(1)
	if _, ok := ctx.Deadline(); !ok {
		return nil, status.Error(codes.InvalidArgument, "there is no deadline")
	}
	if md, _ := metadata.FromIncomingContext(ctx); len(md.Get("x-asked")) != 1 || md.Get("x-asked")[0] != "unary" {
		return nil, status.Error(codes.InvalidArgument, fmt.Sprint("metadata ", md))
	}
	return s.judge(in.GetValue())
}

func (s *authServer) watch(stream grpc.ServerStream) error {
	s.streams.Add(1)
	for {
		in := new(wrapperspb.StringValue)
		if err := stream.RecvMsg(in); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		s.watched.Add(1)
		out, err := s.judge(in.GetValue())
		if err != nil {
			return err
		}
		if err := stream.SendMsg(out); err != nil {
			return err
		}
	}
}

func (s *authServer) register(g *grpc.Server) {
	g.RegisterService(&grpc.ServiceDesc{
		ServiceName: "wproxy.test.Auth", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Check", Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.StringValue)
			if err := decode(in); err != nil {
				return nil, err
			}
			return s.check(ctx, in)
		}}},
		Streams: []grpc.StreamDesc{{
			StreamName: "Watch", ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, stream grpc.ServerStream) error { return s.watch(stream) },
		}},
	}, s)
}

// authGuest builds the plugin.
func authGuest(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "auth.wasm")
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-o", name, "./authguest")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return name
}

// A plugin asks a real server about each request, with calls and over one stream for all, in
// clear and over TLS: who may pass does, and what the server says when it cannot tell is told.
func TestAuthGuest(t *testing.T) {
	guest := authGuest(t)
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			c := newCertificate(t)
			s := &authServer{}
			_, addr := w.serve(t, c, s.register)
			origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, "hello, checked by "+r.Header.Get("x-checked"))
			}))
			t.Cleanup(origin.Close)
			door := w
			door.listener, door.tls = `protocols = ["h1"]`, false
			p := start(t, door, c, addr, fmt.Sprintf(`
[routes.checked]
path = "/check/*"
upstream = "origin"
use = ["auth"]
[plugins.auth]
wasm = %q
grant = ["log", "call:auth"]
sandbox = { instances = 1 }
[upstreams.origin]
servers = [%q]
[upstreams.auth]
servers = [%q]
%s
`, guest, origin.Listener.Addr(), addr, w.upstream))
			get := func(way, token string) (int, string) {
				req, err := http.NewRequestWithContext(bounded(t), http.MethodGet, "http://"+p.addr+"/check/"+way, http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("authorization", token)
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Error(err)
					return 0, ""
				}
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Error(err)
				}
				return resp.StatusCode, string(b)
			}
			for _, way := range []string{"unary", "stream"} {
				for _, tt := range []struct {
					token string
					code  int
					body  string
				}{
					{"secret", 200, "hello, checked by " + way},
					{"guess", 403, "denied"},
					{"", 403, "denied"},
					{"broken", 513, "the server is broken: 100 %"},
					{"secret", 200, "hello, checked by " + way}, // on a new stream
				} {
					if code, body := get(way, tt.token); code != tt.code || body != tt.body {
						t.Errorf("%s %q: %d %q, want %d %q\n%s", way, tt.token, code, body, tt.code, tt.body, p.stderr)
					}
				}
			}
			var wg sync.WaitGroup
			const workers, each = 8, 25
			for i := range workers {
				wg.Go(func() {
					way := []string{"unary", "stream"}[i%2]
					for j := range each {
						token, want := "secret", 200
						if j%3 == 0 {
							token, want = "guess", 403
						}
						if code, body := get(way, token); code != want {
							t.Errorf("%s %q: %d %q", way, token, code, body)
						}
					}
				})
			}
			wg.Wait()
			if s.unary.Load() != 5+workers/2*each || s.watched.Load() != 5+workers/2*each || s.streams.Load() != 2 {
				t.Errorf("the server was asked by %d calls and %d messages of %d streams", s.unary.Load(), s.watched.Load(), s.streams.Load())
			}

		})
	}
}
