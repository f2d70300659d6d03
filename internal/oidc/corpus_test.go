package oidc_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/cert"
	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwe"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"

	"github.com/gpuaas/gpuaas/domain/fault"
)

// signRaw signs a payload exactly as it is written, under a header exactly as it is written.
func signRaw(t *testing.T, key signingKey, header, payload string) string {
	t.Helper()
	signer, err := jws.NewSigner(jwa.RS256)
	if err != nil {
		t.Fatal(err)
	}
	content := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	signature, err := signer.Sign([]byte(content), key.private)
	if err != nil {
		t.Fatal(err)
	}
	return content + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func marshalled(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const plainHeader = `{"alg":"RS256","typ":"JWT","kid":"one"}`

// The helper that writes tokens by hand writes good ones: what the corpus finds refused is refused for its fault.
func TestATokenWrittenByHandIsAccepted(t *testing.T) {
	key, now := newSigningKey(t, "one"), start()
	i := newIssuer(t, key)
	for name, header := range map[string]string{
		"typ JWT": plainHeader, "no typ": `{"alg":"RS256","kid":"one"}`, "typ of RFC 9068": `{"alg":"RS256","typ":"at+jwt","kid":"one"}`,
	} {
		if _, err := newVerifier(i, now).Verify(t.Context(), signRaw(t, key, header, marshalled(t, i.valid(now.now(), nil)))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, changes := range map[string]claims{
		"the second audience": {"aud": "gpuaas-console"}, "no organisation": {"org_id": nil}, "the other client": {"azp": "gpuaas-api"},
	} {
		token := sign(t, jwa.RS256, key.private, "one", i.valid(now.now(), changes), nil)
		if _, err := newVerifier(i, now).Verify(t.Context(), token); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	null := strings.Replace(marshalled(t, i.valid(now.now(), nil)), `"org_id":"acme"`, `"org_id":null`, 1)
	if found, err := newVerifier(i, now).Verify(t.Context(), signRaw(t, key, plainHeader, null)); err != nil || found.OrgID != "" {
		t.Errorf("org_id null answers %+v, %v", found, err)
	}
}

func TestEveryOtherTokenIsRefused(t *testing.T) {
	key, stranger, now := newSigningKey(t, "one"), newSigningKey(t, "one"), start()
	i := newIssuer(t, key)
	at := now.now()
	good := i.valid(at, nil)
	public, err := jwk.FromRaw(stranger.private.Public())
	if err != nil {
		t.Fatal(err)
	}
	hostile := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a token made us fetch a key") }))
	defer hostile.Close()
	modulus := key.private.N.Bytes()
	changed := func(changes claims) string { return sign(t, jwa.RS256, key.private, "one", i.valid(at, changes), nil) }
	headed := func(header string) string { return signRaw(t, key, header, marshalled(t, good)) }
	written := func(old, changed string) string {
		text := marshalled(t, good)
		if !strings.Contains(text, old) {
			t.Fatalf("%s does not hold %s", text, old)
		}
		return signRaw(t, key, plainHeader, strings.Replace(text, old, changed, 1))
	}
	strange := func(extra map[string]any) string { return sign(t, jwa.RS256, stranger.private, "one", good, extra) }
	var chain cert.Chain
	_ = chain.AddString(base64.StdEncoding.EncodeToString([]byte("a certificate")))
	whole := changed(nil)
	parts := strings.Split(whole, ".")

	cases := map[string]string{
		"nothing":                 "",
		"no token at all":         "Bearer",
		"huge":                    whole + strings.Repeat("A", 1<<20),
		"huge in a claim":         changed(claims{"note": strings.Repeat("A", 1<<15)}),
		"truncated":               whole[:len(whole)-20],
		"truncated in the middle": whole[:len(whole)/2],
		"without its signature":   parts[0] + "." + parts[1] + ".",
		"with a fourth part":      whole + ".AAAA",
		"padded":                  parts[0] + "=." + parts[1] + "." + parts[2],
		"with a line break":       parts[0] + "\n." + parts[1] + "." + parts[2],
		"another payload":         swapPayload(t, whole, changed(claims{"sub": "subject-2"})),
		"in JSON, one signature":  inJSON(t, good, key),
		"in JSON, two signatures": inJSON(t, good, key, stranger),
		"encrypted":               encrypted(t, whole, key),
		"nested":                  signRaw(t, key, `{"alg":"RS256","kid":"one","cty":"JWT"}`, `"`+whole+`"`),
		"nested as claims":        signRaw(t, key, `{"alg":"RS256","kid":"one","cty":"JWT"}`, marshalled(t, good)),

		"algorithm none":         unsigned(t, map[string]any{"alg": "none", "kid": "one"}, good),
		"algorithm None":         unsigned(t, map[string]any{"alg": "None", "kid": "one"}, good),
		"no algorithm":           headed(`{"kid":"one"}`),
		"algorithm as a list":    headed(`{"alg":["RS256"],"kid":"one"}`),
		"public key as HMAC":     sign(t, jwa.HS256, modulus, "one", good, nil),
		"a stranger's key":       strange(nil),
		"its own key in jwk":     strange(map[string]any{"jwk": public}),
		"its own key at jku":     strange(map[string]any{"jku": hostile.URL}),
		"its own key at x5u":     strange(map[string]any{"x5u": hostile.URL}),
		"its own chain in x5c":   strange(map[string]any{"x5c": &chain}),
		"no kid":                 sign(t, jwa.RS256, key.private, "", good, nil),
		"an unknown kid":         sign(t, jwa.RS256, key.private, "two", good, nil),
		"a kid that is a path":   sign(t, jwa.RS256, key.private, "../../../dev/null", good, nil),
		"a kid that is a query":  sign(t, jwa.RS256, key.private, "one' OR '1'='1", good, nil),
		"a kid that is a URL":    sign(t, jwa.RS256, key.private, hostile.URL, good, nil),
		"a kid with a NUL":       sign(t, jwa.RS256, key.private, "one\x00", good, nil),
		"a kid as a number":      headed(`{"alg":"RS256","kid":1}`),
		"a kid without end":      headed(`{"alg":"RS256","kid":"` + strings.Repeat("1", 4096) + `"}`),
		"a kid twice":            headed(`{"alg":"RS256","kid":"two","kid":"one"}`),
		"a critical header":      headed(`{"alg":"RS256","kid":"one","crit":["exp"],"exp":1}`),
		"an empty crit":          headed(`{"alg":"RS256","kid":"one","crit":["b64"],"b64":true}`),
		"an unencoded payload":   headed(`{"alg":"RS256","kid":"one","b64":false}`),
		"the typ of an ID token": headed(`{"alg":"RS256","kid":"one","typ":"id_token+jwt"}`),
		"the typ of a logout":    headed(`{"alg":"RS256","kid":"one","typ":"logout+jwt"}`),

		"another issuer":                changed(claims{"iss": "http://elsewhere/realms/gpuaas"}),
		"the issuer with a slash":       changed(claims{"iss": i.url() + "/"}),
		"no issuer":                     changed(claims{"iss": nil}),
		"another audience":              changed(claims{"aud": "account"}),
		"no audience":                   changed(claims{"aud": nil}),
		"an audience in a list":         changed(claims{"aud": []any{[]string{audience}}}),
		"an audience as an object":      changed(claims{"aud": map[string]any{audience: true}}),
		"another authorised party":      changed(claims{"azp": "somebody-else"}),
		"an authorised party as a list": changed(claims{"azp": []string{party}}),
		"an ID token":                   changed(claims{"typ": "ID"}),
		"an ID token without typ":       changed(claims{"typ": nil, "at_hash": "hash"}),
		"a refresh token":               changed(claims{"typ": "Refresh"}),
		"an offline token":              changed(claims{"typ": "Offline"}),
		"a typ as a list":               changed(claims{"typ": []string{"Bearer"}}),
		"no subject":                    changed(claims{"sub": nil}),
		"an empty subject":              changed(claims{"sub": ""}),
		"a subject as a number":         changed(claims{"sub": 7}),
		"a subject without end":         changed(claims{"sub": strings.Repeat("s", 256)}),
		"a subject twice":               written(`"sub":"subject-1"`, `"sub":"subject-2","sub":"subject-1"`),
		"a subject twice, escaped":      written(`"sub":"subject-1"`, `"\u0073ub":"subject-2","sub":"subject-1"`),
		"roles twice":                   written(`{"roles":["user","admin"]}`, `{"roles":["user"],"roles":["user","admin"]}`),
		"roles as text":                 changed(claims{"realm_access": map[string]any{"roles": "admin"}}),
		"a role as an object":           changed(claims{"realm_access": map[string]any{"roles": []any{map[string]any{"admin": true}}}}),
		"an organisation as a list":     changed(claims{"org_id": []string{"acme"}}),
		"a user name as a number":       changed(claims{"preferred_username": 7}),
		"claims as a list":              signRaw(t, key, plainHeader, "["+marshalled(t, good)+"]"),
		"claims and more":               signRaw(t, key, plainHeader, marshalled(t, good)+"{}"),
		"claims nested without end":     written(`"org_id":"acme"`, `"org_id":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)),
		"no expiry":                     changed(claims{"exp": nil}),
		"an expiry as text":             changed(claims{"exp": fmt.Sprint(at.Add(time.Hour).Unix())}),
		"an expiry of null":             written(`"exp":`, `"exp":null,"was":`),
		"an expiry beyond all dates":    written(`"exp":`, `"exp":1e300,"was":`),
		"an expiry that wraps around":   written(`"exp":`, `"exp":9223372036854775807,"was":`),
		"not valid yet":                 changed(claims{"nbf": at.Add(2 * time.Minute).Unix()}),
		"issued in the future":          changed(claims{"iat": at.Add(2 * time.Minute).Unix()}),
		"expired, and not for us":       changed(claims{"exp": at.Add(-time.Hour).Unix(), "aud": "account"}),
		"expired, and a stranger's":     sign(t, jwa.RS256, stranger.private, "one", i.valid(at, claims{"exp": at.Add(-time.Hour).Unix()}), nil),
	}
	verifier := newVerifier(i, now)
	for name, token := range cases {
		t.Run(name, func(t *testing.T) {
			found, err := verifier.Verify(t.Context(), token)
			if !errors.Is(err, fault.TokenInvalid) || found.Subject != "" {
				t.Errorf("answered %+v, %v; want %s", found, err, fault.TokenInvalid)
			}
		})
	}
	t.Run("expired", func(t *testing.T) {
		found, err := verifier.Verify(t.Context(), changed(claims{"exp": at.Add(-time.Hour).Unix()}))
		if !errors.Is(err, fault.TokenExpired) || found.Subject != "" {
			t.Errorf("answered %+v, %v; want %s", found, err, fault.TokenExpired)
		}
	})
}

// swapPayload puts the payload of one token between header and signature of another.
func swapPayload(t *testing.T, into, from string) string {
	t.Helper()
	left, right := strings.Split(into, "."), strings.Split(from, ".")
	return strings.Join([]string{left[0], right[1], left[2]}, ".")
}

// inJSON is the other serialisation of a signed token, with a signature a key.
func inJSON(t *testing.T, payload claims, keys ...signingKey) string {
	t.Helper()
	options := []jws.SignOption{jws.WithJSON()}
	for _, key := range keys {
		header := jws.NewHeaders()
		if err := header.Set(jws.KeyIDKey, key.kid); err != nil {
			t.Fatal(err)
		}
		options = append(options, jws.WithKey(jwa.RS256, key.private, jws.WithProtectedHeaders(header)))
	}
	token, err := jws.Sign([]byte(marshalled(t, payload)), options...)
	if err != nil {
		t.Fatal(err)
	}
	return string(token)
}

// encrypted hides a good token inside another that only the holder of the key can open.
func encrypted(t *testing.T, token string, key signingKey) string {
	t.Helper()
	hidden, err := jwe.Encrypt([]byte(token), jwe.WithKey(jwa.RSA_OAEP, key.private.Public()))
	if err != nil {
		t.Fatal(err)
	}
	return string(hidden)
}

func TestClocksMayDifferByAMinute(t *testing.T) {
	key, now := newSigningKey(t, "one"), start()
	i := newIssuer(t, key)
	verifier := newVerifier(i, now)
	for _, c := range []struct {
		claim   string
		seconds int
		want    error
	}{
		{"exp", -59, nil}, {"exp", -61, fault.TokenExpired}, {"exp", 61, nil},
		{"nbf", 59, nil}, {"nbf", 61, fault.TokenInvalid}, {"nbf", -61, nil},
		{"iat", 59, nil}, {"iat", 61, fault.TokenInvalid}, {"iat", -61, nil},
	} {
		t.Run(fmt.Sprintf("%s%+d", c.claim, c.seconds), func(t *testing.T) {
			at := now.now().Add(time.Duration(c.seconds) * time.Second)
			token := sign(t, jwa.RS256, key.private, "one", i.valid(now.now(), claims{c.claim: at.Unix()}), nil)
			if _, err := verifier.Verify(t.Context(), token); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}
