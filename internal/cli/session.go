package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
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

// login is what `gpuaas login` keeps, in a file only its owner can read.
type login struct {
	APIURL string `json:"api_url"`
	Token  string `json:"token"`
	// Expires is the token's own expiry, zero when the token does not say.
	Expires time.Time `json:"expires,omitzero"`
}

// endpoints is the part of the development stack's endpoints.json that the CLI reads.
type endpoints struct {
	APIURL    string `json:"api_url"`
	IssuerURL string `json:"issuer_url"`
}

func (c *command) loginCommand() *cobra.Command {
	var username, issuer string
	var tokenStdin, passwordStdin bool
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Keep a token for the commands that follow",
		Long: `Keep a token for the commands that follow: one read from standard input (--token-stdin), or, with a development
issuer, one fetched for a user name and a password (--username, --password-stdin or GPUAAS_PASSWORD).
Secrets are never taken from the command line, where other users of the machine could read them.`,
		Args: none,
	}
	cmd.Flags().StringVar(&username, "username", "", "user name, with a development issuer")
	cmd.Flags().StringVar(&issuer, "issuer", "", "the issuer's URL (else KEYCLOAK_ISSUER_URL or the development stack's)")
	cmd.Flags().BoolVar(&tokenStdin, "token-stdin", false, "read an access token from standard input")
	cmd.Flags().BoolVar(&passwordStdin, "password-stdin", false, "read the password from standard input")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var token string
		switch {
		case tokenStdin == (username != ""):
			return usage("login takes either --token-stdin or --username")
		case tokenStdin:
			read, err := io.ReadAll(io.LimitReader(c.In, 64<<10))
			if err != nil {
				return fmt.Errorf("read the token: %w", err)
			}
			token = strings.TrimSpace(string(read))
		default:
			password, err := c.password(passwordStdin)
			if err != nil {
				return err
			}
			if token, err = c.passwordGrant(cmd.Context(), c.issuer(issuer), username, password); err != nil {
				return err
			}
		}
		if token == "" {
			return usage("the token is empty")
		}
		kept := login{APIURL: c.resolveAPIURL(), Token: token, Expires: expiry(token)}
		me, err := c.identify(cmd.Context(), kept)
		if err != nil {
			return err
		}
		if err := c.keep(kept); err != nil {
			return err
		}
		fmt.Fprintf(c.Err, "signed in as %s at %s\n", printable(me.User.Username), kept.APIURL)
		return nil
	}
	return cmd
}

func (c *command) logoutCommand() *cobra.Command {
	return &cobra.Command{
		Use: "logout", Short: "Forget the kept token", Args: none,
		RunE: func(*cobra.Command, []string) error {
			path, err := c.loginPath()
			if err != nil {
				return err
			}
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("forget the login: %w", err)
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
	if issuer == "" {
		return "", usage("no issuer is known: give --issuer or KEYCLOAK_ISSUER_URL")
	}
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

func (c *command) loginPath() (string, error) {
	if path := c.Environment("GPUAAS_CONFIG"); path != "" {
		return path, nil
	}
	directory, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("no place to keep the login: %w; set GPUAAS_CONFIG", err)
	}
	return filepath.Join(directory, "gpuaas", "login.json"), nil
}

func (c *command) keep(kept login) error {
	path, err := c.loginPath()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keep the login: %w", err)
	}
	text, err := json.Marshal(kept)
	if err != nil {
		return fmt.Errorf("keep the login: %w", err)
	}
	// Write beside and rename, so that a crash leaves the old login or the new one.
	fresh := path + ".new"
	if err := os.WriteFile(fresh, text, 0o600); err != nil {
		return fmt.Errorf("keep the login: %w", err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return fmt.Errorf("keep the login: %w", err)
	}
	return nil
}

func (c *command) kept() login {
	var kept login
	if path, err := c.loginPath(); err == nil {
		if text, err := os.ReadFile(path); err == nil {
			_ = json.Unmarshal(text, &kept) // a broken file is as good as none: the call that follows says so
		}
	}
	return kept
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

// resolveAPIURL takes the first of: the flag, the environment, the login, the development stack.
func (c *command) resolveAPIURL() string {
	for _, candidate := range []string{c.apiURL, c.Environment("GPUAAS_API_URL"), c.kept().APIURL, c.developmentEndpoints().APIURL} {
		if candidate != "" {
			return strings.TrimRight(candidate, "/")
		}
	}
	return "http://localhost:8081"
}

func (c *command) issuer(flag string) string {
	for _, candidate := range []string{flag, c.Environment("KEYCLOAK_ISSUER_URL"), c.developmentEndpoints().IssuerURL} {
		if candidate != "" {
			return strings.TrimRight(candidate, "/")
		}
	}
	return ""
}

// identify asks the platform who a token belongs to, which also proves the token.
func (c *command) identify(ctx context.Context, as login) (client.Me, error) {
	var me client.Me
	api, err := client.Connect(as.APIURL, client.StaticToken(as.Token), httpClient)
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
