package grpc

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	v3orca "github.com/cncf/xds/go/xds/data/orca/v3"
	orcaservice "github.com/cncf/xds/go/xds/service/orca/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/orca"
)

// cases are those of the interoperability client. Left out are the seven that need an
// account with Google (compute_engine_creds, service_account_creds, jwt_token_creds,
// per_rpc_creds, oauth2_auth_token, google_default_credentials and
// compute_engine_channel_credentials).
var cases = []string{
	"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
	"timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response", "status_code_and_message",
	"special_status_message", "custom_metadata", "unimplemented_method", "unimplemented_service", "pick_first_unary",
	"orca_per_rpc", "orca_oob", "rpc_soak", "channel_soak",
}

// runs returns how often each case is run: a proxy that races for the trailers looks fine
// in most.
func runs(t *testing.T) int {
	t.Helper()
	s := os.Getenv("GRPC_RUNS")
	if s == "" {
		return 3
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("GRPC_RUNS=%q is not a number of runs", s)
	}
	return n
}

// TestInterop runs every case of the interoperability client through wproxy, and once at
// the server itself, which shows that the case is good.
func TestInterop(t *testing.T) {
	c := newCertificate(t)
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			_, upstream := w.serve(t, c, registerInterop, orca.CallMetricsServerOption(nil))
			p := start(t, w, c, upstream, "")
			for _, name := range cases {
				t.Run(name, func(t *testing.T) {
					runCase(t, w, c, name, "the server", upstream)
					for range runs(t) {
						runCase(t, w, c, name, "wproxy", p.addr)
					}
				})
			}
		})
	}
}

// clientRace is how the client itself fails in one case, at any server, when it is slow to
// look: it calls off a call and then closes its half, which the server answers. If both the
// answer and the end of its context are there it takes either.
const clientRace = "CloseAndRecv() got error code 0, want 1"

// runCase runs the client once, at what has this address.
func runCase(t *testing.T, w way, c *certificate, name, what, addr string) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-test_case=" + name, "-server_host=" + host, "-server_port=" + port, "-soak_iterations=20", "-soak_per_iteration_max_acceptable_latency_ms=5000"}
	if w.tls {
		args = append(args, "-use_tls", "-use_test_ca", "-ca_file="+c.cert, "-server_host_override=a.test")
	}
	if name == "orca_per_rpc" || name == "orca_oob" {
		args = append(args, `-service_config_json={"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}`)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, programs.client, args...).CombinedOutput()
	if err != nil && strings.Contains(string(out), clientRace) {
		t.Logf("%s at %s: the client has raced with itself; again", name, what)
		out, err = exec.CommandContext(ctx, programs.client, args...).CombinedOutput()
	}
	if err != nil {
		t.Errorf("%s at %s: %v\n%s", name, what, err, out)
	}
}

// registerInterop makes of s the interoperability server. The program of that name listens
// on all interfaces.
func registerInterop(s *grpc.Server) {
	metrics := orca.NewServerMetricsRecorder()
	testgrpc.RegisterTestServiceServer(s, &interopServer{
		interop.NewTestServer(interop.NewTestServerOptions{MetricsRecorder: metrics}),
	})
	orcaservice.RegisterOpenRcaServiceServer(s, &orcaServer{metrics: metrics})
}

// An interopServer says who it is, as pick_first_unary needs it.
type interopServer struct{ testgrpc.TestServiceServer }

func (s *interopServer) UnaryCall(ctx context.Context, in *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	out, err := s.TestServiceServer.UnaryCall(ctx, in)
	if out != nil && in.GetFillServerId() {
		out.ServerId = "the one"
	}
	return out, err
}

// orcaServer reports metrics every 100 ms; the library's own has a minimum of 30 s.
type orcaServer struct {
	orcaservice.UnimplementedOpenRcaServiceServer
	metrics orca.ServerMetricsRecorder
}

func (s *orcaServer) StreamCoreMetrics(_ *orcaservice.OrcaLoadReportRequest, out orcaservice.OpenRcaService_StreamCoreMetricsServer) error {
	for {
		m := s.metrics.ServerMetrics()
		r := &v3orca.OrcaLoadReport{Utilization: m.Utilization, RequestCost: m.RequestCost}
		r.CpuUtilization, r.MemUtilization = max(m.CPUUtilization, 0), max(m.MemUtilization, 0)
		if err := out.Send(r); err != nil {
			return err
		}
		select {
		case <-out.Context().Done():
			return out.Context().Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
