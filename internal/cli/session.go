package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
	"github.com/gpuaas/gpuaas/domain/fault"
)

// endpoints is the part of the development stack's endpoints.json that the CLI reads.
type endpoints struct {
	APIURL    string `json:"api_url"`
	IssuerURL string `json:"issuer_url"`
}

// loginFlags are what `gpuaas login` was asked for.
type loginFlags struct {
	username, issuer, clientID, serviceAccount string
	tokenStdin, passwordStdin, secretStdin     bool
}

func (c *command) loginCommand() *cobra.Command {
	var flags loginFlags
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Sign in, and stay signed in for the commands that follow",
		Long: `Sign in, and stay signed in for the commands that follow. An address and a code are printed, to be opened and approved in any browser
(OAuth 2.0 device flow, RFC 8628); what was approved renews itself until the issuer ends it.

A program signs in as a service account (--service-account, --secret-stdin), or with a token of its own (--token-stdin, or GPUAAS_TOKEN
without any login). A development issuer also takes a user name and a password (--username, --password-stdin or GPUAAS_PASSWORD).
Secrets are never taken from the command line, where other users of the machine could read them.`,
		Args: none,
	}
	cmd.Flags().StringVar(&flags.username, "username", "", "user name, with a development issuer")
	cmd.Flags().StringVar(&flags.issuer, "issuer", "", "the issuer's URL (else KEYCLOAK_ISSUER_URL, the context's, the development stack's, or the one that the platform names)")
	cmd.Flags().StringVar(&flags.clientID, "client-id", "", "the OAuth client of the device flow (else the context's, or gpuaas-cli)")
	cmd.Flags().StringVar(&flags.serviceAccount, "service-account", "", "sign in as this service account")
	cmd.Flags().BoolVar(&flags.tokenStdin, "token-stdin", false, "read an access token from standard input")
	cmd.Flags().BoolVar(&flags.passwordStdin, "password-stdin", false, "read the password from standard input")
	cmd.Flags().BoolVar(&flags.secretStdin, "secret-stdin", false, "read the service account's secret from standard input")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := flags.check(); err != nil {
			return err
		}
		name, target, err := c.signInTarget(cmd.Context(), flags)
		if err != nil {
			return err
		}
		if target.Credentials, err = c.signIn(cmd.Context(), flags, target); err != nil {
			return err
		}
		me, err := c.identify(cmd.Context(), target)
		if err != nil {
			return err
		}
		if err := c.change(cmd.Context(), func(kept *configuration) error {
			kept.Contexts[name] = target
			kept.Current = name
			return nil
		}); err != nil {
			return err
		}
		fmt.Fprintf(c.Err, "signed in as %s at %s (context %s)\n", printable(me.User.Username), target.APIURL, printable(name))
		return nil
	}
	return cmd
}

// signInTarget is the context that a login fills: the named one, which may be new, else the current one.
func (c *command) signInTarget(ctx context.Context, flags loginFlags) (string, savedContext, error) {
	kept, err := c.configuration()
	if err != nil {
		return "", savedContext{}, err
	}
	name := c.namedContext()
	if name == "" {
		name = kept.Current
	}
	if name == "" {
		name = firstContext
	}
	target := kept.Contexts[name]
	server := c.resolveAPIURL(target)
	target.APIURL, target.Issuer = server, c.issuer(flags.issuer, server, target)
	target.ClientID = first(flags.clientID, target.ClientID, deviceClient)
	if target.Issuer == "" && flags.atIssuer() {
		if target.Issuer, err = c.namedIssuer(ctx, target.APIURL); err != nil {
			return "", savedContext{}, err
		}
		if flags.username != "" && !onThisMachine(target.Issuer) {
			return "", savedContext{}, usage("a password is given to no issuer that %s alone names, here %s: give --issuer or KEYCLOAK_ISSUER_URL", target.APIURL, printable(target.Issuer))
		}
	}
	return name, target, nil
}

// check says whether the flags ask for one way.
func (f loginFlags) check() error {
	ways := 0
	for _, asked := range []bool{f.tokenStdin, f.username != "", f.serviceAccount != ""} {
		if asked {
			ways++
		}
	}
	switch {
	case ways > 1:
		return usage("login takes one of --token-stdin, --username and --service-account")
	case f.secretStdin != (f.serviceAccount != ""):
		return usage("--service-account and --secret-stdin go together")
	case f.passwordStdin && f.username == "":
		return usage("--password-stdin goes with --username")
	default:
		return nil
	}
}

