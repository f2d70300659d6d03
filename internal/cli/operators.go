package cli

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

// operating is a command of operators that changes something for a reason, which is audited; loss, if any, is said and asked about first.
func operating[T any](c *command, use, short string, arguments cobra.PositionalArgs, loss string, shown func(T) table,
	ask func(ctx context.Context, api client.ClientInterface, arguments []string, reason string) (*http.Response, error)) *cobra.Command {
	var reason string
	cmd := asking(c, use, short, arguments, shown, func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
		return ask(ctx, api, arguments, reason)
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is audited")
	request := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		if reason == "" {
			return usage("--reason is needed; it is audited")
		}
		if loss != "" {
			if err := c.confirm(fmt.Sprintf(loss, arguments[0])); err != nil {
				return err
			}
		}
		return request(cmd, arguments)
	}
	return cmd
}

func userTable(u client.User) table {
	return fields("user", u.ID, "name", u.Username, "kind", string(u.Kind), "tenant", u.TenantID, "status", string(u.Status),
		"since", optionalInstant(u.StatusAt), "reason", text(u.StatusReason), "created", instant(u.CreatedAt))
}

func (c *command) userCommand() *cobra.Command {
	var name, tenant, status string
	list := listing(c, "List or find users of all tenants", []string{"USER", "NAME", "KIND", "TENANT", "STATUS", "CREATED"},
		func(u client.User) []string {
			return []string{u.ID, u.Username, string(u.Kind), u.TenantID, string(u.Status), instant(u.CreatedAt)}
		},
		func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
			return api.ListUsers(ctx, &client.ListUsersParams{Username: optional(name), TenantID: optional(tenant),
				Status: optional(client.ListUsersParamsStatus(status)), Limit: size, Cursor: cursor})
		})
	list.Flags().StringVar(&name, "username", "", "only the user of this name")
	list.Flags().StringVar(&tenant, "tenant", "", "only those of this tenant")
	list.Flags().StringVar(&status, "status", "", "only those in this status")
	get := asking(c, "get USER", "Show any user", exact(1, "the user's id"), userTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			return api.GetUser(ctx, arguments[0])
		})
	approve := operating(c, "approve USER", "Let somebody in whose sign-up waits", exact(1, "the user's id"), "", userTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string, reason string) (*http.Response, error) {
			key := newKey()
			return api.ApproveUser(ctx, arguments[0], &client.ApproveUserParams{XIdempotencyKey: &key}, client.OperateUserRequest{Reason: reason})
		})
	suspend := operating(c, "suspend USER", "Refuse a user everything, at once", exact(1, "the user's id"),
		"Suspending %s ends their terminals and SSH sessions and everything that runs there: what is not on disk is lost. Their nodes stay untouched until the notice has passed, and are wiped then.", userTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string, reason string) (*http.Response, error) {
			key := newKey()
			return api.SuspendUser(ctx, arguments[0], &client.SuspendUserParams{XIdempotencyKey: &key}, client.OperateUserRequest{Reason: reason})
		})
	restore := operating(c, "restore USER", "End a suspension", exact(1, "the user's id"), "", userTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string, reason string) (*http.Response, error) {
			key := newKey()
			return api.RestoreUser(ctx, arguments[0], &client.RestoreUserParams{XIdempotencyKey: &key}, client.OperateUserRequest{Reason: reason})
		})
	return group("user", "Users of all tenants", list, get, c.userCreate(), approve, suspend, restore)
}

