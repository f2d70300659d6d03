package issuer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// storage is what the library asks us: clients, users, keys, and the state of every flow.
type storage struct{ *Issuer }

var (
	_               op.Storage                        = storage{}
	_               op.ClientCredentialsStorage       = storage{}
	_               op.DeviceAuthorizationStorage     = storage{}
	_               op.CanGetPrivateClaimsFromRequest = storage{}
	_               op.CanSetUserinfoFromRequest      = storage{}
	_               op.CanTerminateSessionFromRequest = storage{}
	errTooSoon                                        = fmt.Errorf("asked again too soon: %w", context.DeadlineExceeded) // the library's word for slow_down
	errNothingKnown                                   = errors.New("nothing is known by that name")
)

func (s storage) Health(context.Context) error { return nil }

// --- clients ---

func (s storage) client(id string) (Client, bool) {
	at := slices.IndexFunc(s.cfg.Clients, func(c Client) bool { return c.ID == id })
	if at < 0 {
		return Client{}, false
	}
	return s.cfg.Clients[at], true
}

func (s storage) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	client, known := s.client(id)
	if !known {
		return nil, oidc.ErrInvalidClient().WithDescription(badClient)
	}
	return registered{client}, nil
}

func (s storage) AuthorizeClientIDSecret(_ context.Context, id, secret string) error {
	if client, known := s.client(id); !known || !client.has(secret) {
		return oidc.ErrInvalidClient().WithDescription(badClient)
	}
	return nil
}

func (s storage) ClientCredentials(ctx context.Context, id, secret string) (op.Client, error) {
	if err := s.AuthorizeClientIDSecret(ctx, id, secret); err != nil {
		return nil, err
	}
	return s.GetClientByClientID(ctx, id)
}

func (s storage) ClientCredentialsTokenRequest(_ context.Context, id string, scopes []string) (op.TokenRequest, error) {
	client, known := s.client(id)
	if !known || client.ServiceAccount == "" {
		return nil, oidc.ErrUnauthorizedClient()
	}
	return &service{granted: grant{client: id, subject: client.ServiceAccount, scopes: usual(scopes), at: time.Now()}}, nil
}

// GetKeyByIDAndClientID is asked for clients that authenticate by key, of which there are none.
func (s storage) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errNothingKnown
}

func (s storage) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, oidc.ErrUnauthorizedClient()
}

// --- the authorisation code ---

// CreateAuthRequest begins a sign-in. A public client must bind it to a secret of its own, by the one method that does not
// show the secret.
func (s storage) CreateAuthRequest(_ context.Context, asked *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	client, known := s.client(asked.ClientID)
	if !known {
		return nil, oidc.ErrInvalidClient().WithDescription(badClient)
	}
	if client.public() && (asked.CodeChallenge == "" || asked.CodeChallengeMethod != oidc.CodeChallengeMethodS256) {
		return nil, oidc.ErrInvalidRequest().WithDescription("code_challenge with code_challenge_method S256 is required")
	}
	request := &authorization{id: rand.Text(), asked: *asked, grant: &grant{client: client.ID, scopes: refreshed(asked.Scopes)}}
	s.state.mutex.Lock()
	defer s.state.mutex.Unlock()
	s.state.requests.put(request.id, request)
	return request, nil
}

func (s storage) AuthRequestByID(_ context.Context, id string) (op.AuthRequest, error) {
	if request, found := s.state.request(id); found {
		return request, nil
	}
	return nil, oidc.ErrInvalidRequest().WithDescription("the sign-in has expired; start again")
}

func (s storage) SaveAuthCode(_ context.Context, id, code string) error {
	s.state.mutex.Lock()
	defer s.state.mutex.Unlock()
	request, found := s.state.requests.take(id)
	if !found {
		return oidc.ErrInvalidRequest().WithDescription("the sign-in has expired; start again")
	}
	s.state.codes.put(code, request)
	return nil
}

// AuthRequestByCode uses the code up, whatever becomes of the exchange.
func (s storage) AuthRequestByCode(_ context.Context, code string) (op.AuthRequest, error) {
	s.state.mutex.Lock()
	defer s.state.mutex.Unlock()
	if request, found := s.state.codes.take(code); found {
		return request, nil
	}
	return nil, errNothingKnown
}

func (s storage) DeleteAuthRequest(_ context.Context, id string) error {
	s.state.mutex.Lock()
	defer s.state.mutex.Unlock()
	s.state.requests.remove(id)
	return nil
}

// --- devices ---

func (s storage) StoreDeviceAuthorization(_ context.Context, client, deviceCode, userCode string, expires time.Time, scopes []string) error {
	s.state.mutex.Lock()
	defer s.state.mutex.Unlock()
	if _, taken := s.state.userCodes.get(userCode); taken {
		return op.ErrDuplicateUserCode
	}
	s.state.userCodes.put(userCode, deviceCode)
	s.state.devices.put(deviceCode, &device{userCode: userCode, state: op.DeviceAuthorizationState{
		ClientID: client, Audience: []string{Audience, accountAudience}, Scopes: refreshed(scopes), Expires: expires,
	}})
	return nil
}

// GetDeviceAuthorizatonState answers a device that asks; one that was answered with a yes is not asked about again.
func (s storage) GetDeviceAuthorizatonState(_ context.Context, client, deviceCode string) (*op.DeviceAuthorizationState, error) {
	s.state.mutex.Lock()
	defer s.state.mutex.Unlock()
	found, known := s.state.devices.get(deviceCode)
	if !known || found.state.ClientID != client {
		return nil, errNothingKnown
	}
	now := time.Now()
	early := now.Sub(found.polled) < pollEvery-pollGrace
	found.polled = now
	if early {
		return nil, errTooSoon
	}
	if found.state.Done {
		s.state.devices.remove(deviceCode)
	}
	answer := found.state
	return &answer, nil
}

// --- keys ---

func (s storage) SigningKey(context.Context) (op.SigningKey, error) { return s.keys.signing(), nil }
func (s storage) KeySet(context.Context) ([]op.Key, error)          { return s.keys.published(), nil }
func (s storage) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.RS256}, nil
}
