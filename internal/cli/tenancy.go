package cli

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

// listing is a command that shows every item of a list.
func listing[T any](c *command, short string, header []string, row func(T) []string,
	fetch func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error)) *cobra.Command {
	return &cobra.Command{Use: "list", Short: short, Args: none, RunE: func(cmd *cobra.Command, _ []string) error {
		api, err := c.api()
		if err != nil {
			return err
		}
		items, body, err := all[T](cmd.Context(), 0, func(ctx context.Context, size int64, cursor *string) (*http.Response, error) {
			return fetch(ctx, api, &size, cursor)
		})
		if err != nil {
			return err
		}
		return c.show(body, func() table {
			shown := table{header: header}
			for _, item := range items {
				shown.rows = append(shown.rows, row(item))
			}
			return shown
		})
	}}
}

// asking is a command that makes one request and shows its answer.
func asking[T any](c *command, use, short string, arguments cobra.PositionalArgs, shown func(T) table,
	ask func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error)) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: arguments, RunE: func(cmd *cobra.Command, arguments []string) error {
		api, err := c.api()
		if err != nil {
			return err
		}
		var answer T
		body, err := decode(&answer)(ask(cmd.Context(), api, arguments))
		if err != nil {
			return err
		}
		if body == nil {
			fmt.Fprintln(c.Err, "done")
			return nil
		}
		return c.show(body, func() table { return shown(answer) })
	}}
}

// losing asks, before a command does anything, whether its first argument may lose what is said.
func (c *command) losing(loss string, cmd *cobra.Command) *cobra.Command {
	request := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		if err := c.confirm(fmt.Sprintf(loss, arguments[len(arguments)-1])); err != nil {
			return err
		}
		return request(cmd, arguments)
	}
	return cmd
}

// listingOf is a listing of what its arguments name.
func (c *command) listingOf(use string, arguments cobra.PositionalArgs, of func(arguments []string) *cobra.Command) *cobra.Command {
	return &cobra.Command{Use: use, Short: of(make([]string, 3)).Short, Args: arguments, RunE: func(cmd *cobra.Command, arguments []string) error {
		named := of(arguments)
		named.SetContext(cmd.Context())
		return named.RunE(named, nil)
	}}
}

// nothing is the table of an answer without a body.
func nothing(struct{}) table { return table{} }

func (c *command) tenantCommand() *cobra.Command {
	list := listing(c, "List the tenants you belong to", tenantHeader, tenantRow,
		func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
			return api.ListTenants(ctx, &client.ListTenantsParams{Limit: size, Cursor: cursor})
		})
	get := asking(c, "get TENANT", "Show a tenant", exact(1, "the tenant's id"), tenantTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			return api.GetTenant(ctx, arguments[0])
		})
	rename := asking(c, "rename TENANT NAME", "Give a tenant another name", exact(2, "the tenant's id and a name"), tenantTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			key := newKey()
			return api.UpdateTenant(ctx, arguments[0], &client.UpdateTenantParams{XIdempotencyKey: &key}, client.UpdateTenantRequest{Name: arguments[1]})
		})
	return group("tenant", "The tenants you belong to", append(c.closingCommands(), list, get, rename)...)
}

func tenantTable(t client.Tenant) table {
	return fields("tenant", t.ID, "name", t.Name, "kind", string(t.Kind), "organisation", text(t.OrgID), "status", string(t.Status),
		"since", optionalInstant(t.StatusAt), "reason", text(t.StatusReason), "your role", text(t.Role), "created", instant(t.CreatedAt))
}

var tenantHeader = []string{"TENANT", "NAME", "KIND", "STATUS", "YOUR ROLE"}

func tenantRow(t client.Tenant) []string {
	role := ""
	if t.Role != nil {
		role = string(*t.Role)
	}
	return []string{t.ID, t.Name, string(t.Kind), string(t.Status), role}
}