// atIssuer says whether the tokens come from an issuer.
func (f loginFlags) atIssuer() bool { return !f.tokenStdin && f.serviceAccount == "" }

// signIn obtains the tokens in the way that the flags ask for.
func (c *command) signIn(ctx context.Context, flags loginFlags, target savedContext) (credentials, error) {
	switch {
	case flags.tokenStdin:
		token, err := c.secret("token", 64<<10)
		return credentials{AccessToken: token, Expires: expiry(token)}, err
	case flags.serviceAccount != "":
		secret, err := c.secret("secret", 4<<10)
		if err != nil {
			return credentials{}, err
		}
		return c.exchange(ctx, target, flags.serviceAccount, secret)
	case flags.username != "":
		password, err := c.password(flags.passwordStdin)
		if err != nil {
			return credentials{}, err
		}
		token, err := c.passwordGrant(ctx, target.Issuer, flags.username, password)
		return credentials{AccessToken: token, Expires: expiry(token)}, err
	}
	return c.deviceLogin(ctx, target.Issuer, target.ClientID)
}

// secret reads one from standard input.
func (c *command) secret(what string, most int64) (string, error) {
	read, err := io.ReadAll(io.LimitReader(c.In, most))
	if err != nil {
		return "", fmt.Errorf("read the %s: %w", what, err)
	}
	value := strings.TrimSpace(string(read))
	if value == "" {
		return "", usage("the %s is empty", what)
	}
	return value, nil
}

// exchange turns a service account's secret into an access token.
func (c *command) exchange(ctx context.Context, target savedContext, account, secret string) (credentials, error) {
	api, err := client.Connect(target.APIURL, client.StaticToken(""), httpClient)
	if err != nil {
		return credentials{}, usage("the API's address %q is not usable", target.APIURL)
	}
	var answer client.AccessToken
	if _, err := decode(&answer)(api.ClientInterface.ExchangeToken(ctx, nil, client.ExchangeTokenRequest{
		GrantType: "client_credentials", ClientID: &account, ClientSecret: &secret,
	})); err != nil {
		return credentials{}, err
	}
	return credentials{AccessToken: answer.AccessToken, Expires: time.Now().Add(time.Duration(answer.ExpiresIn) * time.Second).UTC()}, nil
}

func (c *command) logoutCommand() *cobra.Command {
	return &cobra.Command{
		Use: "logout", Short: "Forget the tokens of the context in force, and tell the issuer", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			name, _, err := c.inForce()
			if err != nil {
				return err
			}
			var ended savedContext
			if err := c.change(cmd.Context(), func(kept *configuration) error {
				item, known := kept.Contexts[name]
				if !known {
					return nil
				}
				ended = item
				item.Credentials = credentials{}
				kept.Contexts[name] = item
				return nil
			}); err != nil {
				return err
			}
			if err := revoke(cmd.Context(), ended); err != nil {
				fmt.Fprintf(c.Err, "the issuer was not told, and ends the login by itself: %v\n", err)
			}
			fmt.Fprintln(c.Err, "signed out")
			return nil
		},
	}
}

func (c *command) password(fromStdin bool) (string, error) {
	if password := c.Environment("GPUAAS_PASSWORD"); password != "" && !fromStdin {
		return password, nil
	}
	if !fromStdin {
		return "", usage("give the password by --password-stdin or GPUAAS_PASSWORD")
	}
	read, err := io.ReadAll(io.LimitReader(c.In, 4<<10))
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return strings.TrimRight(string(read), "\r\n"), nil
}

