package nodeapi

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/node"
	domainpolicy "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/internal/ca"
	"github.com/gpuaas/gpuaas/internal/mtls"
	"github.com/gpuaas/gpuaas/internal/policy"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/schema/queries"
	"github.com/gpuaas/gpuaas/workflows"
)

const (
	pathEnrol     = "/internal/v1/enrol"
	pathRenew     = "/internal/v1/renew"
	pathHeartbeat = "/internal/v1/heartbeat"
	pathInventory = "/internal/v1/inventory"

	maxTokenText = 512
	maxGPUs      = 64
	maxFieldText = 1024
	callPatience = 25 * time.Second
)

var policyOfflineAfter = domainpolicy.NodeOfflineAfterSeconds

type enrolRequest struct {
	Token     string         `json:"token"`
	CSR       string         `json:"csr"`
	Inventory node.Inventory `json:"inventory"`
}

type enrolResponse struct {
	NodeID      id.Node  `json:"node_id"`
	Certificate string   `json:"certificate"`
	Roots       string   `json:"roots"`
	Settings    settings `json:"settings"`
}

type renewRequest struct {
	CSR string `json:"csr"`
}

type renewResponse struct {
	Certificate string `json:"certificate"`
	Roots       string `json:"roots"`
}

type heartbeatRequest struct {
	AgentVersion  string `json:"agent_version"`
	RunningTasks  int    `json:"running_tasks"`
	FreeDiskBytes int64  `json:"free_disk_bytes"`
}

type heartbeatResponse struct {
	Settings settings `json:"settings"`
}

// settings is what the platform tells a node with enrolment and every heartbeat.
type settings struct {
	Namespace                    string    `json:"namespace"`
	TaskQueue                    string    `json:"task_queue"`
	FloorGeneration              int64     `json:"floor_generation"`
	HeartbeatIntervalSeconds     int64     `json:"heartbeat_interval_seconds"`
	TerminalSessionMaxTTLSeconds int64     `json:"terminal_session_max_ttl_seconds"`
	ServerTime                   time.Time `json:"server_time"`
}

func (s *Server) settings(values policy.Values, standing queries.Standing) settings {
	return settings{
		Namespace: s.config.Namespace, TaskQueue: workflows.NodeQueue(standing.ID), FloorGeneration: standing.Generation,
		HeartbeatIntervalSeconds:     values.Int(domainpolicy.NodeHeartbeatIntervalSeconds),
		TerminalSessionMaxTTLSeconds: values.Int(domainpolicy.TerminalSessionMaxTTLSeconds),
		ServerTime:                   time.Now().UTC().Truncate(time.Millisecond),
	}
}

// operations are ours beside Temporal's wire; schema/openapi/internal/nodes.yaml describes each.
func (s *Server) operations() map[string]func(w http.ResponseWriter, r *http.Request) (any, error) {
	return map[string]func(w http.ResponseWriter, r *http.Request) (any, error){
		pathEnrol: s.enrol, pathRenew: s.renew, pathHeartbeat: s.heartbeat, pathInventory: s.inventory,
	}
}

func (s *Server) router() http.Handler {
	routes := s.operations()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serve, known := routes[r.URL.Path]
		if !known {
			s.refuse(w, r, fault.New(fault.NotFound, ""))
			return
		}
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			s.refuse(w, r, fault.New(fault.MethodNotAllowed, ""))
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), callPatience)
		defer cancel()
		// A slow body must not hold a stream for ever.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(callPatience)) // HTTP/2 supports it
		answer, err := serve(w, r.WithContext(ctx))
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		encode(w, answer)
	})
}