func (c *command) projectCommand() *cobra.Command {
	var tenant string
	var archived bool
	shown := func(p client.Project) table {
		return fields("project", p.ID, "name", p.Name, "tenant", p.TenantID, "default", fmt.Sprint(p.IsDefault), "archived", optionalInstant(p.ArchivedAt))
	}
	list := listing(c, "List a tenant's projects", []string{"PROJECT", "NAME", "DEFAULT", "CREATED", "ARCHIVED"},
		func(p client.Project) []string {
			return []string{p.ID, p.Name, fmt.Sprint(p.IsDefault), instant(p.CreatedAt), optionalInstant(p.ArchivedAt)}
		},
		func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
			in, err := c.tenantOf(tenant)
			if err != nil {
				return nil, err
			}
			return api.ListProjects(ctx, &client.ListProjectsParams{TenantID: in, IncludeArchived: optional(archived), Limit: size, Cursor: cursor})
		})
	list.Flags().BoolVar(&archived, "archived", false, "also those that were archived")
	create := asking(c, "create NAME", "Make a project", exact(1, "the project's name"), shown,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			in, err := c.tenantOf(tenant)
			if err != nil {
				return nil, err
			}
			key := newKey()
			return api.CreateProject(ctx, &client.CreateProjectParams{XIdempotencyKey: &key}, client.CreateProjectRequest{Name: arguments[0], TenantID: in})
		})
	get := asking(c, "get PROJECT", "Show a project", exact(1, "the project's id"), shown,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			return api.GetProject(ctx, arguments[0])
		})
	rename := asking(c, "rename PROJECT NAME", "Give a project another name", exact(2, "the project's id and a name"), shown,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			key := newKey()
			return api.UpdateProject(ctx, arguments[0], &client.UpdateProjectParams{XIdempotencyKey: &key}, client.UpdateProjectRequest{Name: arguments[1]})
		})
	archive := c.losing("Archiving %s cannot be undone: what runs in it goes on, and nothing new begins there ever again.",
		asking(c, "archive PROJECT", "Let nothing new begin in a project", exact(1, "the project's id"), shown,
			func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
				key := newKey()
				return api.ArchiveProject(ctx, arguments[0], &client.ArchiveProjectParams{XIdempotencyKey: &key})
			}))
	for _, cmd := range []*cobra.Command{list, create} {
		cmd.Flags().StringVar(&tenant, "tenant", "", "the tenant's id (default: the context's, or your own)")
	}
	return group("project", "The folders of a tenant", list, get, create, rename, archive, c.projectMemberCommand(), c.projectBudgetCommand())
}

// tenantOf is the tenant that a flag names, or the context.
func (c *command) tenantOf(flag string) (*string, error) {
	tenant, _, err := c.place(flag, "")
	return tenant, err
}

func (c *command) projectMemberCommand() *cobra.Command {
	list := c.listingOf("list PROJECT", exact(1, "the project's id"), func(arguments []string) *cobra.Command {
		return listing(c, "List who has a role in a project", []string{"USER", "NAME", "ROLE", "SINCE"},
			func(m client.ProjectMember) []string {
				return []string{m.UserID, m.Username, string(m.Role), instant(m.CreatedAt)}
			},
			func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
				return api.ListProjectMembers(ctx, arguments[0], &client.ListProjectMembersParams{Limit: size, Cursor: cursor})
			})
	})
	set := asking(c, "set PROJECT USER ROLE", "Give somebody a role in a project", exact(3, "the project's id, the user's id and the role"),
		func(m client.ProjectMember) table {
			return fields("user", m.UserID, "name", m.Username, "role", string(m.Role))
		},
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			key := newKey()
			return api.PutProjectMember(ctx, arguments[0], arguments[1], &client.PutProjectMemberParams{XIdempotencyKey: &key},
				client.PutProjectMemberRequest{Role: client.PutProjectMemberRequestRole(arguments[2])})
		})
	remove := c.losing("Removing %s takes every right in the project from them, at once.",
		asking(c, "remove PROJECT USER", "Take somebody's role in a project", exact(2, "the project's and the user's id"), nothing,
			func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
				key := newKey()
				return api.RemoveProjectMember(ctx, arguments[0], arguments[1], &client.RemoveProjectMemberParams{XIdempotencyKey: &key})
			}))
	return group("member", "Who has a role in a project", list, set, remove)
}

func memberTable(m client.Member) table {
	return fields("user", m.UserID, "name", m.Username, "role", string(m.Role), "came by", string(m.Source))
}

