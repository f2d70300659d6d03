package ca

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jwt"
)

// tokenLife bounds a one-time token; step-ca refuses a second use within it.
const tokenLife = 5 * time.Minute

// signsAtOnce bounds what this process asks for at a time: a fleet that enrols all at once waits here instead of having an authority that works
// through it one by one time out on everybody.
const signsAtOnce = 4

// StepCA is a Client of a Smallstep step-ca with a JWK provisioner. The provisioner's key is the platform's alone;
// each of its tokens is good for one certificate request, by hash, and for the names that the platform chose.
type StepCA struct {
	url         string
	fingerprint [sha256.Size]byte
	provisioner string
	key         jwk.Key
	signing     chan struct{}

	mu    sync.Mutex
	roots []*x509.Certificate
	http  *http.Client
}

var _ Client = (*StepCA)(nil)

// StepCAConfig says where step-ca is and by what right certificates are asked for.
type StepCAConfig struct {
	// URL is the authority's address, "https://host:port".
	URL string
	// RootFingerprint is the SHA-256 of its root certificate, in hexadecimal.
	RootFingerprint string
	// Provisioner is the JWK provisioner's name, and Key its private JWK as JSON with its kid.
	Provisioner string
	Key         []byte
}

// NewStepCA checks the configuration; nothing is dialled yet.
func NewStepCA(config StepCAConfig) (*StepCA, error) {
	parsed, err := url.Parse(config.URL)
	if err != nil || parsed.Scheme != "https" || parsed.Host == "" {
		return nil, fmt.Errorf("the certificate authority's address is https://host:port, not %q", config.URL)
	}
	sum, err := hex.DecodeString(strings.ToLower(config.RootFingerprint))
	if err != nil || len(sum) != sha256.Size {
		return nil, errors.New("the certificate authority's root fingerprint is 64 hexadecimal digits")
	}
	if config.Provisioner == "" {
		return nil, errors.New("the certificate authority's provisioner has a name")
	}
	key, err := jwk.ParseKey(config.Key)
	if err != nil {
		return nil, fmt.Errorf("the provisioner's key is not a JWK: %w", err)
	}
	if _, private := key.(jwk.ECDSAPrivateKey); !private || key.KeyID() == "" {
		return nil, errors.New("the provisioner's key is a private EC JWK with a kid")
	}
	c := &StepCA{url: strings.TrimSuffix(config.URL, "/"), provisioner: config.Provisioner, key: key, signing: make(chan struct{}, signsAtOnce)}
	copy(c.fingerprint[:], sum)
	return c, nil
}

// Roots answers the authority's roots, fetched once and checked against the fingerprint.
func (c *StepCA) Roots(ctx context.Context) ([]*x509.Certificate, error) {
	_, roots, err := c.trusted(ctx)
	return roots, err
}

// Sign asks for one certificate by a token that is bound to this certificate request.
func (c *StepCA) Sign(ctx context.Context, request Request) ([]*x509.Certificate, error) {
	client, _, err := c.trusted(ctx)
	if err != nil {
		return nil, err
	}
	select {
	case c.signing <- struct{}{}:
		defer func() { <-c.signing }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the certificate authority to sign for others: %w", ctx.Err())
	}
	token, err := c.token(request)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Chain []string `json:"certChain"`
	}
	err = c.call(ctx, client, "/1.0/sign", map[string]string{
		"csr":      encodeCSR(request.CSR),
		"ott":      token,
		"notAfter": request.TTL.String(),
	}, &answer)
	if err != nil {
		return nil, fmt.Errorf("ask the certificate authority to sign: %w", err)
	}
	chain, err := DecodePEM([]byte(strings.Join(answer.Chain, "\n")))
	if err != nil {
		return nil, fmt.Errorf("read the certificate authority's answer: %w", err)
	}
	return chain, checkLeaf(chain[0], request)
}

// token is a one-time token for one certificate request.
func (c *StepCA) token(request Request) (string, error) {
	now := time.Now()
	sum := sha256.Sum256(request.CSR.Raw)
	names := append([]string{request.SPIFFE.String()}, request.Hosts...)
	claims, err := jwt.NewBuilder().
		JwtID(rand.Text()).
		Issuer(c.provisioner).
		Subject(request.SPIFFE.String()).
		Audience([]string{c.url + "/1.0/sign"}).
		IssuedAt(now).NotBefore(now.Add(-time.Minute)).Expiration(now.Add(tokenLife)).
		Claim("sans", names).
		Claim("sha", hex.EncodeToString(c.fingerprint[:])).
		Claim("cnf", map[string]string{"x5rt#S256": base64.RawURLEncoding.EncodeToString(sum[:])}).
		Build()
	if err != nil {
		return "", fmt.Errorf("build the one-time token: %w", err)
	}
	signed, err := jwt.Sign(claims, jwt.WithKey(jwa.ES256, c.key))
	if err != nil {
		return "", fmt.Errorf("sign the one-time token: %w", err)
	}
	return string(signed), nil
}

// trusted is the HTTP client that trusts the authority's root, after the root was fetched by its fingerprint.
func (c *StepCA) trusted(ctx context.Context) (*http.Client, []*x509.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.http != nil {
		return c.http, c.roots, nil
	}
	// The first answer cannot be verified by a chain; its content is, by the fingerprint.
	unverified := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}} //nolint:gosec // see above
	defer unverified.CloseIdleConnections()
	var answer struct {
		CA string `json:"ca"`
	}
	bootstrap := &http.Client{Transport: unverified, Timeout: 10 * time.Second}
	if err := c.call(ctx, bootstrap, "/1.0/root/"+hex.EncodeToString(c.fingerprint[:]), nil, &answer); err != nil {
		return nil, nil, fmt.Errorf("fetch the certificate authority's root: %w", err)
	}
	roots, err := DecodePEM([]byte(answer.CA))
	if err != nil {
		return nil, nil, fmt.Errorf("read the certificate authority's root: %w", err)
	}
	if sha256.Sum256(roots[0].Raw) != c.fingerprint {
		return nil, nil, errors.New("the certificate authority shows a root with another fingerprint")
	}
	pool := x509.NewCertPool()
	pool.AddCert(roots[0])
	c.roots = roots[:1]
	c.http = &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 8},
		Timeout:   20 * time.Second,
	}
	return c.http, c.roots, nil
}

// call posts JSON (or gets, without a body) and reads a JSON answer of at most 1 MiB.
func (c *StepCA) call(ctx context.Context, client *http.Client, path string, body, answer any) error {
	method, reader := http.MethodGet, io.Reader(nil)
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return err
		}
		method, reader = http.MethodPost, bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, reader)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // the body was read; its close says nothing more
	content, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		var told struct {
			Message string `json:"message"`
		}
		_ = json.Unmarshal(content, &told) // whatever it says is only for the log
		return fmt.Errorf("status %d: %s", response.StatusCode, told.Message)
	}
	return json.Unmarshal(content, answer)
}

// checkLeaf refuses a certificate that is not what was asked for: a template of the authority may differ.
func checkLeaf(leaf *x509.Certificate, request Request) error {
	if !bytes.Equal(leaf.RawSubjectPublicKeyInfo, request.CSR.RawSubjectPublicKeyInfo) {
		return errors.New("the certificate authority certified another key")
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != request.SPIFFE.String() {
		return fmt.Errorf("the certificate authority did not certify %s", request.SPIFFE)
	}
	if leaf.IsCA {
		return errors.New("the certificate authority answered with an authority's certificate")
	}
	return nil
}
