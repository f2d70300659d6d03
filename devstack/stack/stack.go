// Package stack assembles a development instance of the platform from its parts: a private Postgres (or databases on
// a given one), Temporal with its UI, step-ca, an OIDC issuer, Redis, NATS, a stand-in for Stripe and a sink for mail, all on loopback, with
// their data in one directory.
// It may import the parts beside it and internal packages of the product; nothing of the product imports it.
package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/devstack/issuer"
	"github.com/gpuaas/gpuaas/devstack/natsserver"
	"github.com/gpuaas/gpuaas/devstack/stepca"
	"github.com/gpuaas/gpuaas/devstack/stripe"
	"github.com/gpuaas/gpuaas/devstack/temporalserver"
	"github.com/gpuaas/gpuaas/internal/email/sink"
	"github.com/gpuaas/gpuaas/internal/postgres"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/schema"
	"github.com/gpuaas/gpuaas/workflows"
)

const (
	namespaceRetention = 30 * 24 * time.Hour
	namespaceDeadline  = 60 * time.Second
	// natsName is the directory of the streams.
	natsName = "nats"
	// stripeName is the directory of the Stripe stand-in: what it knows, and its plain log of payments.
	stripeName = "stripe"
)

// Part is one piece of infrastructure.
type Part string

// The parts. Temporal needs Postgres; the UI comes with Temporal unless the instance is for tests.
const (
	Postgres   Part = "postgres"
	Temporal   Part = "temporal"
	TemporalUI Part = "ui"
	OIDC       Part = "oidc"
	CA         Part = "ca"
	Redis      Part = "redis"
	NATS       Part = "nats"
	Stripe     Part = "stripe"
	SMTP       Part = "smtp"
)

// AllParts are the parts of a whole instance, in their order of start.
func AllParts() []Part {
	return []Part{Postgres, Temporal, TemporalUI, OIDC, CA, Redis, NATS, Stripe, SMTP}
}

// Config of an instance.
type Config struct {
	// DataDir holds everything that survives a restart.
	DataDir string
	// PortBase that was asked for; 0 lets the instance choose and remember. PassingPorts takes any free block.
	PortBase     int
	PassingPorts bool
	Parts        []Part
	// DatabaseURL of a given server; empty runs a private one.
	DatabaseURL string
	// PostgresBin names the directory of the server's binaries; empty looks for the newest.
	PostgresBin string
	// Redis says which server is run; empty is the embedded one. RedisBin is the path of redis-server; empty looks on the PATH.
	Redis    RedisKind
	RedisBin string
	// TemporalConfig is the path of temporal-dev.yaml; empty looks for it.
	TemporalConfig string
	// StripeFaults are the trouble that the Stripe stand-in makes from the beginning, the same again for the same seed.
	StripeFaults stripe.Faults
	StripeSeed   uint64
	// Product migrates and seeds the product's database and makes the programs' role.
	Product bool
	// Beside says that programs of this instance run as processes of their own, and perhaps run already.
	Beside bool
	Logger *slog.Logger
	// Notice tells a person something; nil drops it.
	Notice func(string)
}

// Stack is a running instance.
type Stack struct {
	cfg      Config
	lock     *os.File
	memory   memory
	Ports    Ports
	Server   *postgres.Server // nil on a given server
	Data     postgres.Databases
	pools    pools
	Temporal *temporalserver.Server
	UI       *temporalserver.UI
	Issuer   *issuer.Issuer
	CA       *stepca.CA
	Redis    RedisServer
	NATS     *natsserver.Server
	Stripe   *stripe.Server
	SMTP     *sink.Sink
	// redisBinary is the path of the real server that runs.
	redisBinary string
}

// memory is what an instance remembers beside its data: DataDir/instance.json.
type memory struct {
	PortBase int `json:"port_base,omitempty"`
	// ProbeSecret is the secret that login-probe keys derive from.
	ProbeSecret string `json:"probe_secret,omitempty"`
	// TokenKey seals the task tokens that nodes hold.
	TokenKey string `json:"token_key,omitempty"`
	// IDKey derives ids from idempotency keys.
	IDKey string `json:"id_key,omitempty"`
	// NATSPassword lets the programs into NATS.
	NATSPassword string `json:"nats_password,omitempty"`
	// StripeKey and StripeWebhook are the secret key and the webhook secret of the instance's account at the stand-in.
	StripeKey     string `json:"stripe_key,omitempty"`
	StripeWebhook string `json:"stripe_webhook,omitempty"`
	// WebhookKey seals the signing secrets of customers' webhooks.
	WebhookKey string `json:"webhook_key,omitempty"`
}

