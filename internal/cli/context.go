package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func (c *command) contextCommand() *cobra.Command {
	return group("context", "Platforms and logins by name", c.contextList(), c.contextShow(), c.contextUse(), c.contextSet(), c.contextDelete())
}

// shownContext is a context without its secrets.
type shownContext struct {
	Name     string    `json:"name"`
	Current  bool      `json:"current"`
	APIURL   string    `json:"api_url,omitempty"`
	Issuer   string    `json:"issuer,omitempty"`
	ClientID string    `json:"client_id,omitempty"`
	Tenant   string    `json:"tenant_id,omitempty"`
	Project  string    `json:"project_id,omitempty"`
	SignedIn bool      `json:"signed_in"`
	Renews   bool      `json:"renews"`
	Expires  time.Time `json:"expires_at,omitzero"`
}

func shownAs(name string, current bool, kept savedContext) shownContext {
	return shownContext{
		Name: name, Current: current, APIURL: kept.APIURL, Issuer: kept.Issuer, ClientID: kept.ClientID, Tenant: kept.Tenant, Project: kept.Project,
		SignedIn: kept.Credentials.AccessToken != "", Renews: kept.Credentials.RefreshToken != "", Expires: kept.Credentials.Expires,
	}
}

func (c *command) contextList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List contexts", Args: none, RunE: func(*cobra.Command, []string) error {
		kept, err := c.configuration()
		if err != nil {
			return err
		}
		items := []shownContext{}
		for _, name := range slices.Sorted(maps.Keys(kept.Contexts)) {
			items = append(items, shownAs(name, name == kept.Current, kept.Contexts[name]))
		}
		body, err := json.Marshal(map[string]any{"items": items})
		if err != nil {
			return err
		}
		return c.show(body, func() table {
			shown := table{header: []string{"CURRENT", "CONTEXT", "API", "TENANT", "PROJECT", "SIGNED IN"}}
			for _, item := range items {
				shown.rows = append(shown.rows, []string{mark(item.Current), item.Name, item.APIURL, item.Tenant, item.Project, fmt.Sprint(item.SignedIn)})
			}
			return shown
		})
	}}
}

func mark(current bool) string {
	if current {
		return "*"
	}
	return ""
}

func (c *command) contextShow() *cobra.Command {
	return &cobra.Command{Use: "show", Short: "Show the context in force, without its secrets", Args: none, RunE: func(*cobra.Command, []string) error {
		name, used, err := c.inForce()
		if err != nil {
			return err
		}
		if name == "" {
			return usage("there is no context yet: gpuaas login or gpuaas context set NAME makes one")
		}
		return c.showContext(shownAs(name, c.namedContext() == "", used))
	}}
}

func (c *command) showContext(item shownContext) error {
	body, err := json.Marshal(item)
	if err != nil {
		return err
	}
	return c.show(body, func() table {
		return fields("context", item.Name, "api", item.APIURL, "issuer", item.Issuer, "client id", item.ClientID, "tenant", item.Tenant,
			"project", item.Project, "signed in", fmt.Sprint(item.SignedIn), "renews itself", fmt.Sprint(item.Renews), "token expires", instant(item.Expires))
	})
}

func (c *command) contextUse() *cobra.Command {
	return &cobra.Command{Use: "use CONTEXT", Short: "Let a context be the current one", Args: exact(1, "the context's name"), RunE: func(cmd *cobra.Command, arguments []string) error {
		err := c.change(cmd.Context(), func(kept *configuration) error {
			if _, known := kept.Contexts[arguments[0]]; !known {
				return usage("there is no context %q; gpuaas context list shows those there are", arguments[0])
			}
			kept.Current = arguments[0]
			return nil
		})
		if err == nil {
			fmt.Fprintf(c.Err, "%s is the current context\n", printable(arguments[0]))
		}
		return err
	}}
}

func (c *command) contextSet() *cobra.Command {
	var server, issuer, clientID, tenant, project string
	cmd := &cobra.Command{
		Use: "set CONTEXT", Short: "Make a context, or change what its flags name", Args: exact(1, "the context's name"),
		Long: "Make a context, or change what its flags name. Another server or issuer ends the context's login, whose token was not meant for it.",
	}
	cmd.Flags().StringVar(&server, "server", "", "the API's address")
	cmd.Flags().StringVar(&issuer, "issuer", "", "the OIDC issuer's URL, where it is not the one that the platform tells")
	cmd.Flags().StringVar(&clientID, "client-id", "", "the OAuth client to sign in as")
	cmd.Flags().StringVar(&tenant, "tenant", "", "the tenant that commands mean which name none")
	cmd.Flags().StringVar(&project, "project", "", "the project that commands mean which name none")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		name := strings.TrimSpace(arguments[0])
		if name == "" || name != printable(name) {
			return usage("%q is no name for a context", arguments[0])
		}
		var changed configuration
		err := c.change(cmd.Context(), func(kept *configuration) error {
			item := kept.Contexts[name]
			set := func(flag string, field *string, value string) bool {
				if !cmd.Flags().Changed(flag) || *field == value {
					return false
				}
				*field = value
				return true
			}
			moved := set("server", &item.APIURL, strings.TrimRight(server, "/"))
			moved = set("issuer", &item.Issuer, strings.TrimRight(issuer, "/")) || moved
			moved = set("client-id", &item.ClientID, clientID) || moved
			if moved {
				item.Credentials = credentials{}
			}
			set("tenant", &item.Tenant, tenant)
			set("project", &item.Project, project)
			kept.Contexts[name] = item
			if kept.Current == "" {
				kept.Current = name
			}
			changed = *kept
			return nil
		})
		if err != nil {
			return err
		}
		return c.showContext(shownAs(name, name == changed.Current, changed.Contexts[name]))
	}
	return cmd
}

func (c *command) contextDelete() *cobra.Command {
	return &cobra.Command{Use: "delete CONTEXT", Short: "Forget a context and its login", Args: exact(1, "the context's name"), RunE: func(cmd *cobra.Command, arguments []string) error {
		name := arguments[0]
		kept, err := c.configuration()
		if err != nil {
			return err
		}
		if _, known := kept.Contexts[name]; !known {
			return usage("there is no context %q; gpuaas context list shows those there are", name)
		}
		if err := c.confirm(fmt.Sprintf("Deleting the context %s forgets its addresses and its login; signing in again makes new ones.", printable(name))); err != nil {
			return err
		}
		err = c.change(cmd.Context(), func(kept *configuration) error {
			delete(kept.Contexts, name)
			if kept.Current == name {
				kept.Current = ""
			}
			return nil
		})
		if err == nil {
			fmt.Fprintf(c.Err, "forgotten\n")
		}
		return err
	}}
}
