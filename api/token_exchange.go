package api

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/identity"
	authored "github.com/gpuaas/gpuaas/domain/policy"
	"github.com/gpuaas/gpuaas/domain/secret"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/schema/queries"
)

type exchangeTokenIn struct {
	IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255" doc:"Without effect: every request gets a token of its own."`
	Body           struct {
		GrantType    string `json:"grant_type" enum:"client_credentials"`
		ClientID     string `json:"client_id,omitempty" maxLength:"100" doc:"The service account's id, unless the Authorization header names it (Basic)."`
		ClientSecret string `json:"client_secret,omitempty" maxLength:"200"`
		Scope        string `json:"scope,omitempty" maxLength:"2000" doc:"Scopes with a space between them; everything that the account's role holds when absent."`
	}
}

type accessTokenBody struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type" enum:"Bearer"`
	ExpiresIn   int64  `json:"expires_in" doc:"Seconds."`
	Scope       string `json:"scope" doc:"What it is good for, with a space between the scopes."`
}

type accessTokenOut struct{ Body accessTokenBody }

// tokenExchange is the one operation that also takes a form and the Basic scheme, as OAuth 2.0 clients send them.
const tokenExchange = "exchangeToken"

// expiredFor is how long an expired access token is still known as one that expired.
const expiredFor = time.Hour

// exchangeToken gives an access token for a service account's secret, as the client credentials grant of OAuth 2.0 does.
func (s *server) exchangeToken(ctx context.Context, in *exchangeTokenIn) (*accessTokenOut, error) {
	account, held, err := s.secretHolder(ctx, in.Body.ClientID, in.Body.ClientSecret)
	if err != nil {
		return nil, err
	}
	granted := account.Role.Scopes(account.ProjectID != "")
	scopes := granted
	if asked := strings.Fields(in.Body.Scope); len(asked) > 0 {
		names := make([]scopeName, len(asked))
		for i, one := range asked {
			if names[i] = scopeName(one); !identity.Permission(one).Valid() {
				return nil, invalid("body.scope", one+" is no scope")
			}
		}
		if scopes, err = scopesWithin(func(p identity.Permission) bool { return slices.Contains(granted, p) }, names); err != nil {
			return nil, err
		}
	}
	seconds, err := s.config.Policy.Int(ctx, authored.AuthServiceAccountTokenTTLSeconds)
	if err != nil {
		return nil, err
	}
	text, credentialID := s.mintSecret(secret.ServiceAccountTokenPrefix, "")
	now, hash := s.now(), queries.HashCredential(text)
	expires := now.Add(time.Duration(seconds) * time.Second)
	err = store.InTx(ctx, s.config.Pool, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := queries.InsertCredential(ctx, tx, queries.Credential{
			ID: credentialID, Kind: queries.CredentialAccess, UserID: account.UserID, SHA256: hash[:], Scopes: scopes,
			ParentID: &held.ID, CreatedBy: string(account.UserID), CreatedAt: now, ExpiresAt: &expires,
		}); err != nil {
			return err
		}
		return queries.ForgetAccessTokens(ctx, tx, account.UserID, now.Add(-expiredFor))
	})
	if err != nil {
		return nil, err
	}
	s.auth.Used(ctx, held.ID)
	words := make([]string, len(scopes))
	for i, scope := range scopes {
		words[i] = string(scope)
	}
	return &accessTokenOut{Body: accessTokenBody{AccessToken: text, TokenType: "Bearer", ExpiresIn: seconds, Scope: strings.Join(words, " ")}}, nil
}

// secretHolder is the service account whose secret was shown. An unknown account, a wrong secret, an expired and a revoked
// one get the same refusal.
func (s *server) secretHolder(ctx context.Context, clientID, clientSecret string) (queries.ServiceAccount, queries.Credential, error) {
	refused := fault.New(fault.TokenInvalid, "The client id and secret are not those of a service account.")
	userID, err := id.Parse[id.User](clientID)
	if err != nil {
		return queries.ServiceAccount{}, queries.Credential{}, refused
	}
	account, err := queries.GetServiceAccount(ctx, s.config.Pool, userID)
	if errors.Is(err, pgx.ErrNoRows) {
		return account, queries.Credential{}, refused
	}
	if err != nil {
		return account, queries.Credential{}, err
	}
	live, err := queries.LiveSecrets(ctx, s.config.Pool, []id.User{userID}, s.now())
	if err != nil {
		return account, queries.Credential{}, err
	}
	hash := queries.HashCredential(clientSecret)
	var held *queries.Credential
	for i := range live {
		if subtle.ConstantTimeCompare(live[i].SHA256, hash[:]) == 1 {
			held = &live[i]
		}
	}
	if held == nil {
		return account, queries.Credential{}, refused
	}
	if account.DisabledAt != nil {
		return account, *held, fault.New(fault.TokenInvalid, "The service account is disabled.")
	}
	user, err := queries.GetIdentity(ctx, s.config.Pool, userID)
	if err == nil && user.User.Status != queries.UserActive {
		err = fault.New(fault.UserSuspended, "")
	}
	return account, *held, err
}

