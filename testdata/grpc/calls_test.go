package grpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// A server is a test service whose calls the tests see.
type server struct {
	testgrpc.UnimplementedTestServiceServer
	open      atomic.Int64 // calls
	deadlines sync.Map     // time.Duration by the name of the call
	cancelled chan string  // names of calls whose client has gone
}

func newServer() *server { return &server{cancelled: make(chan string, 2000)} }

func (s *server) register(g *grpc.Server) { testgrpc.RegisterTestServiceServer(g, s) }

// callName is what a client calls its call, in metadata.
const callName = "x-call"

func named(ctx context.Context, name string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, callName, name)
}

func (s *server) begin(ctx context.Context) (name string) {
	s.open.Add(1)
	md, _ := metadata.FromIncomingContext(ctx)
	name = strings.Join(md.Get(callName), ",")
	if d, ok := ctx.Deadline(); ok {
		s.deadlines.Store(name, time.Until(d))
	}
	return name
}

func (s *server) UnaryCall(ctx context.Context, in *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	name := s.begin(ctx)
	defer s.open.Add(-1)
	switch name {
	case "hang":
		<-ctx.Done()
		s.cancelled <- name
		return nil, ctx.Err()
	case "status":
		return nil, status.Error(codes.DataLoss, "it is lost: 100 % ☹\n")
	}
	return &testgrpc.SimpleResponse{Payload: in.GetPayload()}, nil
}

// FullDuplexCall sends each payload back.
func (s *server) FullDuplexCall(stream testgrpc.TestService_FullDuplexCallServer) error {
	name := s.begin(stream.Context())
	defer s.open.Add(-1)
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			s.cancelled <- name
			return err
		}
		if err := stream.Send(&testgrpc.StreamingOutputCallResponse{Payload: in.GetPayload()}); err != nil {
			return err
		}
	}
}

// A call is a wproxy with a server behind it.
type setup struct {
	*process
	w      way
	c      *certificate
	server *server
	grpc   *grpc.Server
	client testgrpc.TestServiceClient
}

func everyWay(t *testing.T, routes string, test func(t *testing.T, s *setup)) {
	t.Helper()
	c := newCertificate(t)
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			s := &setup{w: w, c: c, server: newServer()}
			var upstream string
			s.grpc, upstream = w.serve(t, c, s.server.register, grpc.MaxConcurrentStreams(5000))
			s.process = start(t, w, c, upstream, routes)
			s.client = testgrpc.NewTestServiceClient(w.dial(t, c, s.addr))
			test(t, s)
			for range 500 {
				if s.server.open.Load() == 0 {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Errorf("%d calls are still open at the server", s.server.open.Load())
		})
	}
}

func payload(p []byte) *testgrpc.Payload { return &testgrpc.Payload{Body: p} }

func wantCode(t *testing.T, err error, code codes.Code, message string) {
	t.Helper()
	if status.Code(err) != code || !strings.HasPrefix(status.Convert(err).Message(), message) {
		t.Errorf("got %v; want code %v with %q", err, code, message)
	}
}

// TestStatus: code, message and details of the server arrive, whatever is in the message.
func TestStatus(t *testing.T) {
	everyWay(t, "", func(t *testing.T, s *setup) {
		_, err := s.client.UnaryCall(named(bounded(t), "status"), &testgrpc.SimpleRequest{})
		wantCode(t, err, codes.DataLoss, "it is lost: 100 % ☹\n")
		s.logged(t, `"status":200`, fmt.Sprintf(`"grpc_status":%d`, codes.DataLoss))
	})
}

// TestLargeMessages: messages of 16 MiB, both ways.
func TestLargeMessages(t *testing.T) {
	everyWay(t, "", func(t *testing.T, s *setup) {
		body := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
		out, err := s.client.UnaryCall(bounded(t), &testgrpc.SimpleRequest{Payload: payload(body)})
		if err != nil || !bytes.Equal(out.GetPayload().GetBody(), body) {
			t.Errorf("got %d bytes, %v", len(out.GetPayload().GetBody()), err)
		}
	})
}

