package cli

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

func (c *command) allocCommand() *cobra.Command {
	return group("alloc", "Rent nodes, look after them, give them back",
		c.allocCreate(), c.allocList(), c.allocGet(), c.allocExplain(), c.allocRelease(), c.allocTimeline())
}

func (c *command) allocCreate() *cobra.Command {
	var (
		name, key      string
		project        string
		labels         map[string]string
		keyFiles       []string
		wait           bool
		timeoutSeconds int64
		maxSpend       string
		maxDuration    time.Duration
	)
	cmd := &cobra.Command{Use: "create SKU", Short: "Ask for a node", Args: exact(1, "the SKU")}
	cmd.Flags().StringVar(&name, "name", "", "a name for people")
	cmd.Flags().StringVar(&project, "project", "", "the project it belongs to (default: the context's, or your own)")
	cmd.Flags().StringToStringVar(&labels, "label", nil, "key=value, repeatable")
	cmd.Flags().StringSliceVar(&keyFiles, "ssh-key", nil, "file with public keys, repeatable")
	cmd.Flags().StringVar(&maxSpend, "max-spend", "", "end it before its bill exceeds this, such as 25.00 (default: no limit)")
	cmd.Flags().DurationVar(&maxDuration, "max-duration", 0, "end it this long after its meter started, such as 90m (default: no limit)")
	cmd.Flags().StringVar(&key, "idempotency-key", "", "repeat an earlier request safely (default: a new one)")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the node is usable")
	cmd.Flags().Int64Var(&timeoutSeconds, "timeout", 600, "seconds to wait at most")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		api, err := c.api()
		if err != nil {
			return err
		}
		keys, err := publicKeys(keyFiles)
		if err != nil {
			return err
		}
		_, in, err := c.place("", project)
		if err != nil {
			return err
		}
		request := client.CreateAllocationRequest{SKU: arguments[0], Name: optional(name), ProjectID: in}
		if request.MaxSpendMinor, request.MaxDurationSeconds, err = spendingLimit(maxSpend, maxDuration); err != nil {
			return err
		}
		if len(labels) > 0 {
			request.Labels = &labels
		}
		if len(keys) > 0 {
			request.SSHKeys = &keys
		}
		if key == "" {
			key = newKey()
		}
		var made client.Allocation
		body, err := decode(&made)(api.CreateAllocation(cmd.Context(), &client.CreateAllocationParams{XIdempotencyKey: key}, request))
		if err != nil {
			return err
		}
		if wait {
			fmt.Fprintf(c.Err, "%s is admitted; waiting for the node\n", made.ID)
			if made, body, err = c.waitAllocation(cmd.Context(), api, made.ID, "active", timeoutSeconds); err != nil {
				return err
			}
		}
		return c.show(body, func() table { return allocationTable(made) })
	}
	return cmd
}

// spendingLimit reads what an allocation is limited to; nil for no limit.
func spendingLimit(maxSpend string, maxDuration time.Duration) (minor, wholeSeconds *int64, err error) {
	if maxSpend != "" {
		spend, err := minorUnits(maxSpend)
		if err != nil {
			return nil, nil, err
		}
		minor = &spend
	}
	if maxDuration != 0 {
		if maxDuration < time.Second || maxDuration%time.Second != 0 {
			return nil, nil, usage("--max-duration is a number of whole seconds above zero, not %s", maxDuration)
		}
		seconds := int64(maxDuration / time.Second)
		wholeSeconds = &seconds
	}
	return minor, wholeSeconds, nil
}

// limits are what an allocation is limited to, as people read it.
func limits(a client.Allocation) string {
	var said []string
	if a.MaxSpendMinor != nil {
		said = append(said, amount(*a.MaxSpendMinor*microsPerMinor, a.Currency))
	}
	if a.MaxDurationSeconds != nil {
		said = append(said, (time.Duration(*a.MaxDurationSeconds) * time.Second).String())
	}
	return strings.Join(said, ", ")
}

// microsPerMinor is how many micros one minor unit holds.
const microsPerMinor = 10_000

// publicKeys reads authorized_keys lines; the platform validates them.
func publicKeys(files []string) ([]string, error) {
	var keys []string
	for _, file := range files {
		read, err := os.ReadFile(file)
		if err != nil {
			return nil, usage("read the SSH key: %v", err)
		}
		for _, line := range strings.Split(string(read), "\n") {
			line = strings.TrimSpace(line)
			if strings.Contains(line, "PRIVATE KEY") {
				return nil, usage("%s holds a private key; give the public one", file)
			}
			if line != "" && !strings.HasPrefix(line, "#") {
				keys = append(keys, line)
			}
		}
	}
	return keys, nil
}