// Start starts the parts of cfg in their order. On an error everything that had started is stopped again.
func Start(ctx context.Context, cfg Config) (*Stack, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Notice == nil {
		cfg.Notice = func(string) {}
	}
	dir, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	cfg.DataDir = dir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("the data directory cannot be made: %w", err)
	}
	s := &Stack{cfg: cfg}
	if s.lock, err = lockInstance(dir); err != nil {
		return nil, err
	}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *Stack) start(ctx context.Context) error {
	// What a killed instance left behind goes first: its Postgres may still hold one of our ports.
	if err := postgres.StopLeftover(ctx, s.cfg.DataDir); err != nil {
		return err
	}
	if err := os.Remove(s.EndpointsFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := s.remember(); err != nil {
		return err
	}
	if s.has(Postgres) || s.has(Temporal) {
		if err := s.startDatabases(ctx); err != nil {
			return err
		}
	}
	if s.has(Temporal) {
		if err := s.startTemporal(ctx); err != nil {
			return err
		}
	}
	if s.has(OIDC) {
		running, err := issuer.Start(issuer.Config{
			Port: s.Ports.OIDC(), KeyFile: s.path("issuer", "signing-key.pem"),
			Clients: issuer.DevelopmentClients(s.consoleURL()), Users: issuer.DevelopmentUsers(), Logger: s.cfg.Logger,
		})
		if err != nil {
			return err
		}
		s.Issuer = running
	}
	if s.has(CA) {
		running, err := stepca.Start(ctx, s.path("ca"), s.Ports.CA())
		if err != nil {
			return err
		}
		s.CA = running
	}
	if s.has(Redis) {
		if err := s.startRedis(ctx); err != nil {
			return err
		}
	}
	if s.has(NATS) {
		running, err := natsserver.Start(natsserver.Config{
			Directory: s.path(natsName), Port: s.Ports.NATS(), Password: s.memory.NATSPassword, Logger: s.cfg.Logger,
		})
		if err != nil {
			return err
		}
		s.NATS = running
	}
	if s.has(Stripe) {
		if err := s.startStripe(); err != nil {
			return err
		}
	}
	if s.has(SMTP) {
		return s.startSMTP()
	}
	return nil
}

func (s *Stack) startDatabases(ctx context.Context) error {
	var err error
	if s.cfg.DatabaseURL != "" {
		s.Data, err = postgres.OnGiven(ctx, s.cfg.DatabaseURL, s.cfg.DataDir)
	} else {
		s.Server, err = postgres.Start(ctx, postgres.Config{
			DataDir: s.cfg.DataDir, Port: s.Ports.Postgres(), BinDir: s.cfg.PostgresBin, Logger: s.cfg.Logger, Notice: s.cfg.Notice,
		})
		if err == nil {
			s.Data, err = s.Server.Databases(ctx)
		}
	}
	if err != nil {
		return err
	}
	var notice string
	if s.pools, notice, err = choosePools(s.Data.Connections, s.has(Temporal), s.cfg.Product); err != nil {
		return err
	}
	if notice != "" {
		s.cfg.Notice(notice)
	}
	if !s.cfg.Product {
		return nil
	}
	url := s.Data.OwnerURL(s.Data.Product)
	if _, err := store.Migrate(ctx, url); err != nil {
		return fmt.Errorf("the product's database cannot be migrated: %w", err)
	}
	if err := seed(ctx, url, issuer.URL(s.Ports.OIDC())); err != nil {
		return err
	}
	return s.Data.AdmitPrograms(ctx)
}

// seed writes what every instance has, and keeps its users theirs: they are known by the address of the embedded issuer, which has moved when the
// instance has.
func seed(ctx context.Context, url, issuerURL string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("the product's database refuses its owner: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, schema.Seed); err != nil {
		return fmt.Errorf("the product's database cannot be seeded: %w", err)
	}
	if _, err := conn.Exec(ctx, `UPDATE users SET issuer = $1 WHERE issuer <> $1 AND issuer ~ ('^http://localhost:[0-9]+' || $2 || '$')
		AND NOT EXISTS (SELECT FROM users AS there WHERE there.issuer = $1 AND there.subject = users.subject)`, issuerURL, issuer.RealmPath); err != nil {
		return fmt.Errorf("the users of the instance cannot be moved to its issuer's address: %w", err)
	}
	return nil
}

func (s *Stack) startTemporal(ctx context.Context) error {
	file := s.cfg.TemporalConfig
	if file == "" {
		found, err := temporalserver.FindConfigFile()
		if err != nil {
			return err
		}
		file = found
	}
	running, err := temporalserver.Start(ctx, temporalserver.Config{
		File: file, DatabaseURL: s.Data.AdminURL, Database: s.Data.Temporal, Visibility: s.Data.Visibility,
		Connections: s.pools.temporal, VisibilityConnections: s.pools.visibility, Ports: s.Ports.TemporalServer(), LogFile: s.path("temporal.log"),
	})
	if err != nil {
		return err
	}
	s.Temporal = running
	ctx, cancel := context.WithTimeout(ctx, namespaceDeadline)
	defer cancel()
	cluster := temporal.Config{Address: running.Address(), Namespace: workflows.Namespace}
	err = temporal.RegisterNamespace(ctx, cluster, namespaceRetention, workflows.SearchAttributes())
	if err != nil || !s.has(TemporalUI) {
		return err
	}
	s.UI, err = temporalserver.StartUI(ctx, running.Address(), workflows.Namespace, s.consoleURL(), s.Ports.TemporalUI())
	return err
}

// Stop ends every part in the reverse order and releases the data directory.
func (s *Stack) Stop() error {
	var problems []error
	if err := os.Remove(s.EndpointsFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		problems = append(problems, err)
	}
	if s.SMTP != nil {
		problems = append(problems, s.SMTP.Close())
	}
	if s.Stripe != nil {
		problems = append(problems, s.Stripe.Stop())
	}
	if s.NATS != nil {
		problems = append(problems, s.NATS.Stop())
	}
	if s.Redis != nil {
		problems = append(problems, s.Redis.Stop())
	}
	if s.CA != nil {
		problems = append(problems, s.CA.Stop())
	}
	if s.Issuer != nil {
		problems = append(problems, s.Issuer.Stop())
	}
	if s.UI != nil {
		s.UI.Stop()
	}
	if s.Temporal != nil {
		problems = append(problems, s.Temporal.Stop())
	}
	if s.Server != nil {
		problems = append(problems, s.Server.Stop())
	}
	problems = append(problems, s.lock.Close())
	return errors.Join(problems...)
}

func (s *Stack) has(part Part) bool {
	for _, p := range s.cfg.Parts {
		if p == part {
			return true
		}
	}
	return false
}

func (s *Stack) path(elements ...string) string {
	return filepath.Join(append([]string{s.cfg.DataDir}, elements...)...)
}

// remember settles the ports and secrets of the instance and writes them down.
func (s *Stack) remember() error {
	path := s.path("instance.json")
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, &s.memory)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s cannot be read: %w", path, err)
	}
	var notice string
	if s.cfg.PassingPorts {
		s.Ports, err = randomPorts()
	} else {
		s.Ports, notice, err = choosePorts(wish{asked: s.cfg.PortBase, last: s.memory.PortBase, beside: s.cfg.Beside})
	}
	if err != nil {
		return err
	}
	if notice != "" {
		s.cfg.Notice(notice)
	}
	s.memory.PortBase = s.Ports.Base
	for _, secret := range []*string{&s.memory.ProbeSecret, &s.memory.TokenKey, &s.memory.IDKey, &s.memory.NATSPassword, &s.memory.StripeKey, &s.memory.StripeWebhook,
		&s.memory.WebhookKey} {
		if *secret == "" {
			*secret = newSecret()
		}
	}
	if err := keepEvidenceKey(filepath.Dir(path)); err != nil {
		return err
	}
	return writeJSON(path, s.memory)
}