// TestThousandStreams: a thousand streams at a time, each with its own messages.
func TestThousandStreams(t *testing.T) {
	everyWay(t, "", func(t *testing.T, s *setup) {
		const all = 1000
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		clients := make([]testgrpc.TestServiceClient, 10) // connections
		for i := range clients {
			clients[i] = testgrpc.NewTestServiceClient(s.w.dial(t, s.c, s.addr))
		}
		streams := make([]testgrpc.TestService_FullDuplexCallClient, all)
		for i := range streams {
			var err error
			if streams[i], err = clients[i%len(clients)].FullDuplexCall(ctx); err != nil {
				t.Fatal(err)
			}
			if err := talk(streams[i], i, 0); err != nil {
				t.Fatalf("stream %d: %v", i, err)
			}
		}
		if got := s.server.open.Load(); got != all {
			t.Errorf("%d calls are open at the server, want %d", got, all)
		}
		var wg sync.WaitGroup
		for i, stream := range streams {
			wg.Go(func() { // ends with its messages
				for n := range 5 {
					if err := talk(stream, i, n); err != nil {
						t.Errorf("stream %d: %v", i, err)
						return
					}
				}
				if err := stream.CloseSend(); err != nil {
					t.Error(err)
				}
				if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
					t.Errorf("stream %d ended with %v", i, err)
				}
			})
		}
		wg.Wait()
	})
}

// talk sends a message and wants it back.
func talk(stream testgrpc.TestService_FullDuplexCallClient, i, n int) error {
	s := fmt.Sprintf("%d %d %s", i, n, strings.Repeat("x", i*n))
	if err := stream.Send(&testgrpc.StreamingOutputCallRequest{Payload: payload([]byte(s))}); err != nil {
		return err
	}
	out, err := stream.Recv()
	if err == nil && string(out.GetPayload().GetBody()) != s {
		err = fmt.Errorf("got %.20q, want %.20q", out.GetPayload().GetBody(), s)
	}
	return err
}

// TestCancel: a client that leaves a call takes the server's half with it, and the other
// calls of its connection go on.
func TestCancel(t *testing.T) {
	everyWay(t, "", func(t *testing.T, s *setup) {
		other, err := s.client.FullDuplexCall(bounded(t))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			ctx, cancel := context.WithCancel(named(bounded(t), "cancel"))
			stream, err := s.client.FullDuplexCall(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := talk(stream, i, 1); err != nil {
				t.Fatal(err)
			}
			cancel()
			select {
			case <-s.server.cancelled:
			case <-time.After(5 * time.Second):
				t.Fatal("the server does not learn of it")
			}
			if err := talk(other, i, 1); err != nil {
				t.Fatal(err)
			}
		}
		_ = other.CloseSend()
		if _, err := other.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("the other stream ended with %v", err)
		}
	})
}

// TestDeadlines: the deadline of a client reaches the server with what is left of it, and
// that of the route ends a call whose client gave none.
func TestDeadlines(t *testing.T) {
	everyWay(t, `
[routes.short]
path = "/grpc.testing.TestService/UnaryCall"
timeout = "1s"
upstream = "u"
`, func(t *testing.T, s *setup) {
		begun := time.Now()
		_, err := s.client.UnaryCall(named(t.Context(), "hang"), &testgrpc.SimpleRequest{})
		// The server knows when the time is over, and may say so first.
		own := status.Convert(err).Message() == context.DeadlineExceeded.Error()
		if !own {
			wantCode(t, err, codes.DeadlineExceeded, "timeout; request id ")
		}
		if took := time.Since(begun); took < 900*time.Millisecond || took > 5*time.Second {
			t.Errorf("it took %v, want a second", took)
		}
		line := []string{`"route":"short"`, fmt.Sprintf(`"grpc_status":%d`, codes.DeadlineExceeded)}
		if !own {
			line = append(line, `"reason":"timeout"`)
		}
		s.logged(t, line...)
		for _, d := range []time.Duration{500 * time.Millisecond, 10 * time.Second} {
			name := fmt.Sprint(d)
			ctx, cancel := context.WithTimeout(named(t.Context(), name), d)
			if _, err := s.client.UnaryCall(ctx, &testgrpc.SimpleRequest{}); err != nil {
				t.Error(err)
			}
			cancel()
			left, _ := s.server.deadlines.Load(name)
			if left, ok := left.(time.Duration); !ok || left > min(d, time.Second) || left < min(d, time.Second)-400*time.Millisecond {
				t.Errorf("of %v the server sees %v", d, left)
			}
		}
	})
}

