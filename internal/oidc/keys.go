package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"

	"github.com/gpuaas/gpuaas/domain/fault"
)

const (
	// refreshInterval is how long a key set is used before it is fetched again.
	refreshInterval = 5 * time.Minute
	// unknownKeyInterval bounds how often a key id nobody knows may cause an early fetch: a flood of made-up ids
	// costs the issuer one request in this time.
	unknownKeyInterval = 30 * time.Second
	// firstInterval is the bound before the first set came, so that a platform started before its issuer comes to
	// life with it.
	firstInterval   = time.Second
	maxDocumentSize = 1 << 20
)

// keySet caches the issuer's keys. An issuer that is away does not matter while a set is there: old keys stay good
// until new ones come.
type keySet struct {
	issuer string
	http   *http.Client
	now    func() time.Time
	log    *slog.Logger

	mutex sync.Mutex
	keys  jwk.Set
	// fetched and attempted are when a set last came, and when one was last asked for.
	fetched, attempted time.Time
	fetching           chan struct{}
}

// find answers the key of an id, fetching the set when it is old, or early when the id is unknown.
func (k *keySet) find(ctx context.Context, keyID string) (jwk.Key, error) {
	for _, early := range []bool{false, true} {
		set, err := k.current(ctx, early)
		if err != nil {
			return nil, err
		}
		if key, known := set.LookupKeyID(keyID); known {
			return key, nil
		}
	}
	return nil, invalid(fmt.Errorf("the issuer knows no key %q", keyID))
}

// current answers the cached set, or a fresh one when it is due. One caller fetches; the others go on with the old set,
// and wait only if they have none or their key is not in it.
func (k *keySet) current(ctx context.Context, early bool) (jwk.Set, error) {
	k.mutex.Lock()
	now := k.now()
	due := early || k.keys == nil || now.Sub(k.fetched) >= refreshInterval
	interval := unknownKeyInterval
	if k.keys == nil {
		interval = firstInterval
	}
	if k.fetching == nil && due && now.Sub(k.attempted) >= interval {
		k.attempted, k.fetching = now, make(chan struct{})
		go k.refresh(k.fetching)
	}
	fetching, keys := k.fetching, k.keys
	k.mutex.Unlock()

	if fetching != nil && (keys == nil || early) {
		select {
		case <-fetching:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		k.mutex.Lock()
		keys = k.keys
		k.mutex.Unlock()
	}
	if keys == nil {
		return nil, fault.New(fault.UpstreamError, "The identity provider's keys could not be fetched.")
	}
	return keys, nil
}

// refresh fetches on its own time: the request that noticed may go away meanwhile.
func (k *keySet) refresh(done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	keys, err := k.fetch(ctx)
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if err != nil {
		k.log.Warn("the issuer's keys could not be fetched", "issuer", k.issuer, "error", err.Error())
	} else {
		k.keys, k.fetched = keys, k.now()
	}
	k.fetching = nil
	close(done)
}

func (k *keySet) fetch(ctx context.Context) (jwk.Set, error) {
	var discovered struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	text, err := k.get(ctx, strings.TrimRight(k.issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &discovered); err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	if discovered.Issuer != k.issuer || discovered.JWKSURI == "" {
		return nil, fmt.Errorf("discovery at %s names the issuer %q", k.issuer, discovered.Issuer)
	}
	if text, err = k.get(ctx, discovered.JWKSURI); err != nil {
		return nil, err
	}
	set, err := jwk.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	return signingKeys(set)
}

// signingKeys keeps the public keys for signatures; a symmetric key in a published set is nothing to verify with.
func signingKeys(set jwk.Set) (jwk.Set, error) {
	kept := jwk.NewSet()
	for i := range set.Len() {
		key, _ := set.Key(i)
		if key.KeyType() == jwa.OctetSeq || key.KeyID() == "" || (key.KeyUsage() != "" && key.KeyUsage() != string(jwk.ForSignature)) {
			continue
		}
		public, err := key.PublicKey()
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", key.KeyID(), err)
		}
		if err := kept.AddKey(public); err != nil {
			return nil, fmt.Errorf("key %s: %w", key.KeyID(), err)
		}
	}
	if kept.Len() == 0 {
		return nil, errors.New("the issuer publishes no key for signatures")
	}
	return kept, nil
}

func (k *keySet) get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := k.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", url, response.Status)
	}
	return io.ReadAll(io.LimitReader(response.Body, maxDocumentSize))
}
