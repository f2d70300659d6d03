package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
)

// Each goes through all items of a list, page by page; page asks for the page behind a cursor, nil for the first. It ends
// at the first error, which is a *Refusal where the API refused.
//
//	for sku, err := range client.Each[client.SKU](ctx, func(ctx context.Context, cursor *string) (*http.Response, error) {
//		return api.ListSkus(ctx, &client.ListSkusParams{Cursor: cursor})
//	}) { … }
func Each[Item any](ctx context.Context, page func(ctx context.Context, cursor *string) (*http.Response, error)) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		var none Item
		var cursor *string
		for {
			var list struct {
				Items      []Item  `json:"items"`
				NextCursor *string `json:"next_cursor"`
			}
			if err := readPage(ctx, page, cursor, &list); err != nil {
				yield(none, err)
				return
			}
			for _, item := range list.Items {
				if !yield(item, nil) {
					return
				}
			}
			if list.NextCursor == nil {
				return
			}
			cursor = list.NextCursor
		}
	}
}

func readPage(ctx context.Context, page func(context.Context, *string) (*http.Response, error), cursor *string, into any) error {
	response, err := page(ctx, cursor)
	if err != nil {
		return err
	}
	body, err := Read(response)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("the API's answer is not what its contract says: %w", err)
	}
	return nil
}
