package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"

	"github.com/gpuaas/gpuaas/domain/fault"
)

const (
	refreshEvery = 5 * time.Minute
	// retryEvery is the pause after a reading that did not succeed.
	retryEvery = 2 * time.Second
	// earlyRefreshEvery bounds what a flood of unknown kids can make us ask the issuer.
	earlyRefreshEvery = 30 * time.Second
	readTimeout       = 5 * time.Second
	largestDocument   = 1 << 20
)

// Keys are the issuer's public keys, read every five minutes and, at most every 30 seconds, once more when a token names
// a key that is not among them. Keys stay usable while the issuer is away.
type Keys struct {
	issuer string
	client *http.Client
	now    func() time.Time

	mutex     sync.Mutex
	set       jwk.Set
	endpoints Endpoints
	// lastEarly is when an unknown key last caused a reading, lastFirst when a request last did while there were no keys.
	lastEarly, lastFirst time.Time
	// early is open while an early reading is under way, nil otherwise.
	early     chan struct{}
	lastError error
}

// Endpoints are where an issuer is asked for what; empty where it does not have one.
type Endpoints struct {
	Authorization string `json:"authorization_endpoint"`
	Token         string `json:"token_endpoint"`
	EndSession    string `json:"end_session_endpoint"`
	Revocation    string `json:"revocation_endpoint"`
}

func newKeys(issuer string, client *http.Client, now func() time.Time) *Keys {
	return &Keys{issuer: strings.TrimRight(issuer, "/"), client: client, now: now}
}

// Run keeps the keys fresh until ctx ends.
func (k *Keys) Run(ctx context.Context) error {
	for {
		pause := refreshEvery
		if err := k.Refresh(ctx); err != nil {
			pause = retryEvery
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// Ready says why tokens cannot be judged: nil when keys were read.
func (k *Keys) Ready() error {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if k.set != nil {
		return nil
	}
	if k.lastError != nil {
		return k.lastError
	}
	return errors.New("the keys of the issuer were not read yet")
}

// Find is the key of that id. An unknown one may cause an early reading, for which everybody who asks meanwhile waits: at
// a rotation many come at once with the new key, and none of them may be refused. A key that is unknown even
// then is fault.TokenInvalid, or fault.ServiceUnavailable when no keys were ever read.
func (k *Keys) Find(ctx context.Context, kid string) (jwk.Key, error) {
	set, reading := k.look(ctx, kid)
	if reading != nil {
		select {
		case <-reading:
			set = k.atHand()
		case <-ctx.Done():
			return nil, fault.Wrap(ctx.Err(), fault.ServiceUnavailable, "The identity provider did not answer in time.")
		}
	}
	if set == nil {
		return nil, fault.Wrap(k.Ready(), fault.ServiceUnavailable, "The identity provider cannot be reached at the moment.")
	}
	key, known := set.LookupKeyID(kid)
	if !known {
		return nil, invalid(errors.New("unknown kid"))
	}
	return key, nil
}

// Endpoints are those that the issuer named last. Fault: ServiceUnavailable while it was never reached.
func (k *Keys) Endpoints(ctx context.Context) (Endpoints, error) {
	if k.Ready() != nil {
		if err := k.Refresh(ctx); err != nil {
			return Endpoints{}, fault.Wrap(err, fault.ServiceUnavailable, "The identity provider cannot be reached at the moment.")
		}
	}
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return k.endpoints, nil
}

// look answers the keys at hand and, where the kid is not among them, the early reading to wait for, if there may be one.
func (k *Keys) look(ctx context.Context, kid string) (set jwk.Set, reading <-chan struct{}) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if k.set != nil {
		if _, known := k.set.LookupKeyID(kid); known {
			return k.set, nil
		}
	}
	// The first keys are no early reading: after a start, a rotation may come at once.
	last, pause := &k.lastEarly, earlyRefreshEvery
	if k.set == nil {
		last, pause = &k.lastFirst, retryEvery
	}
	if now := k.now(); k.early == nil && now.Sub(*last) >= pause {
		*last, k.early = now, make(chan struct{})
		// The first who asked may go away; the others still wait for the answer, which Refresh bounds in time.
		go k.readEarly(context.WithoutCancel(ctx), k.early)
	}
	return k.set, k.early
}

func (k *Keys) readEarly(ctx context.Context, done chan struct{}) {
	_ = k.Refresh(ctx) // Ready keeps the reason
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.early = nil
	close(done)
}

func (k *Keys) atHand() jwk.Set {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return k.set
}

// Refresh reads the discovery document and the keys it points to. The issuer that the document names must be ours.
func (k *Keys) Refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	set, endpoints, err := k.read(ctx)
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.lastError = err
	if err == nil {
		k.set, k.endpoints = set, endpoints
	}
	return err
}

func (k *Keys) read(ctx context.Context) (jwk.Set, Endpoints, error) {
	document, err := k.get(ctx, k.issuer+"/.well-known/openid-configuration")
	if err != nil {
		return nil, Endpoints{}, err
	}
	var discovered struct {
		Endpoints

		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(document, &discovered); err != nil {
		return nil, Endpoints{}, fmt.Errorf("the discovery document of %s: %w", k.issuer, err)
	}
	if strings.TrimRight(discovered.Issuer, "/") != k.issuer {
		return nil, Endpoints{}, fmt.Errorf("the discovery document of %s names the issuer %q", k.issuer, discovered.Issuer)
	}
	keys, err := k.get(ctx, discovered.JWKSURI)
	if err != nil {
		return nil, Endpoints{}, err
	}
	// A key of a kind that we do not know must not cost us the others.
	all, err := jwk.Parse(keys, jwk.WithIgnoreParseError(true))
	if err != nil {
		return nil, Endpoints{}, fmt.Errorf("the keys of %s: %w", k.issuer, err)
	}
	set, err := usable(all)
	return set, discovered.Endpoints, err
}

// usable keeps the public signing keys that have a kid; a shared secret never becomes a key of ours.
func usable(all jwk.Set) (jwk.Set, error) {
	kept := jwk.NewSet()
	for i := range all.Len() {
		key, _ := all.Key(i)
		if key.KeyID() == "" || key.KeyType() == jwa.OctetSeq || (key.KeyUsage() != "" && key.KeyUsage() != string(jwk.ForSignature)) {
			continue
		}
		public, err := key.PublicKey()
		if err != nil {
			return nil, fmt.Errorf("the key %q: %w", key.KeyID(), err)
		}
		if err := kept.AddKey(public); err != nil {
			return nil, fmt.Errorf("the key %q: %w", key.KeyID(), err)
		}
	}
	if kept.Len() == 0 {
		return nil, errors.New("the issuer publishes no signing key")
	}
	return kept, nil
}

func (k *Keys) get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("the address %q: %w", url, err)
	}
	response, err := k.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", url, response.Status)
	}
	return io.ReadAll(io.LimitReader(response.Body, largestDocument))
}