// TestUpstreamDies: a server that dies in the middle of calls gives UNAVAILABLE, and so does
// one that is not there; nothing hangs.
func TestUpstreamDies(t *testing.T) {
	everyWay(t, "", func(t *testing.T, s *setup) {
		ctx := bounded(t)
		streams := make([]testgrpc.TestService_FullDuplexCallClient, 20)
		for i := range streams {
			var err error
			if streams[i], err = s.client.FullDuplexCall(ctx); err != nil {
				t.Fatal(err)
			}
			if err := talk(streams[i], i, 1); err != nil {
				t.Fatal(err)
			}
		}
		hanging := make(chan error, 1)
		go func() { // ends with the call
			_, err := s.client.UnaryCall(named(ctx, "hang"), &testgrpc.SimpleRequest{})
			hanging <- err
		}()
		for s.server.open.Load() != int64(len(streams))+1 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		s.grpc.Stop()
		for i, stream := range streams {
			_, err := stream.Recv()
			if status.Code(err) != codes.Unavailable {
				t.Errorf("stream %d ended with %v", i, err)
			}
		}
		if err := <-hanging; status.Code(err) != codes.Unavailable {
			t.Errorf("the call without an answer ended with %v", err)
		}
		_, err := s.client.UnaryCall(ctx, &testgrpc.SimpleRequest{})
		wantCode(t, err, codes.Unavailable, "")
		s.logged(t, `"reason":"upstream_refused"`, fmt.Sprintf(`"grpc_status":%d`, codes.Unavailable))
	})
}

// TestOwnAnswers: what wproxy says itself, it says in gRPC.
func TestOwnAnswers(t *testing.T) {
	everyWay(t, `
[routes.limited]
path = "/grpc.testing.TestService/EmptyCall"
upstream = "u"
use = ["limit"]
[plugins.limit]
wasm = "builtin:ratelimit"
config = { rate = "1/h", burst = 1, key = "client-ip" }
[routes.denied]
path = "/grpc.testing.TestService/UnaryCall"
upstream = "u"
deny = ["127.0.0.0/8"]
`, func(t *testing.T, s *setup) {
		ctx := bounded(t)
		_, err := s.client.UnaryCall(ctx, &testgrpc.SimpleRequest{})
		wantCode(t, err, codes.PermissionDenied, "denied; request id ")
		_, err = s.client.EmptyCall(ctx, &testgrpc.Empty{})
		wantCode(t, err, codes.Unimplemented, "method EmptyCall not implemented") // the server's
		_, err = s.client.EmptyCall(ctx, &testgrpc.Empty{})
		wantCode(t, err, codes.Unavailable, "")
		s.logged(t, `"route":"limited"`, `"reason":"rate_limited"`, fmt.Sprintf(`"grpc_status":%d`, codes.Unavailable))
	})
}

// TestBlackHole: an upstream that accepts and says nothing ends with the deadline.
func TestBlackHole(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := newCertificate(t)
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			p := start(t, w, c, l.Addr().String(), "")
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := testgrpc.NewTestServiceClient(w.dial(t, c, p.addr)).UnaryCall(ctx, &testgrpc.SimpleRequest{})
			wantCode(t, err, codes.DeadlineExceeded, "")
			p.logged(t, `"path":"/grpc.testing.TestService/UnaryCall"`)
		})
	}
}
