package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/client"

	"github.com/gpuaas/gpuaas/api/nodeapi"
	"github.com/gpuaas/gpuaas/internal/ca"
	"github.com/gpuaas/gpuaas/internal/mtls"
	"github.com/gpuaas/gpuaas/internal/policy"
)

// CAConfig is where the certificate authority is and by what right certificates are asked for.
type CAConfig struct {
	URL             string `env:"GPUAAS_CA_URL" usage:"address of step-ca, https://host:port"`
	RootFingerprint string `env:"GPUAAS_CA_ROOT_FINGERPRINT" usage:"SHA-256 of step-ca's root certificate, in hexadecimal"`
	Provisioner     string `env:"GPUAAS_CA_PROVISIONER" envDefault:"gpuaas" usage:"name of step-ca's JWK provisioner"`
	KeyFile         string `env:"GPUAAS_CA_PROVISIONER_KEY_FILE" usage:"file with the provisioner's private JWK as JSON"`
}

// NodeAPIConfig is the node gateway's part of the API program. Without an address no gateway is started.
type NodeAPIConfig struct {
	Address string `env:"GPUAAS_NODE_GATEWAY_ADDRESS" usage:"host:port on which nodes are served by mTLS; empty starts no node gateway"`
	// Hosts are the names in the gateway's certificate.
	Hosts          []string      `env:"GPUAAS_NODE_GATEWAY_HOSTS" envDefault:"localhost,127.0.0.1" usage:"names and addresses at which nodes reach the gateway, for its certificate"`
	CertificateTTL time.Duration `env:"GPUAAS_SERVICE_CERTIFICATE_TTL" envDefault:"24h" usage:"life of the gateway's own certificate, renewed at half of it"`
	TaskTokenKeys  string        `env:"GPUAAS_TASK_TOKEN_KEYS" usage:"id:hex,id:hex: keys that seal task tokens, the current one first, the same on every replica"`
	CA             CAConfig
}

// Enabled says whether this process serves nodes.
func (c NodeAPIConfig) Enabled() bool { return c.Address != "" }

// Check says what is wrong with it.
func (c NodeAPIConfig) Check() []string {
	if !c.Enabled() {
		return nil
	}
	var mistakes []string
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		mistakes = append(mistakes, "GPUAAS_NODE_GATEWAY_ADDRESS must look like host:port.")
	}
	if len(c.Hosts) == 0 {
		mistakes = append(mistakes, "GPUAAS_NODE_GATEWAY_HOSTS must name the gateway at least once.")
	}
	if c.CertificateTTL < 10*time.Minute {
		mistakes = append(mistakes, "GPUAAS_SERVICE_CERTIFICATE_TTL must be at least 10m.")
	}
	if _, err := nodeapi.ParseTokenKeys(c.TaskTokenKeys); err != nil {
		mistakes = append(mistakes, "GPUAAS_TASK_TOKEN_KEYS is not usable: "+err.Error()+".")
	}
	for _, needed := range []struct{ name, value string }{
		{"GPUAAS_CA_URL", c.CA.URL}, {"GPUAAS_CA_ROOT_FINGERPRINT", c.CA.RootFingerprint}, {"GPUAAS_CA_PROVISIONER_KEY_FILE", c.CA.KeyFile},
	} {
		if needed.value == "" {
			mistakes = append(mistakes, needed.name+" is needed for the node gateway.")
		}
	}
	return mistakes
}

// NodeAPIParts is what the node gateway shares with the rest of the API program.
type NodeAPIParts struct {
	Pool     *pgxpool.Pool
	Temporal client.Client
	// Namespace is where the nodes' tasks are.
	Namespace string
	Policy    *policy.Client
	Log       *slog.Logger
	// Listening, if set, is told once nodes can connect; Fingerprint is the root's, which new nodes are given.
	Listening func(address, fingerprint string)
}

// RunNodeAPI serves nodes until ctx ends. The certificate authority may come up later than this process: it is
// asked again until it answers.
func RunNodeAPI(ctx context.Context, config NodeAPIConfig, parts NodeAPIParts) error {
	keys, err := nodeapi.ParseTokenKeys(config.TaskTokenKeys)
	if err != nil {
		return err
	}
	authority, err := config.CA.client()
	if err != nil {
		return err
	}
	certificate, err := firstCertificate(ctx, authority, config, parts.Log)
	if err != nil {
		return err
	}
	server, err := nodeapi.New(nodeapi.Config{
		Pool: parts.Pool, Temporal: parts.Temporal, Namespace: parts.Namespace, Authority: authority, Certificate: certificate, Keys: keys, Policy: parts.Policy, Log: parts.Log,
	})
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", config.Address)
	if err != nil {
		return fmt.Errorf("listen for nodes on %s: %w", config.Address, err)
	}
	parts.Log.InfoContext(ctx, "serving nodes", "address", listener.Addr().String(), "root_fingerprint", server.RootFingerprint())
	if parts.Listening != nil {
		parts.Listening(listener.Addr().String(), server.RootFingerprint())
	}
	return server.Serve(ctx, listener)
}

func (c CAConfig) client() (ca.Client, error) {
	key, err := os.ReadFile(c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("read GPUAAS_CA_PROVISIONER_KEY_FILE: %w", err)
	}
	return ca.NewStepCA(ca.StepCAConfig{URL: c.URL, RootFingerprint: strings.TrimSpace(c.RootFingerprint), Provisioner: c.Provisioner, Key: key})
}

// firstCertificate waits for the authority, because programs are started in any order.
func firstCertificate(ctx context.Context, authority ca.Client, config NodeAPIConfig, log *slog.Logger) (*mtls.Renewing, error) {
	const again = 2 * time.Second
	for {
		attempt, cancel := context.WithTimeout(ctx, 15*time.Second)
		certificate, err := mtls.Issue(attempt, authority, mtls.ServiceAPI, config.Hosts, config.CertificateTTL, log)
		cancel()
		if err == nil {
			return certificate, nil
		}
		log.WarnContext(ctx, "the node gateway has no certificate yet", "error", err)
		timer := time.NewTimer(again)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, errors.Join(ctx.Err(), err)
		case <-timer.C:
		}
	}
}