func (c *command) userCreate() *cobra.Command {
	var issuer, subject, organisation string
	cmd := operating(c, "create USERNAME", "Register a user before their first sign-in", exact(1, "the user name"), "", userTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string, reason string) (*http.Response, error) {
			if issuer == "" {
				return nil, usage("--issuer is needed: whose tokens name the user")
			}
			key := newKey()
			return api.CreateUser(ctx, &client.CreateUserParams{XIdempotencyKey: &key}, client.CreateUserRequest{
				Username: arguments[0], Issuer: issuer, Subject: optional(subject), OrgID: optional(organisation), Reason: reason,
			})
		})
	cmd.Flags().StringVar(&issuer, "issuer", "", "the identity provider's issuer, as it stands in its tokens")
	cmd.Flags().StringVar(&subject, "subject", "", "what its tokens call them (else whoever signs in first under the name)")
	cmd.Flags().StringVar(&organisation, "org-id", "", "the organisation that its tokens name (else a personal tenant is made)")
	return cmd
}

func (c *command) anyTenantCommand() *cobra.Command {
	var name, organisation, status string
	list := listing(c, "List or find tenants", []string{"TENANT", "NAME", "KIND", "ORGANISATION", "STATUS", "CREATED"},
		func(t client.Tenant) []string {
			return []string{t.ID, t.Name, string(t.Kind), text(t.OrgID), string(t.Status), instant(t.CreatedAt)}
		},
		func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
			return api.AdminListTenants(ctx, &client.AdminListTenantsParams{Name: optional(name), OrgID: optional(organisation),
				Status: optional(client.AdminListTenantsParamsStatus(status)), Limit: size, Cursor: cursor})
		})
	list.Flags().StringVar(&name, "name", "", "only the tenant of this name")
	list.Flags().StringVar(&organisation, "org-id", "", "only the tenant of this organisation")
	list.Flags().StringVar(&status, "status", "", "only those in this status")
	get := asking(c, "get TENANT", "Show any tenant", exact(1, "the tenant's id"), tenantTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			return api.AdminGetTenant(ctx, arguments[0])
		})
	create := operating(c, "create ORGANISATION NAME", "Make an organisation's tenant before its first sign-in", exact(2, "the organisation's id and a name"), "", tenantTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string, reason string) (*http.Response, error) {
			key := newKey()
			return api.CreateTenant(ctx, &client.CreateTenantParams{XIdempotencyKey: &key},
				client.CreateTenantRequest{OrgID: arguments[0], Name: arguments[1], Reason: reason})
		})
	owner := operating(c, "set-owner TENANT USER", "Give a tenant another owner", exact(2, "the tenant's and the user's id"), "", memberTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string, reason string) (*http.Response, error) {
			key := newKey()
			return api.SetTenantOwner(ctx, arguments[0], &client.SetTenantOwnerParams{XIdempotencyKey: &key},
				client.SetTenantOwnerRequest{UserID: arguments[1], Reason: reason})
		})
	suspend := operating(c, "suspend TENANT", "Cut a tenant's access, at once", exact(1, "the tenant's id"),
		"Suspending %s ends the terminals and SSH sessions of all its members and everything that runs there: what is not on disk is lost. Its nodes stay untouched until the notice has passed, and are wiped then.", tenantTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string, reason string) (*http.Response, error) {
			key := newKey()
			return api.SuspendTenant(ctx, arguments[0], &client.SuspendTenantParams{XIdempotencyKey: &key}, client.OperateTenantRequest{Reason: reason})
		})
	restore := operating(c, "restore TENANT", "End a suspension", exact(1, "the tenant's id"), "", tenantTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string, reason string) (*http.Response, error) {
			key := newKey()
			return api.RestoreTenant(ctx, arguments[0], &client.RestoreTenantParams{XIdempotencyKey: &key}, client.OperateTenantRequest{Reason: reason})
		})
	return group("tenant", "All tenants", append(c.anyClosingCommands(), list, get, create, owner, suspend, restore)...)
}