// lockInstance makes sure that one process at a time uses a data directory; the kernel releases the lock of a
// killed one.
func lockInstance(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "instance.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the data directory cannot be locked: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil { //nolint:gosec // a descriptor fits an int
		_ = f.Close()
		return nil, fmt.Errorf("an instance already runs on %s: stop it, or choose another directory by GPUAAS_DATA", dir)
	}
	return f, nil
}

// Clean removes what an instance left in dataDir, and its databases on a given server, which databaseURL must then name.
func Clean(ctx context.Context, dataDir, databaseURL string) error {
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "instance.lock")); errors.Is(err, os.ErrNotExist) {
		return nil // nothing of ours: a mistyped directory is left alone
	}
	lock, err := lockInstance(dir)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if databaseURL != "" {
		if err := postgres.DropGiven(ctx, databaseURL, dir); err != nil {
			return err
		}
	}
	if err := postgres.Remove(ctx, dir); err != nil {
		return err
	}
	for _, name := range []string{"issuer", "ca", "redis", natsName, stripeName, nodesName, "log", "temporal.log", "devstack.log", evidenceKeyName, ledgerHeadsName, "instance.json", endpointsName, "instance.lock"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	_ = os.Remove(dir) // only if empty: whatever else lies there is not ours
	return nil
}
