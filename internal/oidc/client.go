package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwt"
	"golang.org/x/oauth2"

	"github.com/gpuaas/gpuaas/domain/fault"
)

// Client is the platform as an application of the issuer: it sends browsers there, and trades what they bring back for
// tokens.
type Client struct {
	verifier *Verifier
	http     *http.Client
	id       string
	secret   string
	redirect string
}

// NewClient makes one. A client without a secret is a public one; redirect is where browsers come back to, empty for a
// client that has none.
func NewClient(verifier *Verifier, client *http.Client, id, secret, redirect string) *Client {
	return &Client{verifier: verifier, http: client, id: id, secret: secret, redirect: redirect}
}

// Tokens are what the issuer gives for a sign-in. None of them ever reaches a browser.
type Tokens struct {
	Access, Refresh, ID string
	// Expires is when the access token does.
	Expires time.Time
	Claims  Claims
}

// Attempt holds the secrets that bind the steps of one sign-in together.
type Attempt struct {
	State    string `json:"state"`
	Nonce    string `json:"nonce"`
	Verifier string `json:"verifier"`
}

var scopes = []string{"openid", "profile", "email"}

func (c *Client) config(endpoints Endpoints) *oauth2.Config {
	style := oauth2.AuthStyleInParams
	return &oauth2.Config{
		ClientID: c.id, ClientSecret: c.secret, RedirectURL: c.redirect, Scopes: scopes,
		Endpoint: oauth2.Endpoint{AuthURL: endpoints.Authorization, TokenURL: endpoints.Token, AuthStyle: style},
	}
}

func (c *Client) calling(ctx context.Context) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, c.http)
}

// SignInURL is where a browser begins. Fault: ServiceUnavailable while the issuer was never reached.
func (c *Client) SignInURL(ctx context.Context, attempt Attempt) (string, error) {
	endpoints, err := c.verifier.keys.Endpoints(ctx)
	if err != nil {
		return "", err
	}
	return c.config(endpoints).AuthCodeURL(attempt.State, oauth2.S256ChallengeOption(attempt.Verifier), oauth2.SetAuthURLParam("nonce", attempt.Nonce)), nil
}

// Exchange trades the code that a browser brought back for tokens, and holds the ID token to the attempt. Faults:
// TokenInvalid when the issuer refuses or its tokens are not ours, ServiceUnavailable when it cannot be reached.
func (c *Client) Exchange(ctx context.Context, code string, attempt Attempt) (Tokens, error) {
	endpoints, err := c.verifier.keys.Endpoints(ctx)
	if err != nil {
		return Tokens{}, err
	}
	answer, err := c.config(endpoints).Exchange(c.calling(ctx), code, oauth2.VerifierOption(attempt.Verifier))
	if err != nil {
		return Tokens{}, refusedBy(err)
	}
	tokens, err := c.judged(ctx, answer, "")
	if err != nil {
		return Tokens{}, err
	}
	return tokens, c.verifier.verifyID(ctx, tokens.ID, c.id, attempt.Nonce, tokens.Claims.Subject)
}

// Refresh trades a refresh token for new tokens; the old one is used up. Faults as Exchange's.
func (c *Client) Refresh(ctx context.Context, refresh string) (Tokens, error) {
	endpoints, err := c.verifier.keys.Endpoints(ctx)
	if err != nil {
		return Tokens{}, err
	}
	answer, err := c.config(endpoints).TokenSource(c.calling(ctx), &oauth2.Token{RefreshToken: refresh}).Token()
	if err != nil {
		return Tokens{}, refusedBy(err)
	}
	return c.judged(ctx, answer, refresh)
}

// Password signs somebody in with a password, for development. Faults as Exchange's.
func (c *Client) Password(ctx context.Context, username, password string) (Tokens, error) {
	endpoints, err := c.verifier.keys.Endpoints(ctx)
	if err != nil {
		return Tokens{}, err
	}
	answer, err := c.config(endpoints).PasswordCredentialsToken(c.calling(ctx), username, password)
	if err != nil {
		return Tokens{}, refusedBy(err)
	}
	return c.judged(ctx, answer, "")
}

