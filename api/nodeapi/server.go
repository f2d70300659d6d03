// Package nodeapi is the node gateway: the mTLS side of the platform that machines of the fleet speak to. It
// serves enrolment, renewal, heartbeats, inventory, and Temporal's wire reduced to what an activity worker needs for
// its own queue, so that no node ever reaches Temporal itself. It imports workflows, domain, schema/queries and
// internal (store, ca, mtls, policy, telemetry).
package nodeapi

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/internal/ca"
	"github.com/gpuaas/gpuaas/internal/mtls"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/workflows"
)

// Limits on what one peer may ask of the gateway; zero means the default.
const (
	maxMessageBytes  = 1 << 20
	maxBodyBytes     = 256 << 10
	maxHeaderBytes   = 16 << 10
	defaultRate      = 50
	defaultBurst     = 200
	defaultPolls     = 16
	enrolRate        = 20
	enrolBurst       = 500
	maxStreams       = 64
	shutdownPatience = 5 * time.Second
)

// Config is what a gateway is made of.
type Config struct {
	Pool *pgxpool.Pool
	// Temporal starts and signals Node workflows; Frontend is where nodes' calls are forwarded, Temporal's own
	// service if nil.
	Temporal client.Client
	Frontend workflowservice.WorkflowServiceClient
	// Namespace is where the nodes' tasks are; workflows.Namespace if empty.
	Namespace string
	// Authority certifies nodes; Certificate is this server's own.
	Authority   ca.Client
	Certificate *mtls.Renewing
	Keys        *TokenKeys
	Policy      *policy.Client
	Log         *slog.Logger
	// RequestsPerSecond and Burst bound one node; ParkedPolls is how many of its polls may wait.
	RequestsPerSecond float64
	Burst             int
	ParkedPolls       int
}

// Server is one replica of the node gateway. Two run side by side: what they share is in Postgres and Temporal.
type Server struct {
	config Config
	gate   *gate
	edges  *edges
	// nodes and strangers bound requests by node and, at enrolment, by address.
	nodes, strangers *budgets
	roots            string
	grpc             *grpc.Server
	routes           http.Handler
}

// New makes a gateway; it listens when Serve is called.
func New(config Config) (*Server, error) {
	if config.Pool == nil || config.Temporal == nil || config.Authority == nil || config.Certificate == nil || config.Keys == nil || config.Policy == nil || config.Log == nil {
		return nil, errors.New("the node gateway needs a pool, Temporal, a certificate authority, a certificate, token keys, policy and a log")
	}
	if config.Frontend == nil {
		config.Frontend = config.Temporal.WorkflowService()
	}
	if config.Namespace == "" {
		config.Namespace = workflows.Namespace
	}
	if config.RequestsPerSecond == 0 {
		config.RequestsPerSecond = defaultRate
	}
	if config.Burst == 0 {
		config.Burst = defaultBurst
	}
	if config.ParkedPolls == 0 {
		config.ParkedPolls = defaultPolls
	}
	s := &Server{
		config: config,
		gate:   newGate(config.Pool, config.Log),
		edges:  newEdges(config.Temporal),
		nodes:  newBudgets(rate.Limit(config.RequestsPerSecond), config.Burst), strangers: newBudgets(enrolRate, enrolBurst),
		roots: ca.EncodePEM(config.Certificate.Roots()),
	}
	s.grpc = s.workflowService()
	s.routes = s.router()
	return s, nil
}

// workflowService is Temporal's wire as nodes see it.
func (s *Server) workflowService(options ...grpc.ServerOption) *grpc.Server {
	server := grpc.NewServer(append(options, grpc.ChainUnaryInterceptor(cutWithNode), grpc.MaxRecvMsgSize(maxMessageBytes), grpc.MaxSendMsgSize(4*maxMessageBytes))...)
	workflowservice.RegisterWorkflowServiceServer(server, &activityService{
		namespace: s.config.Namespace, frontend: s.config.Frontend, keys: s.config.Keys, gate: s.gate, polls: newPollSlots(s.config.ParkedPolls),
	})
	return server
}