// passwordGrant is the one call of a development issuer; production issuers refuse it.
func (c *command) passwordGrant(ctx context.Context, issuer, username, password string) (string, error) {
	secret := c.Environment("GPUAAS_CLIENT_SECRET")
	if secret == "" {
		secret = "dev-client-secret"
	}
	form := url.Values{"grant_type": {"password"}, "client_id": {"gpuaas-api"}, "client_secret": {secret},
		"username": {username}, "password": {password}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, issuer+"/protocol/openid-connect/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", usage("the issuer's URL %q is not usable", issuer)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := (&http.Client{Timeout: 15 * time.Second}).Do(request)
	if err != nil {
		return "", transportError{fmt.Errorf("reach the issuer: %w", err)}
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct {
		AccessToken      string `json:"access_token"`
		Error            string `json:"error"`
		ErrorDescription string `json:"error_description"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&answer); err != nil {
		return "", transportError{fmt.Errorf("the issuer answered %s with something that is not JSON", response.Status)}
	}
	if response.StatusCode != http.StatusOK || answer.AccessToken == "" {
		return "", &client.Refusal{HTTPStatus: http.StatusUnauthorized, Code: fault.TokenInvalid,
			Message: "The issuer refused the login: " + answer.ErrorDescription}
	}
	return answer.AccessToken, nil
}

func (c *command) developmentEndpoints() endpoints {
	directory := c.Environment("GPUAAS_DATA")
	if directory == "" {
		directory = filepath.Join(".data", "dev")
	}
	var found endpoints
	if text, err := os.ReadFile(filepath.Join(directory, "endpoints.json")); err == nil {
		_ = json.Unmarshal(text, &found)
	}
	return found
}

// resolveAPIURL takes the first of: the flag, the environment, the context, the development stack.
func (c *command) resolveAPIURL(used savedContext) string {
	return strings.TrimRight(first(c.apiURL, c.Environment("GPUAAS_API_URL"), used.APIURL, c.developmentEndpoints().APIURL, "http://localhost:8081"), "/")
}

// issuer takes the first of: the flag, the environment, what stands beside this server's address in the context, and in the development
// stack. An issuer that was kept for another server says nothing about this one.
func (c *command) issuer(flag, server string, used savedContext) string {
	found := first(flag, c.Environment("KEYCLOAK_ISSUER_URL"))
	if used.APIURL == "" || used.APIURL == server {
		found = first(found, used.Issuer)
	}
	if development := c.developmentEndpoints(); strings.TrimRight(development.APIURL, "/") == server {
		found = first(found, development.IssuerURL)
	}
	return strings.TrimRight(found, "/")
}

// namedIssuer asks the platform whose tokens it accepts (RFC 9728).
func (c *command) namedIssuer(ctx context.Context, address string) (string, error) {
	api, err := client.Connect(address, client.StaticToken(""), httpClient)
	if err != nil {
		return "", usage("the API's address %q is not usable", address)
	}
	var named client.ResourceMetadata
	_, err = decode(&named)(api.ClientInterface.GetResourceMetadata(ctx))
	var unreachable transportError
	switch {
	case errors.As(err, &unreachable):
		return "", err
	case err != nil: // of a version that does not tell
		return "", usage("%s does not name its issuer: give --issuer or KEYCLOAK_ISSUER_URL (%v)", address, err)
	}
	if len(named.AuthorizationServers) == 0 {
		return "", usage("%s names no issuer: give --issuer or KEYCLOAK_ISSUER_URL", address)
	}
	return strings.TrimRight(named.AuthorizationServers[0], "/"), nil
}

// onThisMachine says whether an address is one of this machine's own, as a development issuer's is.
func onThisMachine(address string) bool {
	parsed, err := url.Parse(address)
	if err != nil {
		return false
	}
	host := parsed.Hostname()
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// first is the first text that is not empty.
func first(candidates ...string) string {
	for _, candidate := range candidates {
		if candidate != "" {
			return candidate
		}
	}
	return ""
}

// identify asks the platform who a token belongs to, which also proves the token.
func (c *command) identify(ctx context.Context, as savedContext) (client.Me, error) {
	var me client.Me
	api, err := client.Connect(as.APIURL, client.StaticToken(as.Credentials.AccessToken), httpClient)
	if err != nil {
		return me, usage("the API's address %q is not usable", as.APIURL)
	}
	_, err = decode(&me)(api.ClientInterface.GetMe(ctx))
	return me, err
}

func (c *command) whoamiCommand() *cobra.Command {
	return &cobra.Command{
		Use: "whoami", Short: "Show who is signed in", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := c.api()
			if err != nil {
				return err
			}
			var me client.Me
			body, err := decode(&me)(api.GetMe(cmd.Context()))
			if err != nil {
				return err
			}
			return c.show(body, func() table {
				return fields("user", me.User.Username, "user id", me.User.ID, "tenant", me.Tenant.Name, "tenant id", me.Tenant.ID,
					"project", me.Project.ID, "account", me.Account.ID, "currency", me.Account.Currency, "roles", strings.Join(me.Roles, ", "))
			})
		},
	}
}
