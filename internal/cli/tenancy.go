package cli

import (
	"context"
	"fmt"
	"net/http"

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
		return c.show(body, func() table { return shown(answer) })
	}}
}

// given is a flag's value as an optional field: absent when the flag was left out.
func given(value string) *string {
	if value == "" {
		return nil
	}
	return &value
}

func (c *command) tenantCommand() *cobra.Command {
	return group("tenant", "The tenants you belong to", listing(c, "List the tenants you belong to", tenantHeader, tenantRow,
		func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
			return api.ListTenants(ctx, &client.ListTenantsParams{Limit: size, Cursor: cursor})
		}))
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
	key := newKey()
	shown := func(p client.Project) table {
		return fields("project", p.ID, "name", p.Name, "tenant", p.TenantID, "default", fmt.Sprint(p.IsDefault), "archived", optionalInstant(p.ArchivedAt))
	}
	list := listing(c, "List a tenant's projects", []string{"PROJECT", "NAME", "DEFAULT", "CREATED"},
		func(p client.Project) []string {
			return []string{p.ID, p.Name, fmt.Sprint(p.IsDefault), instant(p.CreatedAt)}
		},
		func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
			return api.ListProjects(ctx, &client.ListProjectsParams{TenantID: given(tenant), Limit: size, Cursor: cursor})
		})
	create := asking(c, "create NAME", "Make a project", exact(1, "the project's name"), shown,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			return api.CreateProject(ctx, &client.CreateProjectParams{XIdempotencyKey: &key}, client.CreateProjectRequest{Name: arguments[0], TenantID: given(tenant)})
		})
	archive := asking(c, "archive PROJECT", "Let nothing new begin in a project", exact(1, "the project's id"), shown,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			return api.ArchiveProject(ctx, arguments[0], &client.ArchiveProjectParams{XIdempotencyKey: &key})
		})
	for _, cmd := range []*cobra.Command{list, create} {
		cmd.Flags().StringVar(&tenant, "tenant", "", "the tenant's id (default: your own)")
	}
	return group("project", "The folders of a tenant", list, create, archive)
}

func (c *command) memberCommand() *cobra.Command {
	key := newKey()
	shown := func(m client.Member) table {
		return fields("user", m.UserID, "name", m.Username, "role", string(m.Role), "came by", string(m.Source))
	}
	list := &cobra.Command{Use: "list TENANT", Short: "List who belongs to a tenant", Args: exact(1, "the tenant's id")}
	list.RunE = func(cmd *cobra.Command, arguments []string) error {
		return listing(c, "", []string{"USER", "NAME", "ROLE", "CAME BY"},
			func(m client.Member) []string {
				return []string{m.UserID, m.Username, string(m.Role), string(m.Source)}
			},
			func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
				return api.ListTenantMembers(ctx, arguments[0], &client.ListTenantMembersParams{Limit: size, Cursor: cursor})
			}).RunE(cmd, nil)
	}
	role := asking(c, "set-role TENANT USER ROLE", "Give a member another role", exact(3, "the tenant's id, the user's id and the role"), shown,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			return api.UpdateTenantMember(ctx, arguments[0], arguments[1], &client.UpdateTenantMemberParams{XIdempotencyKey: &key},
				client.UpdateMemberRequest{Role: client.UpdateMemberRequestRole(arguments[2])})
		})
	return group("member", "Who belongs to a tenant, in which role", list, role)
}

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
			return api.ListInvitations(ctx, &client.ListInvitationsParams{TenantID: given(tenant), Limit: size, Cursor: cursor})
		})
	create := asking(c, "create", "Offer somebody a role; the token is shown once", none,
		func(i client.CreatedInvitation) table { return table{rows: [][]string{{i.Token}}} },
		func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
			return api.CreateInvitation(ctx, &client.CreateInvitationParams{XIdempotencyKey: &key}, client.CreateInvitationRequest{
				TenantID: given(tenant), ProjectID: given(project), Role: client.CreateInvitationRequestRole(role), Email: given(email),
			})
		})
	create.Flags().StringVar(&project, "project", "", "into this project alone")
	create.Flags().StringVar(&role, "role", "member", "owner, admin, member, viewer or billing")
	create.Flags().StringVar(&email, "email", "", "whom it is meant for; nothing is sent there")
	for _, cmd := range []*cobra.Command{list, create} {
		cmd.Flags().StringVar(&tenant, "tenant", "", "the tenant's id (default: your own)")
	}
	revoke := asking(c, "revoke INVITATION", "Make an invitation worthless", exact(1, "the invitation's id"), shown,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			return api.RevokeInvitation(ctx, arguments[0], &client.RevokeInvitationParams{XIdempotencyKey: &key})
		})
	accept := asking(c, "accept TOKEN", "Accept an invitation", exact(1, "the invitation's token"), shown,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			return api.AcceptInvitation(ctx, &client.AcceptInvitationParams{XIdempotencyKey: &key}, client.AcceptInvitationRequest{Token: arguments[0]})
		})
	return group("invitation", "Offers of a role", list, create, revoke, accept)
}
