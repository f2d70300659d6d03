// Package stepca runs the real Smallstep CA inside the development stack: a root and an intermediate of this
// instance, and one JWK provisioner whose private key the product's API holds. There is no X5C provisioner, because
// a leaf could mint any name through it, and no SSH.
package stepca

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/smallstep/certificates/authority/config"
	"github.com/smallstep/certificates/authority/provisioner"
	"github.com/smallstep/certificates/ca"
	"github.com/smallstep/certificates/db"
)

const (
	// Provisioner is the name of the JWK provisioner, the claim iss of its one-time tokens.
	Provisioner = "gpuaas"

	longestLife   = 7 * 24 * time.Hour // the most that policy node.certificate_ttl_seconds allows
	usualLife     = 24 * time.Hour
	shortestLife  = time.Minute
	startDeadline = 20 * time.Second
	readyPoll     = 50 * time.Millisecond
)

// CA is a running authority.
type CA struct {
	url         string
	fingerprint string
	files       files
	ca          *ca.CA
	ended       chan error
}

// Start makes the keys of this instance in dir on first use, and serves on 127.0.0.1:port.
func Start(ctx context.Context, dir string, port int) (*CA, error) {
	made, err := openFiles(dir)
	if err != nil {
		return nil, err
	}
	key, err := made.provisionerKey()
	if err != nil {
		return nil, err
	}
	fingerprint, err := fingerprintOf(made.Root)
	if err != nil {
		return nil, err
	}
	disabled, enabled := false, true
	conf := &config.Config{
		Root:             []string{made.Root},
		IntermediateCert: made.Intermediate,
		IntermediateKey:  made.intermediateKey,
		Address:          "127.0.0.1:" + strconv.Itoa(port),
		DNSNames:         []string{"localhost", "127.0.0.1"},
		// One-time tokens that were used and serials that were revoked must be known after a restart too.
		DB: &db.Config{Type: "bbolt", DataSource: filepath.Join(dir, "db")},
		AuthorityConfig: &config.AuthConfig{
			Provisioners: provisioner.List{&provisioner.JWK{
				Type: "JWK", Name: Provisioner, Key: key,
				Claims: &provisioner.Claims{
					MinTLSDur:     &provisioner.Duration{Duration: shortestLife},
					MaxTLSDur:     &provisioner.Duration{Duration: longestLife},
					DefaultTLSDur: &provisioner.Duration{Duration: usualLife},
					EnableSSHCA:   &disabled,
					// A certificate renewed at the CA itself would outlive the denial of its node: renewal passes our API.
					DisableRenewal: &enabled,
				},
			}},
		},
		TLS: &config.DefaultTLSOptions,
	}
	authority, err := ca.New(conf, ca.WithQuiet(true))
	if err != nil {
		return nil, fmt.Errorf("the CA cannot be assembled: %w", err)
	}
	c := &CA{url: "https://localhost:" + strconv.Itoa(port), fingerprint: fingerprint, files: made, ca: authority, ended: make(chan error, 1)}
	go func() { c.ended <- authority.Run() }()
	if err := c.awaitHealth(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// URL of the authority.
func (c *CA) URL() string { return c.url }

// RootFile is the PEM file of the root certificate.
func (c *CA) RootFile() string { return c.files.Root }

// ProvisionerKeyFile is the private JWK of the provisioner, readable by its owner alone.
func (c *CA) ProvisionerKeyFile() string { return c.files.provisioner }

// Stop ends the server and waits for it.
func (c *CA) Stop() error {
	err := c.ca.Stop()
	<-c.ended
	return err
}

func (c *CA) awaitHealth(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	root, err := os.ReadFile(c.files.Root)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/health", nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case ended := <-c.ended:
			return fmt.Errorf("the CA ended while it started: %w", ended)
		case <-ctx.Done():
			_ = c.ca.Stop()
			return fmt.Errorf("the CA does not answer on %s: %w", c.url, err)
		case <-tick.C:
		}
	}
}

// RootFingerprint is the SHA-256 of the root certificate, in hexadecimal.
func (c *CA) RootFingerprint() string { return c.fingerprint }

func fingerprintOf(file string) (string, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("the root certificate cannot be read: %w", err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return "", fmt.Errorf("%s holds no certificate", file)
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:]), nil
}