// waitAllocation polls the API's long wait until the state is reached, cannot be reached any more, or time is up.
func (c *command) waitAllocation(ctx context.Context, api client.ClientInterface, id, state string, timeoutSeconds int64) (client.Allocation, []byte, error) {
	deadline := time.Now().Add(time.Duration(timeoutSeconds) * time.Second)
	target := client.AllocationStateName(state)
	for {
		seconds := max(0, min(30, int64(time.Until(deadline).Seconds())))
		var waited client.AllocationWait
		if _, err := decode(&waited)(api.WaitAllocation(ctx, id, &client.WaitAllocationParams{State: &target, TimeoutSeconds: &seconds})); err != nil {
			return waited.Allocation, nil, err
		}
		now := waited.Allocation
		if waited.Reached {
			_, body, err := c.getAllocation(ctx, api, id)
			return now, body, err
		}
		switch now.State {
		case "failed", "released", "release_failed":
			return now, nil, fmt.Errorf("%s became %s and not %s%s", id, now.State, state, failureOf(now))
		}
		if !time.Now().Before(deadline) {
			return now, nil, timeoutError{fmt.Errorf("%s is still %s after %d s; see gpuaas alloc explain %s", id, now.State, timeoutSeconds, id)}
		}
	}
}

func failureOf(a client.Allocation) string {
	if a.Failure == nil {
		return ""
	}
	return fmt.Sprintf(": %s (%s)", a.Failure.Message, a.Failure.Code)
}

func (c *command) getAllocation(ctx context.Context, api client.ClientInterface, id string) (client.Allocation, []byte, error) {
	var found client.Allocation
	body, err := decode(&found)(api.GetAllocation(ctx, id))
	return found, body, err
}

func (c *command) allocList() *cobra.Command {
	var state, tenant, project string
	var limit int64
	var everybody bool
	cmd := &cobra.Command{Use: "list", Short: "List allocations, newest first", Args: none}
	cmd.Flags().StringVar(&state, "state", "", "only allocations in this state")
	cmd.Flags().StringVar(&tenant, "tenant", "", "of this tenant (default: the context's, or your own)")
	cmd.Flags().StringVar(&project, "project", "", "of this project (default: the context's, or every one)")
	cmd.Flags().Int64Var(&limit, "limit", 50, "how many (0: all)")
	cmd.Flags().BoolVar(&everybody, "all-tenants", false, "of all tenants (admins)")
	return c.watching(cmd, func(ctx context.Context, api client.ClientInterface, _ []string) (view, error) {
		if limit < 0 {
			return view{}, usage("--limit is not negative")
		}
		in, only, err := c.place(tenant, project)
		if err != nil {
			return view{}, err
		}
		named := (*client.AllocationStateName)(optional(state))
		found, body, err := all[client.Allocation](ctx, limit, func(ctx context.Context, size int64, cursor *string) (*http.Response, error) {
			if everybody {
				return api.AdminListAllocations(ctx, &client.AdminListAllocationsParams{State: named, Limit: &size, Cursor: cursor})
			}
			return api.ListAllocations(ctx, &client.ListAllocationsParams{TenantID: in, ProjectID: only, State: named, Limit: &size, Cursor: cursor})
		})
		return view{body: body, render: func() table {
			shown := table{header: []string{"ALLOCATION", "NAME", "STATE", "SKU", "COST", "REQUESTED"}}
			for _, a := range found {
				shown.rows = append(shown.rows, []string{a.ID, a.Name, string(a.State), a.SKU, amount(a.CostMicros, a.Currency), instant(a.RequestedAt)})
			}
			return shown
		}}, err
	})
}

func (c *command) allocGet() *cobra.Command {
	cmd := &cobra.Command{
		Use: "get ALLOCATION", Short: "Show one allocation", Args: exact(1, "the allocation's id"),
		Long: "Show one allocation. With --watch it ends by itself when the allocation is at its end.",
	}
	return c.watching(cmd, func(ctx context.Context, api client.ClientInterface, arguments []string) (view, error) {
		found, body, err := c.getAllocation(ctx, api, arguments[0])
		return view{body: body, render: func() table { return allocationTable(found) }, last: found.EndedAt != nil}, err
	})
}

