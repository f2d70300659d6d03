package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

func (c *command) policyCommand() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List every policy with its value", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := c.api()
			if err != nil {
				return err
			}
			var policies client.PolicyList
			body, err := decode(&policies)(api.ListPolicies(cmd.Context()))
			if err != nil {
				return err
			}
			return c.show(body, func() table { return policiesTable(policies) })
		},
	}
	get := &cobra.Command{
		Use: "get KEY", Short: "Show one policy", Args: exact(1, "the key"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			api, err := c.api()
			if err != nil {
				return err
			}
			var policy client.Policy
			body, err := decode(&policy)(api.GetPolicy(cmd.Context(), arguments[0]))
			if err != nil {
				return err
			}
			return c.show(body, func() table { return policyTable(policy) })
		},
	}
	return group("policy", "What admins may tune", list, get, c.setPolicyCommand(), c.policyHistoryCommand(), c.rollbackPolicyCommand())
}

func (c *command) setPolicyCommand() *cobra.Command {
	var reason string
	var expected int64
	cmd := &cobra.Command{
		Use: "set KEY VALUE [KEY VALUE]…", Short: "Set one policy, or several at once: all of them or none",
		Long: "Set one policy, or several at once: all of them or none. Values that bound each other can be moved only so.",
		Args: func(_ *cobra.Command, arguments []string) error {
			if len(arguments) == 0 || len(arguments)%2 != 0 {
				return usage("a key and its value are needed, or several pairs of them")
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is audited")
	cmd.Flags().Int64Var(&expected, "expected-version", -1, "refuse if the key is at another version by now (one key only)")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		if reason == "" {
			return usage("--reason is needed; it is audited")
		}
		if expected >= 0 && len(arguments) > 2 {
			return usage("--expected-version goes with one key")
		}
		api, err := c.api()
		if err != nil {
			return err
		}
		key := newKey()
		if len(arguments) == 2 {
			request := client.SetPolicyRequest{Value: policyValue(arguments[1]), Reason: reason, ExpectedVersion: version(expected)}
			var policy client.Policy
			body, err := decode(&policy)(api.SetPolicy(cmd.Context(), arguments[0], &client.SetPolicyParams{XIdempotencyKey: &key}, request))
			if err != nil {
				return err
			}
			return c.show(body, func() table { return policyTable(policy) })
		}
		request := client.SetPoliciesRequest{Reason: reason}
		for i := 0; i < len(arguments); i += 2 {
			request.Changes = append(request.Changes, client.PolicyChange{Key: arguments[i], Value: policyValue(arguments[i+1])})
		}
		var changed client.PolicyList
		body, err := decode(&changed)(api.SetPolicies(cmd.Context(), &client.SetPoliciesParams{XIdempotencyKey: &key}, request))
		if err != nil {
			return err
		}
		return c.show(body, func() table { return policiesTable(changed) })
	}
	return cmd
}

// version is what the API takes for a flag that stands at less than zero while it was not given.
func version(flag int64) *int64 {
	if flag < 0 {
		return nil
	}
	return &flag
}

func (c *command) policyHistoryCommand() *cobra.Command {
	var limit int64
	cmd := &cobra.Command{Use: "history KEY", Short: "List every value a policy was set to, the newest first", Args: exact(1, "the key")}
	cmd.Flags().Int64Var(&limit, "limit", 0, "how many versions at most (default: all)")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		api, err := c.api()
		if err != nil {
			return err
		}
		versions, body, err := all[client.PolicyVersion](cmd.Context(), limit, func(ctx context.Context, size int64, cursor *string) (*http.Response, error) {
			return api.ListPolicyVersions(ctx, arguments[0], &client.ListPolicyVersionsParams{Limit: &size, Cursor: cursor})
		})
		if err != nil {
			return err
		}
		return c.show(body, func() table {
			shown := table{header: policyVersionHeader}
			for _, v := range versions {
				shown.rows = append(shown.rows, policyVersionRow(v))
			}
			return shown
		})
	}
	return cmd
}

var policyVersionHeader = []string{"VERSION", "VALUE", "FITS", "CHANGED", "BY", "REASON"}

func policyVersionRow(v client.PolicyVersion) []string {
	return []string{fmt.Sprint(v.Version), fmt.Sprint(v.Value), fmt.Sprint(v.Fits), instant(v.ChangedAt), v.ChangedBy, v.Reason}
}

func (c *command) rollbackPolicyCommand() *cobra.Command {
	var reason string
	var expected int64
	cmd := &cobra.Command{
		Use: "rollback KEY VERSION", Short: "Set a policy to what it was at a version; 0 is the default", Args: exact(2, "the key and a version"),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is audited")
	cmd.Flags().Int64Var(&expected, "expected-version", -1, "refuse if the key is at another version by now")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		if reason == "" {
			return usage("--reason is needed; it is audited")
		}
		to, err := strconv.ParseInt(arguments[1], 10, 64)
		if err != nil || to < 0 {
			return usage("%q is no version; gpuaas policy history %s lists them", arguments[1], arguments[0])
		}
		api, err := c.api()
		if err != nil {
			return err
		}
		key := newKey()
		var policy client.Policy
		body, err := decode(&policy)(api.RollbackPolicy(cmd.Context(), arguments[0], &client.RollbackPolicyParams{XIdempotencyKey: &key},
			client.RollbackPolicyRequest{Version: to, Reason: reason, ExpectedVersion: version(expected)}))
		if err != nil {
			return err
		}
		return c.show(body, func() table { return policyTable(policy) })
	}
	return cmd
}

func policiesTable(policies client.PolicyList) table {
	shown := table{header: []string{"KEY", "VALUE", "DEFAULT", "TYPE", "MEANING"}}
	for _, p := range policies.Items {
		shown.rows = append(shown.rows, []string{p.Key, fmt.Sprint(p.Value), fmt.Sprint(p.Default), string(p.Type), p.Meaning})
	}
	return shown
}

// policyValue reads a number or a boolean as such and anything else as text; the platform knows the type.
func policyValue(text string) any {
	var value any
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if decoder.Decode(&value) == nil && !decoder.More() {
		switch value.(type) {
		case json.Number, bool, string:
			return value
		}
	}
	return text
}

func policyTable(p client.Policy) table {
	return fields("key", p.Key, "value", fmt.Sprint(p.Value), "default", fmt.Sprint(p.Default), "type", string(p.Type), "unit", text(p.Unit),
		"meaning", p.Meaning, "version", fmt.Sprint(p.Version), "reason", text(p.Reason), "danger", text(p.Danger), "unfit value", unfit(p.UnfitValue))
}

// unfit is what was set and is no longer accepted; empty for what holds.
func unfit(value any) string {
	if value == nil {
		return ""
	}
	return fmt.Sprint(value)
}
