// Package temporal is the way to the Temporal cluster: a client that refuses servers too old to keep our promises,
// carries the correlation id through every header, logs through slog, keeps secrets out of histories, and turns faults of the domain into application
// errors and back. It imports the SDK, domain and internal/telemetry.
package temporal

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"
)

// Config is where the cluster is and how we show who we are. A program reads it from its environment.
type Config struct {
	Address   string `env:"TEMPORAL_ADDRESS" envDefault:"127.0.0.1:7233" usage:"host and port of the Temporal frontend"`
	Namespace string `env:"TEMPORAL_NAMESPACE" envDefault:"gpuaas" usage:"namespace that every workflow lives in"`
	// APIKey signs in to Temporal Cloud and implies TLS.
	APIKey string `env:"TEMPORAL_API_KEY" usage:"API key of Temporal Cloud; implies TLS"`
	// TLS asks for TLS without a client certificate; the three files are for mutual TLS with a private CA.
	TLS      bool   `env:"TEMPORAL_TLS" usage:"true for TLS without a client certificate"`
	CAFile   string `env:"TEMPORAL_TLS_CA_FILE" usage:"PEM file of the CA of the frontend"`
	CertFile string `env:"TEMPORAL_TLS_CERT_FILE" usage:"PEM file of our client certificate"`
	KeyFile  string `env:"TEMPORAL_TLS_KEY_FILE" usage:"PEM file of its key"`
	// Metrics, if set, is what the SDK measures its workers and requests by.
	Metrics client.MetricsHandler `env:"-"`
}

// Check says in one sentence each what is wrong with the configuration.
func (c Config) Check() []string {
	var mistakes []string
	if c.Address == "" {
		mistakes = append(mistakes, "TEMPORAL_ADDRESS must name the Temporal frontend as host:port.")
	}
	if c.Namespace == "" {
		mistakes = append(mistakes, "TEMPORAL_NAMESPACE must name a namespace.")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		mistakes = append(mistakes, "TEMPORAL_TLS_CERT_FILE and TEMPORAL_TLS_KEY_FILE must be set together.")
	}
	return mistakes
}

// The oldest server on which update-with-start works without being switched on.
const (
	oldestMajor = 1
	oldestMinor = 26
)

// ErrServerTooOld says that the cluster cannot keep our promises; waiting does not help.
var ErrServerTooOld = errors.New("the Temporal server is older than 1.26, where update-with-start is off")

// Dial connects to the cluster and checks its version. A cluster that is not there yet, or has no such namespace yet, is
// waited for until ctx ends, because programs start in any order; one that is too old is ErrServerTooOld at once.
func Dial(ctx context.Context, config Config, log *slog.Logger) (client.Client, error) {
	options := client.Options{
		HostPort:  config.Address,
		Namespace: config.Namespace,
		Logger:    sdklog.NewStructuredLogger(log),
		ContextPropagators: []workflow.ContextPropagator{
			CorrelationPropagator{},
		},
		FailureConverter: newFailures(),
		MetricsHandler:   config.Metrics,
		// Our own beat would reach no server older than the SDK and says nothing that a poll does not.
		WorkerHeartbeatInterval: -1,
	}
	secure, err := config.tls()
	if err != nil {
		return nil, err
	}
	options.ConnectionOptions.TLS = secure
	options.ConnectionOptions.DialOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(nameRequest)}
	if config.APIKey != "" {
		options.Credentials = client.NewAPIKeyStaticCredentials(config.APIKey)
	}
	waiting := false
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		found, err := dialOnce(ctx, options)
		if err == nil || errors.Is(err, ErrServerTooOld) || !worthWaiting(err) {
			return found, err
		}
		if !waiting {
			log.WarnContext(ctx, "waiting for Temporal", "address", config.Address, "namespace", config.Namespace, "error", err.Error())
			waiting = true
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("temporal at %s did not answer: %w", config.Address, errors.Join(ctx.Err(), err))
		case <-time.After(pause):
		}
	}
}

func dialOnce(ctx context.Context, options client.Options) (client.Client, error) {
	found, err := client.DialContext(ctx, options)
	if err != nil {
		return nil, err
	}
	info, err := found.WorkflowService().GetSystemInfo(ctx, &workflowservice.GetSystemInfoRequest{})
	if err == nil {
		err = checkVersion(info.GetServerVersion())
	}
	if err == nil {
		_, err = found.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: options.Namespace})
	}
	if err != nil {
		found.Close()
		return nil, err
	}
	return found, nil
}

// worthWaiting says that the cluster may come, or come to itself: it is not reachable, or is still making its namespace.
func worthWaiting(err error) bool {
	var (
		unavailable *serviceerror.Unavailable
		deadline    *serviceerror.DeadlineExceeded
		missing     *serviceerror.NamespaceNotFound
		exhausted   *serviceerror.ResourceExhausted
	)
	return errors.As(err, &unavailable) || errors.As(err, &deadline) || errors.As(err, &missing) || errors.As(err, &exhausted) ||
		errors.Is(err, context.DeadlineExceeded)
}

// checkVersion refuses a server older than 1.26. A server that does not say its version, as Temporal Cloud may, is
// taken to be new.
func checkVersion(version string) error {
	if version == "" {
		return nil
	}
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 2 {
		return fmt.Errorf("the Temporal server calls its version %q, which is no version", version)
	}
	major, majorErr := strconv.Atoi(parts[0])
	minor, minorErr := strconv.Atoi(parts[1])
	if majorErr != nil || minorErr != nil {
		return fmt.Errorf("the Temporal server calls its version %q, which is no version", version)
	}
	if major < oldestMajor || (major == oldestMajor && minor < oldestMinor) {
		return fmt.Errorf("%w: it is %s", ErrServerTooOld, version)
	}
	return nil
}

func (c Config) tls() (*tls.Config, error) {
	if !c.TLS && c.APIKey == "" && c.CAFile == "" && c.CertFile == "" {
		return nil, nil
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("the CA of Temporal: %w", err)
		}
		secure.RootCAs = x509.NewCertPool()
		if !secure.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("the CA of Temporal: %s holds no certificate", c.CAFile)
		}
	}
	if c.CertFile != "" {
		certificate, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("the client certificate for Temporal: %w", err)
		}
		secure.Certificates = []tls.Certificate{certificate}
	}
	return secure, nil
}
