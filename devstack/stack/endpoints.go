package stack

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/gpuaas/gpuaas/devstack/issuer"
	"github.com/gpuaas/gpuaas/devstack/stepca"
	"github.com/gpuaas/gpuaas/devstack/stripe"
	"github.com/gpuaas/gpuaas/internal/temporal"
	"github.com/gpuaas/gpuaas/workflows"
)

const (
	endpointsName = "endpoints.json"
	nodesName     = "nodes"
	fleetName     = "fleet.json"
)

// apiClient is the client that scripts and tests sign in with.
const apiClient = "gpuaas-api"

// Login is a development user.
type Login struct {
	Username string   `json:"username"`
	Password string   `json:"password"`
	Roles    []string `json:"roles"`
	// OrgID is the organisation, empty for a user with a tenant of their own.
	OrgID string `json:"org_id,omitempty"`
}

// Endpoints is where everything of an instance is: what smoke, drills, tests and the CLI read.
type Endpoints struct {
	PID               int    `json:"pid"`
	PortBase          int    `json:"port_base"`
	APIURL            string `json:"api_url,omitempty"`
	APIInternalURL    string `json:"api_internal_url,omitempty"`
	IssuerURL         string `json:"issuer_url,omitempty"`
	TokenURL          string `json:"token_url,omitempty"`
	ClientID          string `json:"client_id,omitempty"`
	ClientSecret      string `json:"client_secret,omitempty"`
	RedirectURL       string `json:"redirect_url,omitempty"`
	TemporalAddress   string `json:"temporal_address,omitempty"`
	TemporalNamespace string `json:"temporal_namespace,omitempty"`
	TemporalUIURL     string `json:"temporal_ui_url,omitempty"`
	// TemporalUIInternalURL is where the UI listens; people reach it through the API.
	TemporalUIInternalURL string `json:"temporal_ui_internal_url,omitempty"`
	DatabaseURL           string `json:"database_url,omitempty"`
	DatabaseOwnerURL      string `json:"database_owner_url,omitempty"`
	DatabaseAdminURL      string `json:"database_admin_url,omitempty"`
	// DatabaseMaxConnections bounds the pool of each program, absent where that is the usual size.
	DatabaseMaxConnections int    `json:"database_max_connections,omitempty"`
	PostgresDataDir        string `json:"postgres_data_dir,omitempty"`
	PostgresPID            int    `json:"postgres_pid,omitempty"`
	RedisURL               string `json:"redis_url,omitempty"`
	RedisServer            string `json:"redis_server,omitempty"` // the binary, absent for the embedded server
	NATSURL                string `json:"nats_url,omitempty"`
	// StripeURL is the stand-in: Stripe's API, and the page that lists what waits to be paid. StripePaymentsLog is its plain log.
	StripeURL         string `json:"stripe_url,omitempty"`
	StripePaymentsLog string `json:"stripe_payments_log,omitempty"`
	// SMTPURL is the sink that takes every mail; MailURL is the page on which people read them, with /messages as JSON.
	SMTPURL           string  `json:"smtp_url,omitempty"`
	MailURL           string  `json:"mail_url,omitempty"`
	CAURL             string  `json:"ca_url,omitempty"`
	CARootFile        string  `json:"ca_root_file,omitempty"`
	CARootFingerprint string  `json:"ca_root_fingerprint,omitempty"`
	CAProvisioner     string  `json:"ca_provisioner,omitempty"`
	CAProvisionerKey  string  `json:"ca_provisioner_key_file,omitempty"`
	SimStateDir       string  `json:"sim_state_dir,omitempty"`
	SimulatorURL      string  `json:"simulator_url,omitempty"`
	Users             []Login `json:"users,omitempty"`
}