func (c *command) memberCommand() *cobra.Command {
	list := c.listingOf("list TENANT", exact(1, "the tenant's id"), func(arguments []string) *cobra.Command {
		return listing(c, "List who belongs to a tenant", []string{"USER", "NAME", "ROLE", "CAME BY"},
			func(m client.Member) []string {
				return []string{m.UserID, m.Username, string(m.Role), string(m.Source)}
			},
			func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
				return api.ListTenantMembers(ctx, arguments[0], &client.ListTenantMembersParams{Limit: size, Cursor: cursor})
			})
	})
	role := asking(c, "set-role TENANT USER ROLE", "Give a member another role", exact(3, "the tenant's id, the user's id and the role"), memberTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			key := newKey()
			return api.UpdateTenantMember(ctx, arguments[0], arguments[1], &client.UpdateTenantMemberParams{XIdempotencyKey: &key},
				client.UpdateMemberRequest{Role: client.UpdateMemberRequestRole(arguments[2])})
		})
	remove := c.losing("Removing %s takes every right in the tenant from them, at once; coming back takes an invitation.",
		asking(c, "remove TENANT USER", "Let somebody belong to a tenant no more; you may name yourself", exact(2, "the tenant's and the user's id"), nothing,
			func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
				key := newKey()
				return api.RemoveTenantMember(ctx, arguments[0], arguments[1], &client.RemoveTenantMemberParams{XIdempotencyKey: &key})
			}))
	return group("member", "Who belongs to a tenant, in which role", list, role, remove)
}

// invitationPrefix begins an invitation's id, and no token.
const invitationPrefix = "inv_"

func (c *command) invitationCommand() *cobra.Command {
	var tenant, project, role, email string
	key := newKey()
	shown := func(i client.Invitation) table {
		return fields("invitation", i.ID, "tenant", i.TenantID, "project", text(i.ProjectID), "role", string(i.Role), "status", string(i.Status), "expires", instant(i.ExpiresAt))
	}
	list := listing(c, "List a tenant's invitations", []string{"INVITATION", "ROLE", "STATUS", "FOR", "EXPIRES"},
		func(i client.Invitation) []string {
			return []string{i.ID, string(i.Role), string(i.Status), text(i.Email), instant(i.ExpiresAt)}
		},
		func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
			in, err := c.tenantOf(tenant)
			if err != nil {
				return nil, err
			}
			return api.ListInvitations(ctx, &client.ListInvitationsParams{TenantID: in, Limit: size, Cursor: cursor})
		})
	create := asking(c, "create", "Offer somebody a role; the token is shown once", none,
		func(i client.CreatedInvitation) table { return table{rows: [][]string{{i.Token}}} },
		func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
			in, _, err := c.place(tenant, project)
			if err != nil {
				return nil, err
			}
			return api.CreateInvitation(ctx, &client.CreateInvitationParams{XIdempotencyKey: &key}, client.CreateInvitationRequest{
				TenantID: in, ProjectID: optional(project), Role: client.CreateInvitationRequestRole(role), Email: optional(email),
			})
		})
	create.Flags().StringVar(&project, "project", "", "into this project alone")
	create.Flags().StringVar(&role, "role", "member", "owner, admin, member, viewer or billing")
	create.Flags().StringVar(&email, "email", "", "whom it is meant for: they are written to, and may accept it by signing in with this address")
	for _, cmd := range []*cobra.Command{list, create} {
		cmd.Flags().StringVar(&tenant, "tenant", "", "the tenant's id (default: the context's, or your own)")
	}
	revoke := c.losing("Revoking %s makes its token worthless for whoever has it, for ever.",
		asking(c, "revoke INVITATION", "Make an invitation worthless", exact(1, "the invitation's id"), shown,
			func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
				return api.RevokeInvitation(ctx, arguments[0], &client.RevokeInvitationParams{XIdempotencyKey: &key})
			}))
	mine := listing(c, "List the invitations that wait for your address", []string{"INVITATION", "TENANT", "PROJECT", "ROLE", "FROM", "EXPIRES"},
		func(i client.MyInvitation) []string {
			return []string{i.ID, i.TenantName, text(i.ProjectName), string(i.Role), i.Inviter, instant(i.ExpiresAt)}
		},
		func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
			return api.ListMyInvitations(ctx, &client.ListMyInvitationsParams{Limit: size, Cursor: cursor})
		})
	mine.Use = "mine"
	accept := asking(c, "accept INVITATION|TOKEN", "Accept an invitation that waits for your address, or by its token; - reads one from standard input",
		exact(1, "the invitation's id or token"), shown, func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			token := arguments[0]
			if strings.HasPrefix(token, invitationPrefix) {
				return api.AcceptMyInvitation(ctx, token, &client.AcceptMyInvitationParams{XIdempotencyKey: &key})
			}
			if token == "-" {
				read, err := c.secret("token", 4<<10)
				if err != nil {
					return nil, err
				}
				token = read
			}
			return api.AcceptInvitation(ctx, &client.AcceptInvitationParams{XIdempotencyKey: &key}, client.AcceptInvitationRequest{Token: token})
		})
	return group("invitation", "Offers of a role", list, create, mine, revoke, accept)
}
