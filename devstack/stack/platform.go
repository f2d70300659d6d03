package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gpuaas/gpuaas/internal/temporal"
)

const (
	answerLimit   = 4 << 20
	platformPoll  = 200 * time.Millisecond
	callDeadline  = 40 * time.Second
	idempotencyID = "X-Idempotency-Key"
)

// platform calls the product's own API as one of the development users, as any operator would.
type platform struct {
	endpoints Endpoints
	http      *http.Client
	tokens    map[string]string
}

func newPlatform(e Endpoints) *platform {
	return &platform{endpoints: e, http: &http.Client{Timeout: callDeadline}, tokens: map[string]string{}}
}

// refusal is an error answer of the API.
type refusal struct {
	Status  int
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (r *refusal) Error() string {
	return fmt.Sprintf("the API answers %d %s: %s", r.Status, r.Code, r.Message)
}

// ready asks once whether the API and what it stands on are there.
func (p *platform) ready(ctx context.Context) error {
	return p.call(ctx, "", http.MethodGet, "/readyz", "", nil, nil)
}

// signIn gets a token by the password grant.
func (p *platform) signIn(ctx context.Context, username string) error {
	for _, login := range p.endpoints.Users {
		if login.Username != username {
			continue
		}
		form := url.Values{
			"grant_type": {"password"}, "client_id": {p.endpoints.ClientID}, "client_secret": {p.endpoints.ClientSecret},
			"username": {login.Username}, "password": {login.Password},
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.endpoints.TokenURL, strings.NewReader(form.Encode()))
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		var answer struct {
			AccessToken string `json:"access_token"`
		}
		if err := p.send(request, &answer); err != nil {
			return fmt.Errorf("the sign-in of %s: %w", username, err)
		}
		p.tokens[username] = answer.AccessToken
		return nil
	}
	return fmt.Errorf("there is no development user %q", username)
}

// call sends one request as a user that signed in (empty for nobody) and reads the answer into answer.
func (p *platform) call(ctx context.Context, username, method, path, key string, body, answer any) error {
	var content io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(raw)
	}
	request, err := http.NewRequestWithContext(ctx, method, p.endpoints.APIURL+path, content)
	if err != nil {
		return err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		request.Header.Set(idempotencyID, key)
	}
	if token := p.tokens[username]; token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return p.send(request, answer)
}

func (p *platform) send(request *http.Request, answer any) error {
	response, err := p.http.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(response.Body, answerLimit))
	if err != nil {
		return err
	}
	if response.StatusCode >= http.StatusBadRequest {
		refused := &refusal{Status: response.StatusCode}
		if json.Unmarshal(raw, refused) != nil || refused.Code == "" {
			refused.Message = string(raw)
		}
		return refused
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(raw, answer)
}

// until repeats do until it works or ctx ends; the error names what was waited for.
func until(ctx context.Context, what string, do func() error) error {
	if err := temporal.UntilReady(ctx, platformPoll, do); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// mayHeal says whether another attempt can answer otherwise: only what the API refused for good cannot.
func mayHeal(err error) bool {
	var refused *refusal
	return !errors.As(err, &refused) || refused.Status >= http.StatusInternalServerError || refused.Status == http.StatusTooManyRequests
}