// Endpoints of the parts that run.
func (s *Stack) Endpoints() Endpoints {
	e := Endpoints{PID: os.Getpid(), PortBase: s.Ports.Base}
	if s.Data.Product != "" {
		e.DatabaseURL, e.DatabaseOwnerURL = s.Data.ProgramURL(), s.Data.OwnerURL(s.Data.Product)
		e.DatabaseAdminURL = s.Data.AdminURL
		if s.pools != usualPools() {
			e.DatabaseMaxConnections = s.pools.program
		}
	}
	if s.Server != nil {
		e.PostgresDataDir, e.PostgresPID, e.DatabaseAdminURL = s.Server.Cluster(), s.Server.PID(), s.Server.URL("postgres")
	}
	if s.Redis != nil {
		e.RedisURL, e.RedisServer = s.Redis.URL(), s.redisBinary
	}
	if s.NATS != nil {
		e.NATSURL = s.NATS.URL()
	}
	if s.Stripe != nil {
		e.StripeURL, e.StripePaymentsLog = s.Stripe.URL(), s.path(stripeName, stripe.FactsName)
	}
	if s.SMTP != nil {
		e.SMTPURL, e.MailURL = "smtp://"+s.SMTP.Address(), s.SMTP.PageURL()
	}
	if s.Temporal != nil {
		e.TemporalAddress, e.TemporalNamespace = s.Temporal.Address(), workflows.Namespace
	}
	if s.UI != nil {
		e.TemporalUIInternalURL = s.UI.URL()
	}
	if s.Issuer != nil {
		e.IssuerURL, e.TokenURL = s.Issuer.URL(), s.Issuer.TokenURL()
		for _, client := range issuer.DevelopmentClients(s.consoleURL()) {
			if client.ID == apiClient {
				e.ClientID, e.ClientSecret = client.ID, client.Secret
			}
			if len(client.RedirectURIs) > 0 {
				e.RedirectURL = client.RedirectURIs[0]
			}
		}
		for _, u := range issuer.DevelopmentUsers() {
			e.Users = append(e.Users, Login{Username: u.Username, Password: u.Password, Roles: u.Roles, OrgID: u.OrgID})
		}
	}
	if s.CA != nil {
		e.CARootFingerprint = s.CA.RootFingerprint()
		e.CAURL, e.CARootFile, e.CAProvisioner, e.CAProvisionerKey = s.CA.URL(), s.CA.RootFile(), stepca.Provisioner, s.CA.ProvisionerKeyFile()
	}
	if s.cfg.Product {
		e.APIURL = s.consoleURL()
		if s.UI != nil {
			e.TemporalUIURL = e.APIURL + temporal.UIPath
		}
		e.APIInternalURL = "https://127.0.0.1:" + strconv.Itoa(s.Ports.NodeAPI())
		e.SimStateDir, e.SimulatorURL = s.path(nodesName), "http://127.0.0.1:"+strconv.Itoa(s.Ports.NodeControl())
	}
	return e
}

// consoleURL is where a browser finds the API, whether it runs or not.
func (s *Stack) consoleURL() string { return "http://localhost:" + strconv.Itoa(s.Ports.API()) }

// EndpointsFile is where the endpoints are written once the instance is ready.
func (s *Stack) EndpointsFile() string { return s.path(endpointsName) }

// Announce writes the endpoints, readable by the owner alone: they hold passwords.
func (s *Stack) Announce(e Endpoints) error { return writeJSON(s.EndpointsFile(), e) }

// ReadEndpoints reads those of the instance in dataDir.
func ReadEndpoints(dataDir string) (Endpoints, error) {
	var e Endpoints
	raw, err := os.ReadFile(dataDir + "/" + endpointsName)
	if err != nil {
		return e, fmt.Errorf("no instance is ready on %s: start one with `devstack infra` or `devstack up`: %w", dataDir, err)
	}
	return e, json.Unmarshal(raw, &e)
}

// writeJSON replaces the file in one rename.
func writeJSON(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(raw, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func newSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never returns an error
	return hex.EncodeToString(b[:])
}
