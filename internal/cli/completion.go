package cli

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

// completionPatience is how long a shell is kept waiting for live names.
const completionPatience = 3 * time.Second

// mostCompletions is how many live names are offered: one page.
const mostCompletions int64 = 200

// completer offers values for the argument or flag that is being typed; before holds the arguments in front of it.
type completer func(ctx context.Context, c *command, before []string) []cobra.Completion

// nouns complete an argument by the word that stands for it in a command's usage.
var nouns = map[string]completer{
	"ALLOCATION": live(func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
		return api.ListAllocations(ctx, &client.ListAllocationsParams{Limit: optional(mostCompletions)})
	}, func(a client.Allocation) (string, string) {
		return a.ID, strings.TrimSpace(a.Name + " " + string(a.State))
	}),
	"SKU": live(func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
		return api.ListSkus(ctx, &client.ListSkusParams{Limit: optional(mostCompletions)})
	}, func(s client.SKU) (string, string) { return s.SKU, s.Name }),
	"PROJECT": live(func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
		return api.ListProjects(ctx, &client.ListProjectsParams{Limit: optional(mostCompletions)})
	}, func(p client.Project) (string, string) { return p.ID, p.Name }),
	"TENANT": live(func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
		return api.ListTenants(ctx, &client.ListTenantsParams{Limit: optional(mostCompletions)})
	}, func(t client.Tenant) (string, string) { return t.ID, t.Name }),
	"NODE": live(func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
		return api.ListNodes(ctx, &client.ListNodesParams{Limit: optional(mostCompletions)})
	}, func(n client.Node) (string, string) { return n.ID, n.Hostname + " " + string(n.State) }),
	"USER": users,
	"SERVICE-ACCOUNT": live(func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
		return api.ListServiceAccounts(ctx, &client.ListServiceAccountsParams{Limit: optional(mostCompletions)})
	}, func(a client.ServiceAccount) (string, string) { return a.ID, a.Name }),
	"SSH-KEY": live(func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
		return api.ListSSHKeys(ctx, &client.ListSSHKeysParams{Limit: optional(mostCompletions)})
	}, func(k client.SSHKey) (string, string) { return k.ID, k.Name }),
	"ACCESS-TOKEN": live(func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
		return api.ListTokens(ctx, &client.ListTokensParams{Limit: optional(mostCompletions)})
	}, func(t client.Token) (string, string) { return t.ID, t.Name }),
	"INVITATION": live(func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
		return api.ListInvitations(ctx, &client.ListInvitationsParams{Limit: optional(mostCompletions)})
	}, func(i client.Invitation) (string, string) { return i.ID, string(i.Role) + " " + string(i.Status) }),
	"KEY": live(func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
		return api.ListPolicies(ctx)
	}, func(p client.Policy) (string, string) { return p.Key, p.Meaning }),
	"ACCOUNT": live(func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
		return api.ListAccounts(ctx, &client.ListAccountsParams{Limit: optional(mostCompletions)})
	}, func(a client.Account) (string, string) { return a.ID, a.TenantID }),
	"LETTER": live(func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
		return api.ListDeadLetters(ctx, &client.ListDeadLettersParams{Limit: optional(mostCompletions)})
	}, func(l client.DeadLetter) (string, string) { return strconv.FormatInt(l.ID, 10), l.Subject }),
	"RECONCILIATION": live(func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
		return api.ListReconciliations(ctx, &client.ListReconciliationsParams{Limit: optional(mostCompletions)})
	}, func(r client.Reconciliation) (string, string) { return r.ID, string(r.State) }),
	"FINDING": live(func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
		return api.ListFindings(ctx, &client.ListFindingsParams{Limit: optional(mostCompletions), State: optional(client.ListFindingsParamsState("open"))})
	}, func(f client.Finding) (string, string) { return f.ID, f.Kind }),
	"EVENT": live(func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
		return api.ListNotifications(ctx, &client.ListNotificationsParams{Limit: optional(mostCompletions)})
	}, func(n client.Notification) (string, string) { return n.EventID.String(), n.EventType }),
	"MONTH": live(func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
		return api.ListStatements(ctx, &client.ListStatementsParams{})
	}, func(m client.StatementMonth) (string, string) { return m.Month, "" }),
	"PAYMENT": live(func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
		return api.ListPayments(ctx, &client.ListPaymentsParams{Limit: optional(mostCompletions)})
	}, func(p client.Payment) (string, string) {
		return p.ID, amount(p.AmountMicros, p.Currency) + " " + string(p.State)
	}),
	"REFUND": live(func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
		return api.ListRefunds(ctx, &client.ListRefundsParams{Limit: optional(mostCompletions)})
	}, func(r client.Refund) (string, string) {
		return r.ID, amount(r.AmountMicros, r.Currency) + " " + string(r.State)
	}),
	"WEBHOOK": live(func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
		return api.ListWebhooks(ctx, &client.ListWebhooksParams{Limit: optional(mostCompletions)})
	}, func(w client.Webhook) (string, string) { return w.ID, w.URL }),
	"CONTEXT": contextNames,
	"ROLE":    oneOf("owner", "admin", "member", "viewer", "billing"),
}