func (c *command) platformAdminCommand() *cobra.Command {
	shown := func(a client.PlatformAdmin) table {
		return fields("user", a.UserID, "name", a.Username, "status", string(a.Status), "source", string(a.Source), "granted by", a.GrantedBy, "since", instant(a.CreatedAt))
	}
	list := listing(c, "List the platform's administrators", []string{"USER", "NAME", "STATUS", "SOURCE", "GRANTED BY", "SINCE"},
		func(a client.PlatformAdmin) []string {
			return []string{a.UserID, a.Username, string(a.Status), string(a.Source), a.GrantedBy, instant(a.CreatedAt)}
		},
		func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
			return api.ListPlatformAdmins(ctx, &client.ListPlatformAdminsParams{Limit: size, Cursor: cursor})
		})
	appoint := operating(c, "appoint USER", "Make a user an administrator of the platform", exact(1, "the user's id"), "", shown,
		func(ctx context.Context, api client.ClientInterface, arguments []string, reason string) (*http.Response, error) {
			key := newKey()
			return api.AppointPlatformAdmin(ctx, &client.AppointPlatformAdminParams{XIdempotencyKey: &key},
				client.AppointPlatformAdminRequest{UserID: arguments[0], Reason: reason})
		})
	dismiss := operating(c, "dismiss USER", "Let a user be an administrator no more", exact(1, "the user's id"),
		"Dismissing %s takes every right of an operator from them, at once.", nothing,
		func(ctx context.Context, api client.ClientInterface, arguments []string, reason string) (*http.Response, error) {
			key := newKey()
			return api.DismissPlatformAdmin(ctx, arguments[0], &client.DismissPlatformAdminParams{XIdempotencyKey: &key}, client.OperateUserRequest{Reason: reason})
		})
	return group("platform-admin", "Who operates the platform", list, appoint, dismiss)
}

func (c *command) accountCommand() *cobra.Command {
	var name, tenant string
	list := listing(c, "List or find billing accounts", []string{"ACCOUNT", "TENANT", "CURRENCY"},
		func(a client.Account) []string { return []string{a.ID, a.TenantID, a.Currency} },
		func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
			return api.ListAccounts(ctx, &client.ListAccountsParams{Username: optional(name), TenantID: optional(tenant), Limit: size, Cursor: cursor})
		})
	list.Flags().StringVar(&name, "username", "", "only the account of this user's tenant")
	list.Flags().StringVar(&tenant, "tenant", "", "only that of this tenant")
	balance := asking(c, "balance ACCOUNT", "Show what any account has left", exact(1, "the account's id"), balanceTable,
		func(ctx context.Context, api client.ClientInterface, arguments []string) (*http.Response, error) {
			return api.GetAccountBalance(ctx, arguments[0])
		})
	return group("account", "Billing accounts of all tenants", list, balance)
}

// pricesCommand lists the prices of one SKU, and overrideHistoryCommand the values of one policy of one tenant.
func (c *command) pricesCommand() *cobra.Command {
	return c.listingOf("prices SKU", exact(1, "the SKU"), func(arguments []string) *cobra.Command {
		return listing(c, "List every list price that a SKU had", []string{"PRICE", "PRICE/HOUR", "VALID FROM", "CREATED"},
			func(p client.SKUPrice) []string {
				return []string{p.ID, amount(p.RateMicrosPerHour, p.Currency), instant(p.ValidFrom), instant(p.CreatedAt)}
			},
			func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
				return api.ListSKUPrices(ctx, arguments[0], &client.ListSKUPricesParams{Limit: size, Cursor: cursor})
			})
	})
}

func (c *command) overrideHistoryCommand() *cobra.Command {
	return c.listingOf("history TENANT KEY", exact(2, "the tenant's id and the key"), func(arguments []string) *cobra.Command {
		return listing(c, "List every value a policy was set to for a tenant, the newest first", policyVersionHeader, policyVersionRow,
			func(ctx context.Context, api client.ClientInterface, size *int64, cursor *string) (*http.Response, error) {
				return api.ListTenantPolicyVersions(ctx, arguments[0], arguments[1], &client.ListTenantPolicyVersionsParams{Limit: size, Cursor: cursor})
			})
	})
}