// enrol trades a one-time token and a certificate request for an identity. Everything it does can be repeated, so
// that a node or a replica that dies in between asks again with the same token and the same key.
func (s *Server) enrol(w http.ResponseWriter, r *http.Request) (any, error) {
	if !s.strangers.allow(addressOf(r), time.Now()) {
		w.Header().Set("Retry-After", "1")
		return nil, fault.New(fault.RateLimitExceeded, "")
	}
	var request enrolRequest
	if err := decode(w, r, &request); err != nil {
		return nil, err
	}
	if request.Token == "" || len(request.Token) > maxTokenText {
		return nil, fault.New(fault.EnrolTokenInvalid, "")
	}
	csr, err := ca.ParseCSR(request.CSR)
	if err != nil {
		return nil, fault.Wrap(err, fault.CertificateRequestInvalid, "")
	}
	if err := checkInventory(request.Inventory); err != nil {
		return nil, err
	}
	ctx := r.Context()
	standing, err := s.takeIn(ctx, sha256.Sum256([]byte(request.Token)), sha256.Sum256(csr.RawSubjectPublicKeyInfo), request.Inventory)
	if err != nil {
		return nil, err
	}
	values, err := s.config.Policy.Values(ctx)
	if err != nil {
		return nil, fault.Wrap(err, fault.ServiceUnavailable, "")
	}
	chain, err := s.certify(ctx, standing.ID, request.CSR, values)
	if err != nil {
		return nil, err
	}
	if err := s.edges.start(ctx, standing.ID, standing.SKU); err != nil {
		return nil, fault.Wrap(err, fault.ServiceUnavailable, "")
	}
	s.config.Log.InfoContext(ctx, "a node was enrolled", "node_id", standing.ID, "sku", standing.SKU)
	return enrolResponse{NodeID: standing.ID, Certificate: chain, Roots: s.roots, Settings: s.settings(values, standing)}, nil
}

// takeIn uses the token up and writes the node, in one transaction.
func (s *Server) takeIn(ctx context.Context, token, key [32]byte, inventory node.Inventory) (queries.Standing, error) {
	var standing queries.Standing
	err := store.InTx(ctx, s.config.Pool, func(ctx context.Context, tx pgx.Tx) error {
		used, err := queries.EnrolWithToken(ctx, tx, token, key)
		if errors.Is(err, pgx.ErrNoRows) {
			return fault.New(fault.EnrolTokenInvalid, "")
		}
		if err != nil {
			return err
		}
		inserted, err := queries.InsertNode(ctx, tx, used.NodeID, used.SKU, used.Hostname)
		if err != nil {
			return err
		}
		standing, err = queries.GetStanding(ctx, tx, used.NodeID)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			// Not inserted and not there: another node has the hostname.
			return fault.New(fault.NodeAlreadyExists, "").With(map[string]any{"hostname": used.Hostname})
		case err != nil:
			return err
		case standing.Scheduling == node.Denied:
			return errDenied
		case standing.SKU != used.SKU:
			return fault.New(fault.NodeStateConflict, "The node is known under another SKU.")
		}
		if _, err := queries.SetInventory(ctx, tx, used.NodeID, inventory); err != nil {
			return err
		}
		return queries.InsertAudit(ctx, tx, queries.Audit{
			Actor: identity.Actor{ID: string(used.NodeID), Role: identity.RoleNode}, Action: "node.enrol", TargetType: "node", TargetID: string(used.NodeID),
			Details:       map[string]any{"sku": used.SKU, "token_created_by": used.CreatedBy, "first": inserted},
			CorrelationID: telemetry.Correlation(ctx),
		})
	})
	return standing, databaseFault(err)
}

// renew certifies a new key of a node that is known by its certificate.
func (s *Server) renew(w http.ResponseWriter, r *http.Request) (any, error) {
	var request renewRequest
	if err := decode(w, r, &request); err != nil {
		return nil, err
	}
	values, err := s.config.Policy.Values(r.Context())
	if err != nil {
		return nil, fault.Wrap(err, fault.ServiceUnavailable, "")
	}
	chain, err := s.certify(r.Context(), nodeFrom(r.Context()), request.CSR, values)
	if err != nil {
		return nil, err
	}
	return renewResponse{Certificate: chain, Roots: s.roots}, nil
}