// flagNouns complete the values of flags by their name, wherever a flag of the name is.
var flagNouns = map[string]completer{
	"output":  oneOf(outputs...),
	"context": contextNames,
	"project": nouns["PROJECT"], "tenant": nouns["TENANT"], "sku": nouns["SKU"], "allocation": nouns["ALLOCATION"], "payment": nouns["PAYMENT"],
	"role": nouns["ROLE"], "service-account": nouns["SERVICE-ACCOUNT"],
	"result": oneOf("success", "refused"),
}

// live offers what a list of the API holds: the id, described by a name. Without a login, or without an answer in time, it offers nothing.
func live[T any](fetch func(ctx context.Context, api client.ClientInterface, before []string) (*http.Response, error), named func(T) (id, description string)) completer {
	return func(ctx context.Context, c *command, before []string) []cobra.Completion {
		ctx, stop := context.WithTimeout(ctx, completionPatience)
		defer stop()
		api, err := c.api()
		if err != nil {
			return nil
		}
		var found page[T]
		if _, err := decode(&found)(fetch(ctx, api, before)); err != nil {
			return nil
		}
		offered := make([]cobra.Completion, 0, len(found.Items))
		for _, item := range found.Items {
			id, description := named(item)
			offered = append(offered, cobra.CompletionWithDesc(id, printable(description)))
		}
		return offered
	}
}

// users offers the members of the tenant or project that stands before, and else, to operators, any user.
func users(ctx context.Context, c *command, before []string) []cobra.Completion {
	id := func(user, name string) (string, string) { return user, name }
	switch {
	case len(before) > 0 && strings.HasPrefix(before[len(before)-1], "tenant_"):
		return live(func(ctx context.Context, api client.ClientInterface, before []string) (*http.Response, error) {
			return api.ListTenantMembers(ctx, before[len(before)-1], &client.ListTenantMembersParams{Limit: optional(mostCompletions)})
		}, func(m client.Member) (string, string) { return id(m.UserID, m.Username) })(ctx, c, before)
	case len(before) > 0 && strings.HasPrefix(before[len(before)-1], "proj_"):
		return live(func(ctx context.Context, api client.ClientInterface, before []string) (*http.Response, error) {
			return api.ListProjectMembers(ctx, before[len(before)-1], &client.ListProjectMembersParams{Limit: optional(mostCompletions)})
		}, func(m client.ProjectMember) (string, string) { return id(m.UserID, m.Username) })(ctx, c, before)
	}
	return live(func(ctx context.Context, api client.ClientInterface, _ []string) (*http.Response, error) {
		return api.ListUsers(ctx, &client.ListUsersParams{Limit: optional(mostCompletions)})
	}, func(u client.User) (string, string) { return id(u.ID, u.Username) })(ctx, c, before)
}

func contextNames(_ context.Context, c *command, _ []string) []cobra.Completion {
	kept, err := c.configuration()
	if err != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(kept.Contexts))
}

func oneOf(values ...string) completer {
	return func(context.Context, *command, []string) []cobra.Completion { return values }
}

// completeArguments gives every command below cmd the completions of its usage and of its flags.
func (c *command) completeArguments(cmd *cobra.Command) {
	for _, child := range cmd.Commands() {
		c.completeArguments(child)
	}
	for name, offers := range flagNouns {
		if cmd.LocalFlags().Lookup(name) == nil {
			continue
		}
		_ = cmd.RegisterFlagCompletionFunc(name, c.offering(offers)) // refused only for a flag that is not there, and twice
	}
	words := strings.Fields(cmd.Use)[1:]
	if len(words) == 0 || cmd.HasSubCommands() {
		return
	}
	cmd.ValidArgsFunction = func(cmd *cobra.Command, before []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(before) >= len(words) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		word := words[len(before)]
		if word == "FILE" {
			return nil, cobra.ShellCompDirectiveDefault
		}
		offers, known := nouns[strings.Split(strings.Trim(word, "[]…"), "|")[0]]
		if !known {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return c.offering(offers)(cmd, before, typed)
	}
}

func (c *command) offering(offers completer) cobra.CompletionFunc {
	return func(cmd *cobra.Command, before []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		var fitting []cobra.Completion
		for _, offered := range offers(cmd.Context(), c, before) {
			if strings.HasPrefix(offered, typed) {
				fitting = append(fitting, offered)
			}
		}
		return fitting, cobra.ShellCompDirectiveNoFileComp
	}
}
