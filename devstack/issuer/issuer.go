// Package issuer is the development stack's OIDC issuer: the zitadel server on Keycloak's paths, with the two
// development users and Keycloak's password grant, so that the calls of a developer work on it and on a Keycloak
// alike. It issues JWT access tokens, listens on loopback alone, and imports nothing of the product.
package issuer

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const (
	// RealmPath is where Keycloak serves a realm of this name.
	RealmPath = "/realms/gpuaas"

	protocolPath      = "protocol/openid-connect/"
	readHeaderTimeout = 5 * time.Second
	shutdownTimeout   = 5 * time.Second
	maxFormBytes      = 64 << 10
)

// Client is a confidential client that may use the password grant.
type Client struct{ ID, Secret string }

// User is somebody who can sign in.
type User struct {
	// Subject is the stable id that becomes the claim sub.
	Subject, Username, Password, Email string
	Roles                              []string
	// OrgID is the tenant; empty leaves the claim out, as Keycloak does for a user without one.
	OrgID string
}

// DevelopmentClient is the client of every development instance.
func DevelopmentClient() Client { return Client{ID: "gpuaas-api", Secret: "dev-client-secret"} }

// DevelopmentUsers are the users of every development instance.
func DevelopmentUsers() []User {
	return []User{
		{Subject: "5f0c9f6e-6f0e-4d6a-9d3e-0d0c7a1b2c3d", Username: "dev-user", Password: "dev123", Email: "dev-user@localhost", Roles: []string{"user"}},
		{Subject: "8a1d2e3f-4b5c-4d6e-8f70-1a2b3c4d5e6f", Username: "dev-admin", Password: "admin123", Email: "dev-admin@localhost", Roles: []string{"user", "admin"}},
	}
}

// Config of an issuer.
type Config struct {
	// Port on 127.0.0.1, and in the issuer's name.
	Port int
	// KeyFile holds the signing key, made on first use; tokens outlive a restart because it does.
	KeyFile string
	Client  Client
	Users   []User
	// AccessTokenLifetime is one hour when zero, RefreshTokenLifetime 24 hours.
	AccessTokenLifetime, RefreshTokenLifetime time.Duration
	Logger                                    *slog.Logger
}

// Issuer is a running issuer.
type Issuer struct {
	op.UnimplementedServer

	cfg    Config
	url    string
	key    signingKey
	signer jose.Signer
	http   *http.Server
	ended  chan error
}

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
	key, err := loadKey(cfg.KeyFile)
	if err != nil {
		return nil, err
	}
	signer, err := key.signer()
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(cfg.Port))
	if err != nil {
		return nil, fmt.Errorf("the OIDC issuer cannot listen: %w", err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	i := &Issuer{cfg: cfg, url: "http://localhost:" + strconv.Itoa(port) + RealmPath, key: key, signer: signer, ended: make(chan error, 1)}
	i.http = &http.Server{Handler: i.routes(), ReadHeaderTimeout: readHeaderTimeout, ErrorLog: slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelWarn)}
	go func() { i.ended <- i.http.Serve(listener) }()
	return i, nil
}

// URL is the issuer's name, the claim iss.
func (i *Issuer) URL() string { return i.url }

// TokenURL is the token endpoint.
func (i *Issuer) TokenURL() string { return i.url + "/" + protocolPath + "token" }

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

func (i *Issuer) routes() http.Handler {
	endpoints := op.Endpoints{
		Token: op.NewEndpoint(protocolPath + "token"), Userinfo: op.NewEndpoint(protocolPath + "userinfo"), JwksURI: op.NewEndpoint(protocolPath + "certs"),
	}
	provider := op.RegisterServer(i, endpoints, op.WithHTTPMiddleware(i.passwordGrant))
	mux := http.NewServeMux()
	mux.Handle(RealmPath+"/", http.MaxBytesHandler(http.StripPrefix(RealmPath, provider), maxFormBytes))
	return mux
}

// Health answers the provider's liveness probe.
func (i *Issuer) Health(context.Context, *op.Request[struct{}]) (*op.Response, error) {
	return op.NewResponse(map[string]string{"status": "ok"}), nil
}

// Ready answers the provider's readiness probe.
func (i *Issuer) Ready(ctx context.Context, r *op.Request[struct{}]) (*op.Response, error) {
	return i.Health(ctx, r)
}

// Discovery is the issuer's description of itself.
func (i *Issuer) Discovery(context.Context, *op.Request[struct{}]) (*op.Response, error) {
	return op.NewResponse(&oidc.DiscoveryConfiguration{
		Issuer:                            i.url,
		TokenEndpoint:                     i.TokenURL(),
		UserinfoEndpoint:                  i.url + "/" + protocolPath + "userinfo",
		JwksURI:                           i.url + "/" + protocolPath + "certs",
		GrantTypesSupported:               []oidc.GrantType{grantPassword, oidc.GrantTypeRefreshToken},
		SubjectTypesSupported:             []string{"public"},
		IDTokenSigningAlgValuesSupported:  []string{string(jose.RS256)},
		TokenEndpointAuthMethodsSupported: []oidc.AuthMethod{oidc.AuthMethodBasic, oidc.AuthMethodPost},
		ClaimsSupported:                   []string{"aud", "sub", "iss", "exp", "iat", "azp", "preferred_username", "email", "realm_access", "org_id"},
		ScopesSupported:                   []string{"openid", "profile", "email"},
	}), nil
}

// Keys are the public keys that tokens are verified with.
func (i *Issuer) Keys(context.Context, *op.Request[struct{}]) (*op.Response, error) {
	return op.NewResponse(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{i.key.public()}}), nil
}

// VerifyClient authenticates the client of a token request.
func (i *Issuer) VerifyClient(_ context.Context, r *op.Request[op.ClientCredentials]) (op.Client, error) {
	if !i.isClient(r.Data.ClientID, r.Data.ClientSecret) {
		return nil, op.NewStatusError(oidc.ErrInvalidClient().WithDescription("Invalid client or Invalid client credentials"), http.StatusUnauthorized)
	}
	return confidentialClient{id: i.cfg.Client.ID}, nil
}

func (i *Issuer) isClient(id, secret string) bool {
	return subtle.ConstantTimeCompare([]byte(id), []byte(i.cfg.Client.ID))&subtle.ConstantTimeCompare([]byte(secret), []byte(i.cfg.Client.Secret)) == 1
}

func (i *Issuer) userByName(name string) (User, bool) {
	for _, u := range i.cfg.Users {
		if u.Username == name {
			return u, true
		}
	}
	return User{}, false
}

func (i *Issuer) userBySubject(subject string) (User, bool) {
	for _, u := range i.cfg.Users {
		if u.Subject == subject {
			return u, true
		}
	}
	return User{}, false
}