// End ends the issuer's session too and takes the refresh token back, as far as the issuer can be told.
func (c *Client) End(ctx context.Context, tokens Tokens) error {
	endpoints, err := c.verifier.keys.Endpoints(ctx)
	if err != nil {
		return err
	}
	return errors.Join(
		c.tell(ctx, endpoints.EndSession, url.Values{"id_token_hint": {tokens.ID}, "client_id": {c.id}}, tokens.ID),
		c.tell(ctx, endpoints.Revocation, url.Values{"token": {tokens.Refresh}, "token_type_hint": {"refresh_token"}, "client_id": {c.id}}, tokens.Refresh),
	)
}

// tell posts a form to an endpoint, if the issuer has it and there is something to say.
func (c *Client) tell(ctx context.Context, endpoint string, form url.Values, about string) error {
	if endpoint == "" || about == "" {
		return nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	// Where a browser would be sent afterwards is of no interest here.
	silent := *c.http
	silent.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := silent.Do(request)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	if response.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s answered %s", endpoint, response.Status)
	}
	return nil
}

// judged holds the issuer's answer to what the API accepts. An answer without a refresh token keeps the last one.
func (c *Client) judged(ctx context.Context, answer *oauth2.Token, last string) (Tokens, error) {
	claims, err := c.verifier.Verify(ctx, answer.AccessToken)
	if err != nil {
		return Tokens{}, err
	}
	id, _ := answer.Extra("id_token").(string)
	tokens := Tokens{Access: answer.AccessToken, Refresh: answer.RefreshToken, ID: id, Expires: claims.Expires, Claims: claims}
	if tokens.Refresh == "" {
		tokens.Refresh = last
	}
	return tokens, nil
}

// refusedBy tells an issuer that says no from one that cannot be reached.
func refusedBy(err error) error {
	var answered *oauth2.RetrieveError
	if errors.As(err, &answered) && answered.Response.StatusCode < http.StatusInternalServerError {
		return fault.Wrap(fmt.Errorf("the issuer answers %s %s", answered.Response.Status, answered.ErrorCode), fault.TokenInvalid, "The identity provider refuses the sign-in.")
	}
	return fault.Wrap(err, fault.ServiceUnavailable, "The identity provider cannot be reached at the moment.")
}

// verifyID judges an ID token of a sign-in that a client of ours began: it must be for that client, for this very attempt,
// and about the same person as the access token.
func (v *Verifier) verifyID(ctx context.Context, token, client, nonce, subject string) error {
	if token == "" || len(token) > longestToken {
		return invalid(errors.New("no ID token, or one too long"))
	}
	if _, err := payloadOf(token); err != nil {
		return invalid(err)
	}
	key, algorithm, err := v.signer(ctx, token)
	if err != nil {
		return err
	}
	parsed, err := jwt.ParseString(token, jwt.WithKey(algorithm, key), jwt.WithValidate(true), jwt.WithClock(jwt.ClockFunc(v.now)),
		jwt.WithAcceptableSkew(leeway), jwt.WithIssuer(v.config.Issuer), jwt.WithRequiredClaim(jwt.ExpirationKey))
	if err != nil {
		return invalid(err)
	}
	said := func(name string) string {
		value, _ := parsed.Get(name)
		text, _ := value.(string)
		return text
	}
	switch {
	case !slices.Contains(parsed.Audience(), client):
		return invalid(fmt.Errorf("the ID token is for %q", parsed.Audience()))
	case said("azp") != "" && said("azp") != client, len(parsed.Audience()) > 1 && said("azp") != client:
		return invalid(fmt.Errorf("the ID token's azp is %q", said("azp")))
	case said("nonce") != nonce || nonce == "":
		return invalid(errors.New("the ID token is of another sign-in"))
	case parsed.Subject() != subject:
		return invalid(errors.New("ID token and access token are of two people"))
	default:
		return nil
	}
}
