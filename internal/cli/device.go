package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"

	client "github.com/gpuaas/gpuaas/client/go"
	"github.com/gpuaas/gpuaas/domain/fault"
)

const (
	// deviceClient is the OAuth client of this program where nobody names another.
	deviceClient = "gpuaas-cli"
	// renewBefore is how long before its expiry a token is renewed, so that it lasts for the request it is sent with.
	renewBefore = 30 * time.Second
	// pollAgain is the wait after the issuer was not reached while somebody decides.
	pollAgain = 2 * time.Second
)

// issuerClient has a short timeout: an issuer answers at once or not at all.
var issuerClient = &http.Client{Timeout: 15 * time.Second}

// discovered is the part of an issuer's metadata that a device needs (OpenID Connect Discovery 1.0, RFC 8628).
type discovered struct {
	Issuer    string `json:"issuer"`
	TokenURL  string `json:"token_endpoint"`
	DeviceURL string `json:"device_authorization_endpoint"`
	RevokeURL string `json:"revocation_endpoint"`
}

// discover asks an issuer where its endpoints are.
func discover(ctx context.Context, issuer string) (discovered, error) {
	if address, err := url.Parse(issuer); err != nil || address.Host == "" || (address.Scheme != "https" && address.Scheme != "http") {
		return discovered{}, usage("the issuer's URL %q is not usable", issuer)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, issuer+"/.well-known/openid-configuration", nil)
	if err != nil {
		return discovered{}, usage("the issuer's URL %q is not usable", issuer)
	}
	response, err := issuerClient.Do(request)
	if err != nil {
		return discovered{}, transportError{fmt.Errorf("reach the issuer: %w", err)}
	}
	defer func() { _ = response.Body.Close() }()
	var found discovered
	err = json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&found)
	if response.StatusCode != http.StatusOK || err != nil {
		return discovered{}, transportError{fmt.Errorf("%s answers %s and no OpenID configuration", issuer, response.Status)}
	}
	if strings.TrimRight(found.Issuer, "/") != issuer {
		return discovered{}, transportError{fmt.Errorf("%s calls itself %s: it is not the issuer that was meant", issuer, printable(found.Issuer))}
	}
	return found, nil
}

// signInClient is the OAuth client at its issuer.
func signInClient(ctx context.Context, issuer, clientID string) (*oauth2.Config, error) {
	found, err := discover(ctx, issuer)
	if err != nil {
		return nil, err
	}
	return &oauth2.Config{
		ClientID: clientID, Scopes: []string{"openid", "profile", "email"},
		Endpoint: oauth2.Endpoint{TokenURL: found.TokenURL, DeviceAuthURL: found.DeviceURL, AuthStyle: oauth2.AuthStyleInParams},
	}, nil
}

// deviceLogin signs in by the device flow: a person approves in any browser while this program asks the issuer.
func (c *command) deviceLogin(ctx context.Context, issuer, clientID string) (credentials, error) {
	config, err := signInClient(ctx, issuer, clientID)
	if err != nil {
		return credentials{}, err
	}
	if config.Endpoint.DeviceAuthURL == "" {
		return credentials{}, fmt.Errorf("%s offers no device login; use --token-stdin", issuer)
	}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, issuerClient)
	device, err := config.DeviceAuth(ctx)
	if err != nil {
		return credentials{}, signInTrouble(ctx, err)
	}
	if device.VerificationURIComplete != "" {
		fmt.Fprintf(c.Err, "Open this address in any browser, and compare the code it shows:\n\n  %s\n  code: %s\n\n",
			printable(device.VerificationURIComplete), printable(device.UserCode))
	} else {
		fmt.Fprintf(c.Err, "Open this address in any browser, and give it the code:\n\n  %s\n  code: %s\n\n",
			printable(device.VerificationURI), printable(device.UserCode))
	}
	fmt.Fprintln(c.Err, "Waiting for your answer there ...")
	token, err := awaitDecision(ctx, config, device)
	if err != nil {
		return credentials{}, err
	}
	return credentialsOf(token, ""), nil
}

