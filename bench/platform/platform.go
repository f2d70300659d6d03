// Package platform is how benchmarks and drills talk to a running installation: plain HTTP and JSON as any
// stranger would, with no code of the product in between. It imports the standard library only.
package platform

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Endpoints is what a started installation writes to endpoints.json.
type Endpoints struct {
	APIURL          string `json:"api_url"`
	IssuerURL       string `json:"issuer_url"`
	TemporalAddress string `json:"temporal_address"`
	DatabaseURL     string `json:"database_url"`
	PostgresDataDir string `json:"postgres_data_dir"`
	PID             int    `json:"pid"`
}

// ReadEndpoints finds endpoints.json in a data directory, $GPUAAS_DATA or ./.data/dev when it is empty.
func ReadEndpoints(directory string) (Endpoints, error) {
	if directory == "" {
		directory = os.Getenv("GPUAAS_DATA")
	}
	if directory == "" {
		directory = filepath.Join(".data", "dev")
	}
	var found Endpoints
	text, err := os.ReadFile(filepath.Join(directory, "endpoints.json"))
	if err != nil {
		return found, fmt.Errorf("no running platform in %s: start one with `make up`: %w", directory, err)
	}
	if err := json.Unmarshal(text, &found); err != nil {
		return found, fmt.Errorf("endpoints.json: %w", err)
	}
	return found, nil
}

// Session is one signed-in user. It signs in again when its token is about to expire.
type Session struct {
	endpoints          Endpoints
	username, password string
	http               *http.Client

	mutex   sync.Mutex
	token   string
	expires time.Time
}

// Login signs in by the password grant of a development issuer.
func Login(ctx context.Context, endpoints Endpoints, username, password string) (*Session, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64
	session := &Session{endpoints: endpoints, username: username, password: password,
		http: &http.Client{Timeout: 75 * time.Second, Transport: transport}}
	_, err := session.bearer(ctx)
	return session, err
}

func (s *Session) bearer(ctx context.Context) (string, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if time.Until(s.expires) > 20*time.Second {
		return s.token, nil
	}
	form := url.Values{"grant_type": {"password"}, "client_id": {"gpuaas-api"}, "client_secret": {"dev-client-secret"},
		"username": {s.username}, "password": {s.password}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.endpoints.IssuerURL+"/protocol/openid-connect/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := s.http.Do(request)
	if err != nil {
		return "", fmt.Errorf("sign in as %s: %w", s.username, err)
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("sign in as %s: the issuer answered %s", s.username, response.Status)
	}
	s.token, s.expires = answer.AccessToken, time.Now().Add(time.Duration(answer.ExpiresIn)*time.Second)
	return s.token, nil
}

// Answer is what the API said: Status 0 when no answer came.
type Answer struct {
	Status int
	Body   []byte
	Header http.Header
	// Began and Ended are this process's clock around the call.
	Began, Ended time.Time
}

// Code is the fault code of an error answer.
func (a Answer) Code() string {
	var envelope struct {
		Code string `json:"code"`
	}
	if a.Status < 400 || json.Unmarshal(a.Body, &envelope) != nil {
		return ""
	}
	return envelope.Code
}

// Into decodes a successful answer, or says what came instead.
func (a Answer) Into(value any) error {
	if a.Status < 200 || a.Status >= 300 {
		return fmt.Errorf("answered %d: %s", a.Status, strings.TrimSpace(string(a.Body)))
	}
	return json.Unmarshal(a.Body, value)
}

// Call makes one API call; key, if not empty, is its X-Idempotency-Key.
func (s *Session) Call(ctx context.Context, method, path, key string, body any) (Answer, error) {
	answer := Answer{Began: time.Now()}
	token, err := s.bearer(ctx)
	if err != nil {
		answer.Ended = time.Now()
		return answer, err
	}
	var payload io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return answer, err
		}
		payload = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, s.endpoints.APIURL+path, payload)
	if err != nil {
		return answer, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		request.Header.Set("X-Idempotency-Key", key)
	}
	answer.Began = time.Now()
	response, err := s.http.Do(request)
	if err != nil {
		answer.Ended = time.Now()
		return answer, fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer func() { _ = response.Body.Close() }()
	answer.Body, err = io.ReadAll(io.LimitReader(response.Body, 16<<20))
	answer.Ended = time.Now()
	if err != nil {
		return answer, fmt.Errorf("%s %s: %w", method, path, err)
	}
	answer.Status, answer.Header = response.StatusCode, response.Header
	return answer, nil
}

// Get reads path into value.
func (s *Session) Get(ctx context.Context, path string, value any) error {
	answer, err := s.Call(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return err
	}
	if err := answer.Into(value); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	return nil
}
