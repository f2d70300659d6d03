// Package issuer is the development stack's OIDC issuer: the zitadel server on Keycloak's paths, with the clients and
// users that deploy/keycloak makes, so that the calls of a developer work on it and on a Keycloak alike. It knows the
// authorisation code with PKCE, refresh with rotation, devices, client credentials and Keycloak's password grant; it
// issues JWT access tokens, listens on loopback alone, and imports nothing of the product.
package issuer

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const (
	// RealmPath is where Keycloak serves a realm of this name.
	RealmPath = "/realms/gpuaas"

	protocolPath = "protocol/openid-connect/"
	// rotatePath makes a new signing key, for a confidential client: tests turn the key under running programs.
	rotatePath        = RealmPath + "/development/rotate-keys"
	readHeaderTimeout = 5 * time.Second
	shutdownTimeout   = 5 * time.Second
	maxFormBytes      = 64 << 10

	userCodeLetters = 8
	userCodeDash    = 4
	// pollGrace forgives a device's clock.
	pollGrace = 500 * time.Millisecond
)

// Config of an issuer.
type Config struct {
	// Port on 127.0.0.1, and in the issuer's name.
	Port int
	// KeyFile holds the signing keys, made on first use; access tokens outlive a restart because it does.
	KeyFile string
	Clients []Client
	Users   []User
	// AccessTokenLifetime is one hour when zero, RefreshTokenLifetime 24 hours.
	AccessTokenLifetime, RefreshTokenLifetime time.Duration
	Logger                                    *slog.Logger
}

// Issuer is a running issuer.
type Issuer struct {
	cfg      Config
	url      string
	keys     *keyring
	state    *state
	pages    pages
	provider *op.Provider
	http     *http.Server
	ended    chan error
}

// URL is the name of an issuer on a port of this machine, by which every user of it is known.
func URL(port int) string { return "http://localhost:" + strconv.Itoa(port) + RealmPath }

// Start listens and serves. It returns when requests are answered.
func Start(cfg Config) (*Issuer, error) {
	if cfg.AccessTokenLifetime == 0 {
		cfg.AccessTokenLifetime = time.Hour
	}
	if cfg.RefreshTokenLifetime == 0 {
		cfg.RefreshTokenLifetime = 24 * time.Hour
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	keys, err := openKeyring(cfg.KeyFile)
	if err != nil {
		return nil, err
	}
	shown, err := newPages()
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(cfg.Port))
	if err != nil {
		return nil, fmt.Errorf("the OIDC issuer cannot listen: %w", err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	i := &Issuer{
		cfg: cfg, url: URL(port), keys: keys, pages: shown,
		state: newState(cfg.AccessTokenLifetime, cfg.RefreshTokenLifetime), ended: make(chan error, 1),
	}
	if i.provider, err = i.newProvider(); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	i.http = &http.Server{Handler: i.routes(), ReadHeaderTimeout: readHeaderTimeout, ErrorLog: slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelWarn)}
	go func() { i.ended <- i.http.Serve(listener) }()
	return i, nil
}

// URL is the issuer's name, the claim iss.
func (i *Issuer) URL() string { return i.url }

// TokenURL is the token endpoint.
func (i *Issuer) TokenURL() string { return i.url + "/" + protocolPath + "token" }

// Rotate makes a new signing key; tokens of the ones before stay good for two rotations.
func (i *Issuer) Rotate() error { return i.keys.rotate() }

// Stop ends the server after the requests in progress.
func (i *Issuer) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	err := i.http.Shutdown(ctx)
	if served := <-i.ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

func (i *Issuer) newProvider() (*op.Provider, error) {
	endpoint := func(name string) *op.Endpoint { return op.NewEndpoint(protocolPath + name) }
	config := &op.Config{
		CodeMethodS256: true, AuthMethodPost: true, GrantTypeRefreshToken: true, DefaultLogoutRedirectURI: signedOutPath,
		SupportedScopes: []string{oidc.ScopeOpenID, oidc.ScopeProfile, oidc.ScopeEmail},
		SupportedClaims: []string{"aud", "sub", "iss", "exp", "iat", "azp", "sid", "nonce", "preferred_username", "email", "realm_access", "org_id"},
		DeviceAuthorization: op.DeviceAuthorizationConfig{
			Lifetime: deviceLife, PollInterval: pollEvery, UserFormPath: devicePath,
			UserCode: op.UserCodeConfig{CharSet: op.CharSetBase20, CharAmount: userCodeLetters, DashInterval: userCodeDash},
		},
	}
	_, _ = rand.Read(config.CryptoKey[:]) // never returns an error
	return op.NewProvider(config, storage{i}, op.StaticIssuer(i.url), op.WithAllowInsecure(), op.WithCORSOptions(nil),
		op.WithCustomEndpoints(endpoint("auth"), endpoint("token"), endpoint("userinfo"), endpoint("revoke"), endpoint("logout"), endpoint("certs")),
		op.WithCustomDeviceAuthorizationEndpoint(endpoint("auth/device")), op.WithCustomIntrospectionEndpoint(endpoint("token/introspect")),
		op.WithHttpInterceptors(i.rememberBrowser, i.passwordGrant),
	)
}

func (i *Issuer) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(RealmPath+"/", http.StripPrefix(RealmPath, i.provider))
	mux.HandleFunc("POST "+rotatePath, i.rotateOnDemand)
	i.signInPages(mux)
	return http.MaxBytesHandler(mux, maxFormBytes)
}

func (i *Issuer) rotateOnDemand(w http.ResponseWriter, r *http.Request) {
	if client, err := i.authenticated(r); err != nil || client.public() {
		http.Error(w, badClient, http.StatusUnauthorized)
		return
	}
	if err := i.Rotate(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func writeJSON(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	// An error here means that the client has gone; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(body)
}