// awaitDecision polls as RFC 8628 says until the person has answered or the code has expired. An issuer that is away for
// a while is asked again, for the person goes on deciding.
func awaitDecision(ctx context.Context, config *oauth2.Config, device *oauth2.DeviceAuthResponse) (*oauth2.Token, error) {
	for {
		token, err := config.DeviceAccessToken(ctx, device)
		var refused *oauth2.RetrieveError
		switch {
		case err == nil:
			return token, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, context.DeadlineExceeded) && !device.Expiry.IsZero() && !time.Now().Before(device.Expiry):
			return nil, expiredCode()
		case errors.As(err, &refused) && (refused.ErrorCode != "" || refused.Response.StatusCode < http.StatusInternalServerError):
			return nil, signInTrouble(ctx, err)
		}
		if err := pause(ctx, pollAgain); err != nil {
			return nil, err
		}
	}
}

func expiredCode() error {
	return timeoutError{errors.New("nobody answered before the code expired; run gpuaas login again")}
}

// signInTrouble says what an issuer's refusal means.
func signInTrouble(ctx context.Context, err error) error {
	var refused *oauth2.RetrieveError
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !errors.As(err, &refused) {
		return transportError{fmt.Errorf("reach the issuer: %w", err)}
	}
	switch refused.ErrorCode {
	case "access_denied":
		return notSignedIn("The login was refused in the browser.")
	case "expired_token":
		return expiredCode()
	case "invalid_grant":
		return notSignedIn("The login has ended; run gpuaas login again.")
	case "":
		return transportError{fmt.Errorf("the issuer answers %s", refused.Response.Status)}
	}
	sentence := "The issuer refused the login: " + refused.ErrorCode
	if refused.ErrorDescription != "" {
		sentence += ", " + refused.ErrorDescription
	}
	return notSignedIn(sentence)
}

func notSignedIn(sentence string) error {
	return &client.Refusal{HTTPStatus: http.StatusUnauthorized, Code: fault.TokenInvalid, Message: sentence}
}

// credentialsOf is what is kept of a token; an issuer that answers no new refresh token lets the former one hold.
func credentialsOf(token *oauth2.Token, former string) credentials {
	kept := credentials{AccessToken: token.AccessToken, RefreshToken: token.RefreshToken, Expires: token.Expiry.UTC()}
	if kept.RefreshToken == "" {
		kept.RefreshToken = former
	}
	return kept
}

// stale says whether a token has to be renewed before it is used.
func (held credentials) stale(now time.Time) bool {
	return held.RefreshToken != "" && !held.Expires.IsZero() && now.After(held.Expires.Add(-renewBefore))
}

// tokens answers the token of each request: the environment's, or the context's, renewed before it expires.
func (c *command) tokens() (client.TokenSource, error) {
	if token := c.Environment("GPUAAS_TOKEN"); token != "" {
		return client.StaticToken(token), nil
	}
	name, used, err := c.inForce()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (string, error) {
		if !used.Credentials.stale(time.Now()) {
			return used.Credentials.AccessToken, nil
		}
		if err := c.renew(ctx, name); err != nil {
			return "", err
		}
		kept, err := c.configuration()
		if err != nil {
			return "", err
		}
		used = kept.Contexts[name]
		return used.Credentials.AccessToken, nil
	}, nil
}

// renew gets a context new tokens. A refresh token may be good for one use, so that of invocations at the same time only the
// first renews, and the others take what it kept.
func (c *command) renew(ctx context.Context, name string) error {
	return c.change(ctx, func(kept *configuration) error {
		used, known := kept.Contexts[name]
		if !known || !used.Credentials.stale(time.Now()) {
			return nil
		}
		config, err := signInClient(ctx, used.Issuer, used.ClientID)
		if err != nil {
			return err
		}
		ctx = context.WithValue(ctx, oauth2.HTTPClient, issuerClient)
		token, err := config.TokenSource(ctx, &oauth2.Token{RefreshToken: used.Credentials.RefreshToken}).Token()
		if err != nil {
			return signInTrouble(ctx, err)
		}
		used.Credentials = credentialsOf(token, used.Credentials.RefreshToken)
		kept.Contexts[name] = used
		return nil
	})
}

// revoke ends a login at its issuer (RFC 7009), where it has a refresh token and the issuer takes it back.
func revoke(ctx context.Context, ended savedContext) error {
	if ended.Credentials.RefreshToken == "" {
		return nil
	}
	found, err := discover(ctx, ended.Issuer)
	if err != nil || found.RevokeURL == "" {
		return err
	}
	form := url.Values{"token": {ended.Credentials.RefreshToken}, "token_type_hint": {"refresh_token"}, "client_id": {ended.ClientID}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, found.RevokeURL, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := issuerClient.Do(request)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", response.Status)
	}
	return nil
}
