package temporal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"google.golang.org/protobuf/types/known/durationpb"
)

// readyPoll is how often what is starting is asked whether it is ready.
const readyPoll = 100 * time.Millisecond

// RegisterNamespace makes a namespace with these Keyword search attributes, whichever of them is missing, and waits until
// workflows can be started in it and searched by them. An operator does this once; the development stack at each
// start, a test and a benchmark for a namespace of their own. It waits for a frontend that is not there yet until ctx ends.
func RegisterNamespace(ctx context.Context, config Config, retention time.Duration, keywords []string) error {
	cluster, err := client.NewLazyClient(client.Options{
		HostPort: config.Address, Namespace: config.Namespace, Logger: sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	if err != nil {
		return fmt.Errorf("the Temporal frontend at %s cannot be used: %w", config.Address, err)
	}
	defer cluster.Close()
	if err := UntilReady(ctx, readyPoll, func() error { return register(ctx, cluster, config.Namespace, retention) }); err != nil {
		return fmt.Errorf("register the namespace %s: %w", config.Namespace, err)
	}
	if err := UntilReady(ctx, readyPoll, func() error { return addKeywords(ctx, cluster, config.Namespace, keywords) }); err != nil {
		return fmt.Errorf("the search attributes of %s: %w", config.Namespace, err)
	}
	// The frontend answers from a cache of namespaces: wait until it knows every attribute.
	for _, keyword := range keywords {
		if err := UntilReady(ctx, readyPoll, func() error {
			_, err := cluster.WorkflowService().CountWorkflowExecutions(ctx, &workflowservice.CountWorkflowExecutionsRequest{
				Namespace: config.Namespace, Query: keyword + " = 'none'",
			})
			return err
		}); err != nil {
			return fmt.Errorf("the namespace %s does not become searchable by %s: %w", config.Namespace, keyword, err)
		}
	}
	return nil
}

func register(ctx context.Context, cluster client.Client, namespace string, retention time.Duration) error {
	_, err := cluster.WorkflowService().RegisterNamespace(ctx, &workflowservice.RegisterNamespaceRequest{
		Namespace: namespace, WorkflowExecutionRetentionPeriod: durationpb.New(retention),
	})
	var exists *serviceerror.NamespaceAlreadyExists
	if errors.As(err, &exists) {
		return nil
	}
	return err
}

func addKeywords(ctx context.Context, cluster client.Client, namespace string, keywords []string) error {
	known, err := cluster.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return err
	}
	missing := map[string]enumspb.IndexedValueType{}
	for _, keyword := range keywords {
		if _, there := known.GetCustomAttributes()[keyword]; !there {
			missing[keyword] = enumspb.INDEXED_VALUE_TYPE_KEYWORD
		}
	}
	if len(missing) == 0 {
		return nil
	}
	_, err = cluster.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{Namespace: namespace, SearchAttributes: missing})
	return err
}

// UntilReady repeats ask, at most so often, until it succeeds; when ctx ends first, the answer is the last error.
func UntilReady(ctx context.Context, every time.Duration, ask func() error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-tick.C:
		}
	}
}
