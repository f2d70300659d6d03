package cli

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

func (c *command) nodeCommand() *cobra.Command {
	return group("node", "The fleet (admins)", c.nodeEnrolToken(), c.nodeList(), c.nodeGet(),
		c.nodeVerb("cordon", "Keep its tenant and take no new one", "", func(ctx context.Context, api client.ClientInterface, id, reason string) (*http.Response, error) {
			key := newKey()
			return api.CordonNode(ctx, id, &client.CordonNodeParams{XIdempotencyKey: &key}, client.NodeOperationRequest{Reason: reason})
		}),
		c.nodeVerb("uncordon", "Hand the node out again", "", func(ctx context.Context, api client.ClientInterface, id, reason string) (*http.Response, error) {
			key := newKey()
			return api.UncordonNode(ctx, id, &client.UncordonNodeParams{XIdempotencyKey: &key}, client.NodeOperationRequest{Reason: reason})
		}),
		c.nodeVerb("drain", "Cordon once its tenant has left", "", func(ctx context.Context, api client.ClientInterface, id, reason string) (*http.Response, error) {
			key := newKey()
			return api.DrainNode(ctx, id, &client.DrainNodeParams{XIdempotencyKey: &key}, client.NodeOperationRequest{Reason: reason})
		}),
		c.nodeVerb("quarantine", "Hand the node to nobody", "", func(ctx context.Context, api client.ClientInterface, id, reason string) (*http.Response, error) {
			key := newKey()
			return api.QuarantineNode(ctx, id, &client.QuarantineNodeParams{XIdempotencyKey: &key}, client.NodeOperationRequest{Reason: reason})
		}),
		c.nodeUnquarantine(),
		c.nodeVerb("deny", "Cut the node off although its certificate is valid",
			"Denying node %s cuts its agent off within seconds: a running tenant's release cannot be wiped until it enrols again.",
			func(ctx context.Context, api client.ClientInterface, id, reason string) (*http.Response, error) {
				key := newKey()
				return api.DenyNode(ctx, id, &client.DenyNodeParams{XIdempotencyKey: &key}, client.NodeOperationRequest{Reason: reason})
			}),
	)
}

func (c *command) nodeEnrolToken() *cobra.Command {
	var sku string
	cmd := &cobra.Command{
		Use: "enrol-token HOSTNAME", Short: "Make a one-time token with which a node enrols",
		Long: "Make a one-time token with which a node enrols. The token is printed to stdout, once; the platform keeps only its hash.",
		Args: exact(1, "the node's hostname"),
	}
	cmd.Flags().StringVar(&sku, "sku", "", "the SKU the node is offered as")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		if sku == "" {
			return usage("--sku is needed")
		}
		api, err := c.api()
		if err != nil {
			return err
		}
		key := newKey()
		var token client.NodeEnrolToken
		body, err := decode(&token)(api.CreateNodeEnrolToken(cmd.Context(), &client.CreateNodeEnrolTokenParams{XIdempotencyKey: &key},
			client.CreateNodeEnrolTokenRequest{Hostname: arguments[0], SKU: sku}))
		if err != nil {
			return err
		}
		fmt.Fprintf(c.Err, "node %s, valid until %s, shown once\n", token.NodeID, instant(token.ExpiresAt))
		return c.show(body, func() table { return table{rows: [][]string{{token.Token}}} })
	}
	return cmd
}

func (c *command) nodeList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the fleet", Args: none}
	return c.watching(cmd, func(ctx context.Context, api client.ClientInterface, _ []string) (view, error) {
		nodes, body, err := all[client.Node](ctx, 0, func(ctx context.Context, size int64, cursor *string) (*http.Response, error) {
			return api.ListNodes(ctx, &client.ListNodesParams{Limit: &size, Cursor: cursor})
		})
		return view{body: body, render: func() table {
			shown := table{header: []string{"NODE", "HOSTNAME", "SKU", "STATE", "ALLOCATION", "LAST SEEN", "REASON"}}
			for _, n := range nodes {
				shown.rows = append(shown.rows, []string{n.ID, n.Hostname, n.SKU, string(n.State), text(n.AllocationID), optionalInstant(n.LastSeenAt), n.Reason})
			}
			return shown
		}}, err
	})
}

func (c *command) nodeGet() *cobra.Command {
	cmd := &cobra.Command{Use: "get NODE", Short: "Show one node", Args: exact(1, "the node's id")}
	return c.watching(cmd, func(ctx context.Context, api client.ClientInterface, arguments []string) (view, error) {
		var found client.Node
		body, err := decode(&found)(api.GetNode(ctx, arguments[0]))
		return view{body: body, render: func() table { return nodeTable(found) }}, err
	})
}

func nodeTable(n client.Node) table {
	return fields("node", n.ID, "hostname", n.Hostname, "sku", n.SKU, "state", string(n.State), "reachability", string(n.Reachability),
		"scheduling", string(n.Scheduling), "reason", n.Reason, "allocation", text(n.AllocationID), "generation", fmt.Sprint(n.Generation),
		"agent", text(n.AgentVersion), "last seen", optionalInstant(n.LastSeenAt), "enrolled", instant(n.EnrolledAt))
}

// nodeVerb is one word to a node; loss, if any, is said and asked about first.
func (c *command) nodeVerb(verb, short, loss string, call func(ctx context.Context, api client.ClientInterface, id, reason string) (*http.Response, error)) *cobra.Command {
	var reason string
	cmd := &cobra.Command{Use: verb + " NODE", Short: short, Args: exact(1, "the node's id")}
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is audited")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		if reason == "" {
			return usage("--reason is needed; it is audited")
		}
		if loss != "" {
			if err := c.confirm(fmt.Sprintf(loss, arguments[0])); err != nil {
				return err
			}
		}
		api, err := c.api()
		if err != nil {
			return err
		}
		var changed client.Node
		body, err := decode(&changed)(call(cmd.Context(), api, arguments[0], reason))
		if err != nil {
			return err
		}
		return c.show(body, func() table { return nodeTable(changed) })
	}
	return cmd
}

func (c *command) nodeUnquarantine() *cobra.Command {
	var closeLease bool
	cmd := c.nodeVerb("unquarantine", "Trust the node again", "", func(ctx context.Context, api client.ClientInterface, id, reason string) (*http.Response, error) {
		if closeLease {
			if err := c.confirm(fmt.Sprintf("Closing the lease of node %s hands it on by your word alone: nothing has proven that it was wiped.", id)); err != nil {
				return nil, err
			}
		}
		key := newKey()
		return api.UnquarantineNode(ctx, id, &client.UnquarantineNodeParams{XIdempotencyKey: &key}, client.UnquarantineNodeRequest{Reason: reason, CloseLease: &closeLease})
	})
	cmd.Flags().BoolVar(&closeLease, "close-lease", false, "also close an abandoned lease, on your word that the node is clean")
	return cmd
}