func allocationTable(a client.Allocation) table {
	labels := make([]string, 0, len(a.Labels))
	for key, value := range a.Labels {
		labels = append(labels, key+"="+value)
	}
	sort.Strings(labels)
	ssh, wiped := "", ""
	if a.SSH != nil {
		ssh = fmt.Sprintf("ssh -p %d %s@%s", a.SSH.Port, a.SSH.Username, a.SSH.Host)
	}
	if a.Certificate != nil {
		wiped = a.Certificate.Statement
	}
	return fields("allocation", a.ID, "name", a.Name, "labels", strings.Join(labels, ", "), "state", string(a.State), "sku", a.SKU,
		"node", text(a.NodeID), "access", ssh, "price/hour", amount(a.RateMicrosPerHour, a.Currency), "cost", amount(a.CostMicros, a.Currency), "limits", limits(a),
		"requested", instant(a.RequestedAt), "metered from", optionalInstant(a.MeteredFrom), "metered to", optionalInstant(a.MeteredTo),
		"suspended", optionalInstant(a.SuspendedAt), "ended", optionalInstant(a.EndedAt), "release cause", text(a.ReleaseCause), "failure", strings.TrimPrefix(failureOf(a), ": "), "certificate", wiped)
}

func (c *command) allocExplain() *cobra.Command {
	return &cobra.Command{
		Use: "explain ALLOCATION", Short: "Say what is going on in an allocation right now", Args: exact(1, "the allocation's id"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			api, err := c.api()
			if err != nil {
				return err
			}
			var e client.AllocationExplanation
			body, err := decode(&e)(api.ExplainAllocation(cmd.Context(), arguments[0]))
			if err != nil {
				return err
			}
			return c.show(body, func() table {
				step := text(e.Step)
				if e.Attempt != nil && *e.Attempt > 0 {
					step = fmt.Sprintf("%s (attempt %d)", step, *e.Attempt)
				}
				givenUp := ""
				if e.GivenUpNodes != nil {
					givenUp = strings.Join(*e.GivenUpNodes, ", ")
				}
				return fields("allocation", e.AllocationID, "state", string(e.State), "doing", e.Doing, "step", step, "waiting for", text(e.WaitingFor),
					"next deadline", optionalInstant(e.NextDeadline), "node", text(e.NodeID), "cost so far", amount(e.CostMicros, e.Currency),
					"settled to", optionalInstant(e.SettledTo), "limit at", optionalInstant(e.LimitAt), "last error", text(e.LastError), "given up", givenUp,
					"pending", text(e.PendingSignal), "told by", string(e.Source))
			})
		},
	}
}

func (c *command) allocTimeline() *cobra.Command {
	return &cobra.Command{
		Use: "timeline ALLOCATION", Short: "Show every state an allocation has been in", Args: exact(1, "the allocation's id"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			api, err := c.api()
			if err != nil {
				return err
			}
			var timeline client.AllocationTimeline
			body, err := decode(&timeline)(api.GetAllocationTimeline(cmd.Context(), arguments[0]))
			if err != nil {
				return err
			}
			return c.show(body, func() table {
				shown := table{header: []string{"AT", "STATE", "BY", "NODE", "REASON"}}
				for _, t := range timeline.Items {
					shown.rows = append(shown.rows, []string{instant(t.At), string(t.ToState), t.ActorRole, text(t.NodeID), t.Reason})
				}
				return shown
			})
		},
	}
}

func (c *command) allocRelease() *cobra.Command {
	var wait bool
	var timeoutSeconds int64
	cmd := &cobra.Command{Use: "release ALLOCATION", Short: "Give a node back; everything on it is lost", Args: exact(1, "the allocation's id")}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the node is proven clean")
	cmd.Flags().Int64Var(&timeoutSeconds, "timeout", 600, "seconds to wait at most")
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		api, err := c.api()
		if err != nil {
			return err
		}
		found, _, err := c.getAllocation(cmd.Context(), api, arguments[0])
		if err != nil {
			return err
		}
		if err := c.confirm(loss(found)); err != nil {
			return err
		}
		var released client.Allocation
		key := newKey()
		body, err := decode(&released)(api.ReleaseAllocation(cmd.Context(), arguments[0], &client.ReleaseAllocationParams{XIdempotencyKey: &key}))
		if err != nil {
			return err
		}
		if wait {
			if released, body, err = c.waitAllocation(cmd.Context(), api, arguments[0], "released", timeoutSeconds); err != nil {
				return err
			}
		}
		return c.show(body, func() table { return allocationTable(released) })
	}
	return cmd
}

// loss names what a release destroys.
func loss(a client.Allocation) string {
	where := "its node"
	if a.NodeID != nil {
		where = "node " + *a.NodeID
	}
	return fmt.Sprintf("Releasing %s (%s) ends every session and deletes its user and every file on %s. This cannot be undone.", a.ID, printable(a.Name), where)
}
