package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// firstContext is what the context is called that a login makes while nobody named one.
const firstContext = "default"

// savedContext is one platform and who is signed in there, by a name of its user's choice.
type savedContext struct {
	APIURL string `json:"api_url,omitempty"`
	// Issuer and ClientID are where and as whom `gpuaas login` signs in.
	Issuer   string `json:"issuer,omitempty"`
	ClientID string `json:"client_id,omitempty"`
	// Tenant and Project are what commands mean that name none.
	Tenant      string      `json:"tenant,omitempty"`
	Project     string      `json:"project,omitempty"`
	Credentials credentials `json:"credentials,omitzero"`
}

// credentials are the tokens of a login.
type credentials struct {
	AccessToken string `json:"access_token,omitempty"`
	// RefreshToken is empty where the issuer gave none: then a new login is needed when the access token has expired.
	RefreshToken string `json:"refresh_token,omitempty"`
	// Expires is by this machine's clock; zero when the token does not say.
	Expires time.Time `json:"expires,omitzero"`
}

// configuration is the file of all contexts.
type configuration struct {
	Current  string                  `json:"current"`
	Contexts map[string]savedContext `json:"contexts"`
}

// formerLogin is the file that held one login before there were contexts.
type formerLogin struct {
	APIURL  string    `json:"api_url"`
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

// contextsPath is GPUAAS_CONFIG, or contexts.json in the user's configuration directory (XDG_CONFIG_HOME on Linux).
func (c *command) contextsPath() (string, error) {
	if path := c.Environment("GPUAAS_CONFIG"); path != "" {
		return path, nil
	}
	directory, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("no place to keep the login: %w; set GPUAAS_CONFIG", err)
	}
	return filepath.Join(directory, "gpuaas", "contexts.json"), nil
}

// formerPath is where a login lay before there were contexts.
func formerPath(contexts string) string { return filepath.Join(filepath.Dir(contexts), "login.json") }

// configuration reads the contexts; no file is no context. A login from before there were contexts is the first one.
func (c *command) configuration() (configuration, error) {
	path, err := c.contextsPath()
	if err != nil {
		return configuration{}, err
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = os.ReadFile(formerPath(path))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return configuration{Contexts: map[string]savedContext{}}, nil
	}
	if err != nil {
		return configuration{}, fmt.Errorf("read the contexts: %w", err)
	}
	var kept configuration
	if err := json.Unmarshal(text, &kept); err != nil {
		return configuration{}, fmt.Errorf("%s is broken (%w): mend it, or remove it and sign in again", path, err)
	}
	if kept.Contexts == nil {
		kept.Contexts = map[string]savedContext{}
		var former formerLogin
		if json.Unmarshal(text, &former) == nil && former.Token != "" {
			kept.Current = firstContext
			kept.Contexts[firstContext] = savedContext{APIURL: former.APIURL, Credentials: credentials{AccessToken: former.Token, Expires: former.Expires}}
		}
	}
	return kept, nil
}

// inForce is the context that commands use, by name: --context, GPUAAS_CONTEXT, or the current one. A name that nobody saved
// is an error; without any name there is an empty context. Where the environment or a flag says everything, no file is looked
// at, so that a program without a home can be a caller.
func (c *command) inForce() (string, savedContext, error) {
	if c.namedContext() == "" && c.Environment("GPUAAS_TOKEN") != "" && first(c.apiURL, c.Environment("GPUAAS_API_URL")) != "" {
		return "", savedContext{}, nil
	}
	kept, err := c.configuration()
	if err != nil {
		return "", savedContext{}, err
	}
	named := c.namedContext()
	if named == "" {
		return kept.Current, kept.Contexts[kept.Current], nil
	}
	found, known := kept.Contexts[named]
	if !known {
		return "", savedContext{}, usage("there is no context %q; gpuaas context list shows those there are", named)
	}
	return named, found, nil
}

func (c *command) namedContext() string {
	if c.context != "" {
		return c.context
	}
	return c.Environment("GPUAAS_CONTEXT")
}

// change reads, changes and writes the contexts while no other invocation does. The file is written only if change asks for it by
// answering no error.
func (c *command) change(ctx context.Context, change func(*configuration) error) error {
	path, err := c.contextsPath()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keep the contexts: %w", err)
	}
	unlock, err := lock(ctx, path+".lock")
	if err != nil {
		return fmt.Errorf("keep the contexts: %w", err)
	}
	defer unlock()
	kept, err := c.configuration()
	if err != nil {
		return err
	}
	if err := change(&kept); err != nil {
		return err
	}
	if err := write(path, kept); err != nil {
		return fmt.Errorf("keep the contexts: %w", err)
	}
	if c.Environment("GPUAAS_CONFIG") == "" {
		_ = os.Remove(formerPath(path)) // its login is in the new file by now, and a secret is kept once
	}
	return nil
}

// lockRetry is how often a lock that another invocation holds is tried again.
const lockRetry = 50 * time.Millisecond

// lock waits until no other process holds the file, which ends with its process at the latest.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			break
		}
		if err = pause(ctx, lockRetry); err != nil {
			break
		}
	}
	_ = file.Close()
	return nil, err
}

// write puts the file beside and renames it, so that a crash leaves the old contexts or the new ones.
func write(path string, kept configuration) error {
	text, err := json.MarshalIndent(kept, "", "  ")
	if err != nil {
		return err
	}
	fresh, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = fresh.Write(append(text, '\n'))
	if closed := fresh.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(fresh.Name(), path)
	}
	if err != nil {
		_ = os.Remove(fresh.Name())
	}
	return err
}

// pause waits, or answers why the context ended before.
func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// place is the tenant and the project that a command means: what its flags name, else what the context says. A flag for
// one of them leaves the context's other one out, which may be of another tenant; a token from the environment leaves out both.
func (c *command) place(tenant, project string) (tenantID, projectID *string, err error) {
	if tenant != "" || project != "" {
		return optional(tenant), optional(project), nil
	}
	if c.Environment("GPUAAS_TOKEN") != "" && c.namedContext() == "" {
		return nil, nil, nil
	}
	_, used, err := c.inForce()
	if err != nil {
		return nil, nil, err
	}
	return optional(used.Tenant), optional(used.Project), nil
}