const formType = "application/x-www-form-urlencoded"

// acceptClientCredentials brings a form, and client credentials of the Basic scheme, into the one shape that the operation
// reads, and forbids that its answer is kept anywhere on the way.
func acceptClientCredentials(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w = challenging{w}
		fields, err := clientCredentials(r)
		if err != nil {
			middleware.WriteFault(w, r, log, err)
			return
		}
		if fields != nil {
			body, err := json.Marshal(fields)
			if err != nil {
				middleware.WriteFault(w, r, log, err)
				return
			}
			r = r.Clone(r.Context())
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			r.Header.Set("Content-Type", "application/json")
		}
		next.ServeHTTP(w, r)
	})
}

// challenging says with each 401 how to authenticate, as the operation itself refuses credentials.
type challenging struct{ http.ResponseWriter }

// WriteHeader adds the challenge.
func (c challenging) WriteHeader(status int) {
	if status == http.StatusUnauthorized {
		c.Header().Set(middleware.HeaderChallenge, `Basic realm="gpuaas"`)
	}
	c.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (c challenging) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// clientCredentials reads what does not come as JSON alone; nil where the body is to be read as it is.
func clientCredentials(r *http.Request) (map[string]any, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	isForm := err == nil && kind == formType
	header := r.Header.Get("Authorization")
	isBasic := len(header) >= len("Basic ") && strings.EqualFold(header[:len("Basic ")], "Basic ")
	if !isForm && !isBasic {
		return nil, nil
	}
	body, err := io.ReadAll(r.Body) // the guard has bounded and buffered it
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	fields, isObject := jsonFields(body)
	if isForm {
		if fields, err = formFields(string(body)); err != nil {
			return nil, err
		}
	} else if !isObject {
		return nil, nil // what is wrong with it, its validation says better
	}
	if isBasic {
		return fields, addBasic(fields, strings.TrimSpace(header[len("Basic "):]))
	}
	return fields, nil
}

func jsonFields(body []byte) (map[string]any, bool) {
	fields := map[string]any{}
	err := json.Unmarshal(body, &fields)
	return fields, err == nil && fields != nil // null is no object
}

// formFields takes the fields of the grant and leaves the rest out, as OAuth 2.0 asks.
func formFields(body string) (map[string]any, error) {
	values, err := url.ParseQuery(body)
	if err != nil {
		return nil, fault.New(fault.InvalidRequest, "The body is no form.")
	}
	fields := map[string]any{}
	for _, name := range []string{"grant_type", "client_id", "client_secret", "scope"} {
		switch given := values[name]; {
		case len(given) > 1:
			return nil, fault.Newf(fault.InvalidRequest, "The field %s is given more than once.", name)
		case len(given) == 1 && given[0] != "":
			fields[name] = given[0]
		}
	}
	return fields, nil
}

// addBasic adds the client credentials of the Authorization header; a client uses one way alone.
func addBasic(fields map[string]any, encoded string) error {
	raw, err := base64.StdEncoding.DecodeString(encoded)
	name, password, found := strings.Cut(string(raw), ":")
	if err != nil || !found {
		return fault.New(fault.InvalidRequest, "The Authorization header is no Basic credential.")
	}
	if _, twice := fields["client_secret"]; twice {
		return fault.New(fault.InvalidRequest, "The client's secret is given in the header and in the body.")
	}
	clientID, errID := url.QueryUnescape(name)
	clientSecret, errSecret := url.QueryUnescape(password)
	if errID != nil || errSecret != nil {
		return fault.New(fault.InvalidRequest, "The Authorization header is no Basic credential.")
	}
	if named, given := fields["client_id"]; given && named != clientID {
		return fault.New(fault.InvalidRequest, "The header and the body name different clients.")
	}
	fields["client_id"], fields["client_secret"] = clientID, clientSecret
	return nil
}
