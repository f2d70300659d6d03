package stack

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/gpuaas/gpuaas/internal/evidence"
)

// Variable is one line of a program's environment.
type Variable struct{ Name, Value string }

// evidenceKeyName is the file with the key that signs the instance's evidence.
const evidenceKeyName = "evidence-key.pem"

// ledgerHeadsName is the directory with the signed heads of the instance's ledger.
const ledgerHeadsName = "ledger-heads"

// keepEvidenceKey makes the key once; what it signed can be verified for as long as the instance lives.
func keepEvidenceKey(dir string) error {
	path := filepath.Join(dir, evidenceKeyName)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	key, err := evidence.Generate()
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", key, 0o600); err != nil {
		return fmt.Errorf("the evidence key cannot be kept: %w", err)
	}
	return os.Rename(path+".new", path)
}

// ProgramEnvironment is the configuration of every program of ours against the instance in dataDir: the one that
// `up` gives to the programs it runs, and that starts them separately.
func ProgramEnvironment(dataDir string, e Endpoints) ([]Variable, error) {
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return nil, err
	}
	var m memory
	raw, err := os.ReadFile(filepath.Join(dir, "instance.json"))
	if err != nil {
		return nil, fmt.Errorf("the instance remembers nothing: %w", err)
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	ports := Ports{Base: e.PortBase}
	variables := []Variable{
		{"GPUAAS_DATA", dir},
		{"GPUAAS_ENDPOINTS", filepath.Join(dir, endpointsName)},
		{"DATABASE_URL", e.DatabaseURL},
		{"DATABASE_OWNER_URL", e.DatabaseOwnerURL},
		{"REDIS_URL", e.RedisURL},
		{"NATS_URL", e.NATSURL},
		{"STRIPE_API_URL", e.StripeURL},
		{"STRIPE_SECRET_KEY", stripeKeyPrefix + m.StripeKey},
		{"STRIPE_WEBHOOK_SECRET", stripeWebhookPrefix + m.StripeWebhook},
		{"GPUAAS_WEBHOOK_KEYS", "dev1:" + m.WebhookKey},
		// Receivers under development listen on this machine; http needs the policy webhooks.allow_http beside.
		{"GPUAAS_WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8,::1/128"},
		{"GPUAAS_SMTP_URL", e.SMTPURL},
		{"GPUAAS_SMTP_FROM", "GPUaaS <no-reply@gpuaas.localhost>"},
		{"TEMPORAL_ADDRESS", e.TemporalAddress},
		{"TEMPORAL_NAMESPACE", e.TemporalNamespace},
		{"KEYCLOAK_ISSUER_URL", e.IssuerURL},
		{"OIDC_API_CLIENT_SECRET", e.ClientSecret},
		{"GPUAAS_PUBLIC_URL", e.APIURL},
		{"GPUAAS_PASSWORD_LOGIN", "true"},
		{"GPUAAS_TEMPORAL_UI_URL", e.TemporalUIInternalURL},
		{"GPUAAS_API_ADDRESS", "127.0.0.1:" + strconv.Itoa(ports.API())},
		{"GPUAAS_API_URL", e.APIURL},
		{"GPUAAS_ID_SECRET", m.IDKey},
		{"GPUAAS_PROBE_SECRET", m.ProbeSecret},
		{"GPUAAS_EVIDENCE_KEY_FILE", filepath.Join(dir, evidenceKeyName)},
		{"GPUAAS_LEDGER_HEADS_DIRECTORY", filepath.Join(dir, ledgerHeadsName)},
		{"GPUAAS_NODE_GATEWAY_ADDRESS", "127.0.0.1:" + strconv.Itoa(ports.NodeAPI())},
		{"GPUAAS_TASK_TOKEN_KEYS", "dev1:" + m.TokenKey},
		{"GPUAAS_NODE_GATEWAY_URL", e.APIInternalURL},
		{"GPUAAS_CA_URL", e.CAURL},
		{"GPUAAS_CA_ROOT_FILE", e.CARootFile},
		{"GPUAAS_CA_ROOT_FINGERPRINT", e.CARootFingerprint},
		{"GPUAAS_CA_PROVISIONER", e.CAProvisioner},
		{"GPUAAS_CA_PROVISIONER_KEY_FILE", e.CAProvisionerKey},
		{"GPUAAS_NODE_DIRECTORY", e.SimStateDir},
		{"GPUAAS_SIM_FLEET_FILE", filepath.Join(e.SimStateDir, fleetName)},
		{"GPUAAS_SIM_CONTROL_ADDRESS", "127.0.0.1:" + strconv.Itoa(ports.NodeControl())},
	}
	if e.DatabaseMaxConnections != 0 {
		variables = append(variables, Variable{"DATABASE_MAX_CONNECTIONS", strconv.Itoa(e.DatabaseMaxConnections)})
	}
	return variables, nil
}
