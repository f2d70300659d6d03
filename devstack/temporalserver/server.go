// Package temporalserver runs the real Temporal server and its UI inside the development stack, on a standard
// server configuration file and the databases it is given. It imports the Temporal server, whose modules the
// product binaries never link: that is why the development stack is a module of its own.
package temporalserver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/membership/static"
	_ "go.temporal.io/server/common/persistence/sql/sqlplugin/postgresql" // the plugin that temporal-dev.yaml names
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"
)

// ConfigFileName is the configuration file at the top of the repository.
const ConfigFileName = "temporal-dev.yaml"

// Ports of one server on 127.0.0.1.
type Ports struct {
	Frontend, History, Matching, Worker                                         int
	FrontendMembership, HistoryMembership, MatchingMembership, WorkerMembership int
	Metrics                                                                     int
}

// Config of one server.
type Config struct {
	// File is the path of temporal-dev.yaml.
	File string
	// DatabaseURL signs in as the owner of both databases; its path is ignored.
	DatabaseURL string
	// Database and Visibility name the two databases.
	Database, Visibility string
	// Connections and VisibilityConnections bound the pools of each of the four services; 0 leaves what the file says.
	Connections, VisibilityConnections int
	Ports                              Ports
	// LogFile receives the server's own log, as JSON lines.
	LogFile string
}

// Server is a running Temporal server.
type Server struct {
	server  temporal.Server
	address string
}

// Start brings the databases to the server's schema and starts all four services. It returns when the frontend
// is up; Address then answers.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if err := export(cfg); err != nil {
		return nil, err
	}
	conf, err := config.Load(config.WithConfigFile(cfg.File))
	if err != nil {
		return nil, fmt.Errorf("%s is not usable: %w", cfg.File, err)
	}
	logger := log.NewZapLogger(log.BuildZapLogger(conf.Log))
	if err := migrate(ctx, conf, cfg.DatabaseURL, logger); err != nil {
		return nil, err
	}
	claims, err := authorization.GetClaimMapperFromConfig(&conf.Global.Authorization, logger)
	if err != nil {
		return nil, fmt.Errorf("the authorization of %s is not usable: %w", cfg.File, err)
	}
	server, err := temporal.NewServer(
		temporal.WithConfig(conf),
		temporal.ForServices(temporal.DefaultServices),
		temporal.WithStaticHosts(hosts(cfg.Ports)),
		temporal.WithLogger(logger),
		temporal.WithAuthorizer(authorization.NewNoopAuthorizer()),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return claims }),
		temporal.WithDynamicConfigClient(settings()),
	)
	if err != nil {
		return nil, fmt.Errorf("the Temporal server cannot be assembled: %w", err)
	}
	if err := server.Start(); err != nil {
		_ = server.Stop()
		return nil, fmt.Errorf("the Temporal server does not start (log: %s): %w", cfg.LogFile, err)
	}
	return &Server{server: server, address: loopback(cfg.Ports.Frontend)}, nil
}

// Address of the frontend, host:port.
func (s *Server) Address() string { return s.address }

// Stop ends all services.
func (s *Server) Stop() error { return s.server.Stop() }

// settings are the dynamic values. One partition a queue, because a node's queue has one poller and four
// partitions would make it look at each; limits high enough that one machine meets its own first.
func settings() dynamicconfig.StaticClient {
	return dynamicconfig.StaticClient{
		dynamicconfig.MatchingNumTaskqueueReadPartitions.Key():                  1,
		dynamicconfig.MatchingNumTaskqueueWritePartitions.Key():                 1,
		dynamicconfig.FrontendMaxConcurrentLongRunningRequestsPerInstance.Key(): 20_000,
		dynamicconfig.FrontendMaxNamespaceRPSPerInstance.Key():                  50_000,
		dynamicconfig.FrontendRPS.Key():                                         50_000,
		dynamicconfig.ForceSearchAttributesCacheRefreshOnRead.Key():             true,
	}
}

func hosts(p Ports) map[primitives.ServiceName]static.Hosts {
	return map[primitives.ServiceName]static.Hosts{
		primitives.FrontendService: static.SingleLocalHost(loopback(p.Frontend)),
		primitives.HistoryService:  static.SingleLocalHost(loopback(p.History)),
		primitives.MatchingService: static.SingleLocalHost(loopback(p.Matching)),
		primitives.WorkerService:   static.SingleLocalHost(loopback(p.Worker)),
	}
}

func loopback(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// export sets the variables that the template reads. The template can read nothing else, and this process runs one
// server, so its environment is where these belong.
func export(cfg Config) error {
	u, err := url.Parse(cfg.DatabaseURL)
	if err != nil || u.User == nil {
		return errors.New("the database URL for Temporal names no user")
	}
	port := u.Port()
	if port == "" {
		port = "5432"
	}
	password, _ := u.User.Password()
	p := cfg.Ports
	for name, value := range map[string]string{
		"TEMPORAL_LOG_FILE":                 cfg.LogFile,
		"TEMPORAL_POSTGRES_ADDRESS":         u.Hostname() + ":" + port,
		"TEMPORAL_POSTGRES_USER":            u.User.Username(),
		"TEMPORAL_POSTGRES_PASSWORD":        password,
		"TEMPORAL_POSTGRES_SSLMODE":         u.Query().Get("sslmode"),
		"TEMPORAL_DATABASE":                 cfg.Database,
		"TEMPORAL_VISIBILITY_DATABASE":      cfg.Visibility,
		"TEMPORAL_CONNECTIONS":              orTheFiles(cfg.Connections),
		"TEMPORAL_VISIBILITY_CONNECTIONS":   orTheFiles(cfg.VisibilityConnections),
		"TEMPORAL_METRICS_PORT":             strconv.Itoa(p.Metrics),
		"TEMPORAL_FRONTEND_PORT":            strconv.Itoa(p.Frontend),
		"TEMPORAL_HISTORY_PORT":             strconv.Itoa(p.History),
		"TEMPORAL_MATCHING_PORT":            strconv.Itoa(p.Matching),
		"TEMPORAL_WORKER_PORT":              strconv.Itoa(p.Worker),
		"TEMPORAL_FRONTEND_MEMBERSHIP_PORT": strconv.Itoa(p.FrontendMembership),
		"TEMPORAL_HISTORY_MEMBERSHIP_PORT":  strconv.Itoa(p.HistoryMembership),
		"TEMPORAL_MATCHING_MEMBERSHIP_PORT": strconv.Itoa(p.MatchingMembership),
		"TEMPORAL_WORKER_MEMBERSHIP_PORT":   strconv.Itoa(p.WorkerMembership),
	} {
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("the variable %s cannot be set: %w", name, err)
		}
	}
	return nil
}

// orTheFiles is a number for the template, which takes its own for an empty variable.
func orTheFiles(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// FindConfigFile looks for temporal-dev.yaml upward from the working directory and from the program's own place.
func FindConfigFile() (string, error) {
	var starts []string
	if dir, err := os.Getwd(); err == nil {
		starts = append(starts, dir)
	}
	if exe, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(exe))
	}
	for _, dir := range starts {
		for {
			path := filepath.Join(dir, ConfigFileName)
			if _, err := os.Stat(path); err == nil {
				return path, nil
			}
			parent := filepath.Dir(dir)
			if parent == dir {
				break
			}
			dir = parent
		}
	}
	return "", fmt.Errorf("%s was not found: run from the repository, or give its path in GPUAAS_TEMPORAL_CONFIG", ConfigFileName)
}