// RootFingerprint is what a new node is given to know the platform by: the SHA-256 of the root, in hexadecimal.
func (s *Server) RootFingerprint() string { return s.config.Certificate.RootFingerprint() }

// Serve listens until ctx ends, then lets requests finish for a few seconds; parked polls are cut off at once. It
// also watches denials, finds silent nodes and renews the server's own certificate.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	base, cutAll := context.WithCancel(context.WithoutCancel(ctx))
	defer cutAll()
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	server := &http.Server{
		Handler:           s,
		TLSConfig:         s.config.Certificate.ServerConfig(),
		Protocols:         protocols,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       3 * time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return base },
		// Small buffers a stream, so that one stalled upload does not block the others of its connection.
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerStream: 64 << 10, MaxReceiveBufferPerConnection: 16 << 20,
			SendPingTimeout: 20 * time.Second, PingTimeout: 10 * time.Second, WriteByteTimeout: 30 * time.Second,
		},
	}
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error {
		err := server.Serve(tls.NewListener(listener, server.TLSConfig))
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	})
	group.Go(func() error { s.gate.watch(running); return nil })
	group.Go(func() error { s.sweep(running); return nil })
	group.Go(func() error { _ = s.config.Certificate.Run(running); return nil }) // ends with the context
	group.Go(func() error {
		<-running.Done()
		cutAll()
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownPatience)
		defer cancel()
		if err := server.Shutdown(patience); err != nil {
			return server.Close()
		}
		return nil
	})
	return group.Wait()
}

// ServeHTTP decides who asks before anything of the request is read, then hands it to Temporal's wire or to ours.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	correlationID := correlation(r)
	w.Header().Set("X-Correlation-Id", correlationID)
	r = r.WithContext(telemetry.WithCorrelation(r.Context(), correlationID))
	defer func() {
		if trouble := recover(); trouble != nil && trouble != http.ErrAbortHandler { //nolint:errorlint // a sentinel value of panic
			s.config.Log.ErrorContext(r.Context(), "a request to the node gateway panicked", "path", r.URL.Path, "panic", trouble)
			s.refuse(w, r, fault.New(fault.InternalError, ""))
		}
	}()
	if r.URL.Path == pathEnrol {
		s.routes.ServeHTTP(w, r)
		return
	}
	peer, err := s.authenticate(r)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	if !s.nodes.allow(string(peer.Node), time.Now()) {
		w.Header().Set("Retry-After", "1")
		s.refuse(w, r, fault.New(fault.RateLimitExceeded, ""))
		return
	}
	standing, err := s.gate.admit(r.Context(), peer.Node)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	own := withNode(r.Context(), standing)
	ctx, leave := s.gate.enter(own, peer.Node)
	defer leave()
	if time.Until(peer.NotAfter) < peer.NotAfter.Sub(peer.NotBefore)/3 {
		// The node renewed long ago, on another connection or not at all: let it come back with what it has now.
		w.Header().Set("Connection", "close")
	}
	if isGRPC(r) {
		// The call is cut inside gRPC, so that it ends with the refusal; a request cut from outside ends without a status.
		s.grpc.ServeHTTP(w, r.WithContext(withCut(own, ctx)))
		return
	}
	s.routes.ServeHTTP(w, r.WithContext(ctx))
}

// authenticate takes the node from the certificate alone, and refuses one that expired since the handshake.
func (s *Server) authenticate(r *http.Request) (mtls.Peer, error) {
	peer, err := mtls.PeerOf(r.TLS)
	if err != nil {
		return peer, fault.Wrap(err, fault.NodeCertificateInvalid, "")
	}
	if peer.Node == "" {
		return peer, fault.New(fault.NodeCertificateInvalid, "This address is for nodes; the certificate names a service.")
	}
	if time.Now().After(peer.NotAfter) {
		return peer, fault.New(fault.NodeCertificateInvalid, "The node's certificate has expired.")
	}
	return peer, nil
}

func isGRPC(r *http.Request) bool {
	return r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}
