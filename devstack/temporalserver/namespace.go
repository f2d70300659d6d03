package temporalserver

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
	sdklog "go.temporal.io/sdk/log"
	"google.golang.org/protobuf/types/known/durationpb"
)

const namespacePoll = 100 * time.Millisecond

// EnsureNamespace registers the namespace with this retention and these Keyword search attributes, and returns
// once workflows can be started in it and searched by them.
func EnsureNamespace(ctx context.Context, address, namespace string, retention time.Duration, keywords []string, logger sdklog.Logger) error {
	c, err := client.NewLazyClient(client.Options{HostPort: address, Namespace: namespace, Logger: logger})
	if err != nil {
		return fmt.Errorf("the Temporal frontend at %s cannot be used: %w", address, err)
	}
	defer c.Close()
	err = poll(ctx, func() error {
		_, err := c.WorkflowService().RegisterNamespace(ctx, &workflowservice.RegisterNamespaceRequest{
			Namespace: namespace, WorkflowExecutionRetentionPeriod: durationpb.New(retention),
		})
		var exists *serviceerror.NamespaceAlreadyExists
		if errors.As(err, &exists) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("the namespace %s cannot be registered: %w", namespace, err)
	}
	if err := poll(ctx, func() error { return addKeywords(ctx, c, namespace, keywords) }); err != nil {
		return fmt.Errorf("the search attributes of %s cannot be added: %w", namespace, err)
	}
	// The frontend answers from a cache of namespaces: wait until it knows every attribute.
	err = poll(ctx, func() error {
		for _, name := range keywords {
			_, err := c.WorkflowService().CountWorkflowExecutions(ctx, &workflowservice.CountWorkflowExecutionsRequest{
				Namespace: namespace, Query: name + " = 'none'",
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("the namespace %s does not become searchable: %w", namespace, err)
	}
	return nil
}

func addKeywords(ctx context.Context, c client.Client, namespace string, keywords []string) error {
	known, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return err
	}
	missing := map[string]enumspb.IndexedValueType{}
	for _, name := range keywords {
		if _, ok := known.GetCustomAttributes()[name]; !ok {
			missing[name] = enumspb.INDEXED_VALUE_TYPE_KEYWORD
		}
	}
	if len(missing) == 0 {
		return nil
	}
	_, err = c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{Namespace: namespace, SearchAttributes: missing})
	return err
}

// poll repeats do until it works or ctx ends; the error is the last one.
func poll(ctx context.Context, do func() error) error {
	tick := time.NewTicker(namespacePoll)
	defer tick.Stop()
	for {
		err := do()
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