func (s *Server) certify(ctx context.Context, nodeID id.Node, request string, values policy.Values) (string, error) {
	csr, err := ca.ParseCSR(request)
	if err != nil {
		return "", fault.Wrap(err, fault.CertificateRequestInvalid, "")
	}
	chain, err := s.config.Authority.Sign(ctx, ca.Request{CSR: csr, SPIFFE: mtls.NodeURI(nodeID), TTL: values.Seconds(domainpolicy.NodeCertificateTTLSeconds)})
	if err != nil {
		return "", fault.Wrap(err, fault.ServiceUnavailable, "The certificate authority gave no certificate.")
	}
	// Kept before it is handed out: evidence names every certificate that a node held.
	leaf := chain[0]
	if err := queries.InsertNodeCertificate(ctx, s.config.Pool, queries.NodeCertificate{
		NodeID: nodeID, Serial: leaf.SerialNumber.Text(16), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
	}); err != nil {
		return "", databaseFault(err)
	}
	return ca.EncodePEM(chain), nil
}

// heartbeat notes that the node is alive and tells its workflow only when that is news.
func (s *Server) heartbeat(w http.ResponseWriter, r *http.Request) (any, error) {
	var request heartbeatRequest
	if err := decode(w, r, &request); err != nil {
		return nil, err
	}
	if len(request.AgentVersion) > maxFieldText {
		return nil, fault.New(fault.ValidationError, "").With(map[string]any{"errors": []map[string]string{{"location": "body.agent_version", "message": "too long"}}})
	}
	ctx := r.Context()
	report, err := json.Marshal(map[string]int64{"running_tasks": int64(request.RunningTasks), "free_disk_bytes": request.FreeDiskBytes})
	if err != nil {
		return nil, err
	}
	standing := standingFrom(ctx)
	if err := queries.Beat(ctx, s.config.Pool, standing.ID, request.AgentVersion, report); err != nil {
		return nil, databaseFault(err)
	}
	if standing.Reachability == node.Online {
		s.edges.settled(standing.ID)
	} else if err := s.edges.tell(ctx, standing.ID, standing.SKU, workflows.NodeEdge{Reachability: node.Online, SeenAt: time.Now().UTC()}); err != nil {
		// The heartbeat counts all the same; the next one tells the edge again.
		s.config.Log.WarnContext(ctx, "a node's workflow could not be told that the node is online", "node_id", standing.ID, "error", err)
	}
	values, err := s.config.Policy.Values(ctx)
	if err != nil {
		return nil, fault.Wrap(err, fault.ServiceUnavailable, "")
	}
	return heartbeatResponse{Settings: s.settings(values, standing)}, nil
}

// inventory keeps what the node says of itself.
func (s *Server) inventory(w http.ResponseWriter, r *http.Request) (any, error) {
	var request node.Inventory
	if err := decode(w, r, &request); err != nil {
		return nil, err
	}
	if err := checkInventory(request); err != nil {
		return nil, err
	}
	if _, err := queries.SetInventory(r.Context(), s.config.Pool, nodeFrom(r.Context()), request); err != nil {
		return nil, databaseFault(err)
	}
	return struct{}{}, nil
}

func checkInventory(inventory node.Inventory) error {
	var wrong []map[string]string
	note := func(field, message string) {
		wrong = append(wrong, map[string]string{"location": "body.inventory." + field, "message": message})
	}
	if len(inventory.GPUs) > maxGPUs {
		note("gpus", "a node has at most 64 GPUs")
	}
	if inventory.SSHPort < 0 || inventory.SSHPort > 65535 {
		note("ssh_port", "a port is between 0 and 65535")
	}
	if inventory.CPUs < 0 || inventory.MemoryBytes < 0 || inventory.DiskBytes < 0 {
		note("cpus", "counts and sizes are not negative")
	}
	for field, text := range map[string]string{"hostname": inventory.Hostname, "os": inventory.OS, "kernel": inventory.Kernel, "driver": inventory.Driver,
		"cuda": inventory.CUDA, "ssh_host": inventory.SSHHost, "ssh_host_key": inventory.SSHHostKey, "agent_version": inventory.AgentVersion} {
		if len(text) > maxFieldText {
			note(field, "at most 1024 bytes")
		}
	}
	if wrong == nil {
		return nil
	}
	return fault.New(fault.ValidationError, "").With(map[string]any{"errors": wrong})
}

// databaseFault leaves faults alone and calls everything else from the database a service that is away.
func databaseFault(err error) error {
	var known *fault.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	return fault.Wrap(err, fault.ServiceUnavailable, "")
}
