package temporal

import (
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/types/known/durationpb"
)

// namespacePoll is how often a new namespace is asked whether it is ready.
const namespacePoll = 100 * time.Millisecond

// RegisterNamespace makes a namespace with these Keyword search attributes and waits until it is searchable by them.
// An operator does this once; a test and a benchmark do it for a namespace of their own.
func RegisterNamespace(ctx context.Context, config Config, retention time.Duration, keywords []string) error {
	cluster, err := client.NewLazyClient(client.Options{HostPort: config.Address, Namespace: config.Namespace})
	if err != nil {
		return fmt.Errorf("the Temporal frontend at %s cannot be used: %w", config.Address, err)
	}
	defer cluster.Close()
	_, err = cluster.WorkflowService().RegisterNamespace(ctx, &workflowservice.RegisterNamespaceRequest{
		Namespace: config.Namespace, WorkflowExecutionRetentionPeriod: durationpb.New(retention),
	})
	var exists *serviceerror.NamespaceAlreadyExists
	if err != nil && !errors.As(err, &exists) {
		return fmt.Errorf("register the namespace %s: %w", config.Namespace, err)
	}
	attributes := map[string]enumspb.IndexedValueType{}
	for _, keyword := range keywords {
		attributes[keyword] = enumspb.INDEXED_VALUE_TYPE_KEYWORD
	}
	if len(keywords) == 0 {
		return nil
	}
	if err := untilReady(ctx, func() error {
		_, err := cluster.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{Namespace: config.Namespace, SearchAttributes: attributes})
		return err
	}); err != nil {
		return fmt.Errorf("the search attributes of %s: %w", config.Namespace, err)
	}
	// The frontend answers from a cache of namespaces: wait until it knows every attribute.
	for _, keyword := range keywords {
		if err := untilReady(ctx, func() error {
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

// untilReady repeats ask until it succeeds; when ctx ends first, the answer is the last error.
func untilReady(ctx context.Context, ask func() error) error {
	tick := time.NewTicker(namespacePoll)
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
