package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/fault"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/domain/money"
	"github.com/gpuaas/gpuaas/internal/store"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/schema/queries"
)

type skuPriceBody struct {
	ID                id.Price `json:"id" pattern:"^price_[a-z2-7]{26}$"`
	SKU               id.SKU   `json:"sku"`
	Currency          string   `json:"currency" pattern:"^[a-z]{3}$"`
	RateMicrosPerHour int64    `json:"rate_micros_per_hour" minimum:"0" maximum:"9007199254740991"`
	ValidFrom         moment   `json:"valid_from"`
	CreatedAt         moment   `json:"created_at"`
}

type skuBody struct {
	SKU            id.SKU        `json:"sku" doc:"The slug by which it is asked for."`
	Name           string        `json:"name"`
	GPUModel       string        `json:"gpu_model"`
	GPUCount       int64         `json:"gpu_count"`
	GPUMemoryBytes int64         `json:"gpu_memory_bytes" doc:"Memory of each GPU."`
	CPUModel       string        `json:"cpu_model"`
	CPUCount       int64         `json:"cpu_count"`
	MemoryBytes    int64         `json:"memory_bytes"`
	DiskBytes      int64         `json:"disk_bytes"`
	OSImage        string        `json:"os_image"`
	CUDAVersion    string        `json:"cuda_version"`
	Location       string        `json:"location"`
	Offered        bool          `json:"offered" doc:"Whether new allocations are accepted."`
	AvailableNodes int64         `json:"available_nodes" doc:"Healthy nodes that are free at this moment."`
	Price          *skuPriceBody `json:"price,omitempty"`
	CreatedAt      moment        `json:"created_at"`
	UpdatedAt      moment        `json:"updated_at"`
}

type (
	SKUPath struct {
		SKU id.SKU `path:"sku" pattern:"^[a-z0-9][a-z0-9-]{0,62}$" doc:"The SKU's slug."`
	}
	skuOut     struct{ Body skuBody }
	skuListOut struct{ Body list[skuBody] }
	putSkuIn   struct {
		SKUPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			Name           string `json:"name" minLength:"1" maxLength:"100"`
			GPUModel       string `json:"gpu_model" minLength:"1" maxLength:"100"`
			GPUCount       int64  `json:"gpu_count" minimum:"1" maximum:"64"`
			GPUMemoryBytes int64  `json:"gpu_memory_bytes" minimum:"1" maximum:"9007199254740991"`
			CPUModel       string `json:"cpu_model" maxLength:"100"`
			CPUCount       int64  `json:"cpu_count" minimum:"1" maximum:"65536"`
			MemoryBytes    int64  `json:"memory_bytes" minimum:"1" maximum:"9007199254740991"`
			DiskBytes      int64  `json:"disk_bytes" minimum:"1" maximum:"9007199254740991"`
			OSImage        string `json:"os_image" maxLength:"200"`
			CUDAVersion    string `json:"cuda_version" maxLength:"50"`
			Location       string `json:"location" minLength:"1" maxLength:"100"`
			Offered        bool   `json:"offered,omitempty" default:"true"`
		}
	}
	skuPriceListIn struct {
		SKUPath
		Paging
	}
	skuPriceListOut struct{ Body list[skuPriceBody] }
	addSkuPriceIn   struct {
		SKUPath
		IdempotencyKey string `header:"X-Idempotency-Key" minLength:"1" maxLength:"255"`
		Body           struct {
			Currency          string    `json:"currency" pattern:"^[a-z]{3}$"`
			RateMicrosPerHour int64     `json:"rate_micros_per_hour" minimum:"0" maximum:"9007199254740991"`
			ValidFrom         time.Time `json:"valid_from,omitempty" doc:"From when it holds; now when absent. Not in the past."`
		}
	}
	skuPriceOut struct{ Body skuPriceBody }
)

func (s *server) skuOperations() {
	handle(s, "listSkus", s.listSkus)
	handle(s, "getSku", s.getSku)
	handle(s, "putSku", s.putSku)
	handle(s, "listSkuPrices", s.listSkuPrices)
	handle(s, "addSkuPrice", s.addSkuPrice)
}

func (s *server) listSkus(ctx context.Context, in *Paging) (*skuListOut, error) {
	from, err := in.start()
	if err != nil {
		return nil, err
	}
	// Admins also see what was taken off offer.
	rows, err := queries.ListSKUs(ctx, s.config.Pool, queries.SKUFilter{
		IncludeWithdrawn: middleware.Principal(ctx).IsAdmin(), BeforeTime: from.Time, BeforeID: id.SKU(from.ID), Limit: in.fetch(),
	})
	if err != nil {
		return nil, err
	}
	render, err := s.skuRenderer(ctx, rows)
	if err != nil {
		return nil, err
	}
	return &skuListOut{Body: paged(*in, rows, func(row queries.SKU) after { return after{row.CreatedAt, string(row.ID)} }, render)}, nil
}

func (s *server) getSku(ctx context.Context, in *SKUPath) (*skuOut, error) {
	row, err := s.sku(ctx, in.SKU)
	if err != nil {
		return nil, err
	}
	render, err := s.skuRenderer(ctx, []queries.SKU{row})
	if err != nil {
		return nil, err
	}
	return &skuOut{Body: render(row)}, nil
}

func (s *server) sku(ctx context.Context, sku id.SKU) (queries.SKU, error) {
	row, err := queries.GetSKU(ctx, s.config.Pool, sku)
	if errors.Is(err, pgx.ErrNoRows) {
		return row, fault.New(fault.SKUNotFound, "")
	}
	return row, err
}

// skuRenderer reads what stands beside SKUs: their present prices and how many nodes are free.
func (s *server) skuRenderer(ctx context.Context, rows []queries.SKU) (func(queries.SKU) skuBody, error) {
	ids := make([]id.SKU, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	prices, err := queries.PresentPrices(ctx, s.config.Pool, middleware.Principal(ctx).TenantID, ids, s.config.Currency, s.config.Now())
	if err != nil {
		return nil, err
	}
	free, err := queries.FreeBySKU(ctx, s.config.Pool)
	if err != nil {
		return nil, err
	}
	return func(row queries.SKU) skuBody {
		body := skuBody{
			SKU: row.ID, Name: row.Name, GPUModel: row.GPUModel, GPUCount: int64(row.GPUCount), GPUMemoryBytes: row.GPUMemoryBytes,
			CPUModel: row.CPUModel, CPUCount: int64(row.CPUCount), MemoryBytes: row.MemoryBytes, DiskBytes: row.DiskBytes,
			OSImage: row.OSImage, CUDAVersion: row.CUDAVersion, Location: row.Location, Offered: row.Offered, AvailableNodes: free[row.ID],
			CreatedAt: moment(row.CreatedAt), UpdatedAt: moment(row.UpdatedAt),
		}
		if price, priced := prices[row.ID]; priced {
			rendered := renderPrice(price)
			body.Price = &rendered
		}
		return body
	}, nil
}

func renderPrice(row queries.PriceRow) skuPriceBody {
	return skuPriceBody{ID: row.ID, SKU: row.SKU, Currency: row.Currency, RateMicrosPerHour: int64(row.RateMicrosPerHour), ValidFrom: moment(row.ValidFrom), CreatedAt: moment(row.CreatedAt)}
}

func (s *server) putSku(ctx context.Context, in *putSkuIn) (*skuOut, error) {
	sku := queries.SKU{
		ID: in.SKU, Name: in.Body.Name, GPUModel: in.Body.GPUModel, GPUCount: int(in.Body.GPUCount), GPUMemoryBytes: in.Body.GPUMemoryBytes,
		CPUModel: in.Body.CPUModel, CPUCount: int(in.Body.CPUCount), MemoryBytes: in.Body.MemoryBytes, DiskBytes: in.Body.DiskBytes,
		OSImage: in.Body.OSImage, CUDAVersion: in.Body.CUDAVersion, Location: in.Body.Location, Offered: in.Body.Offered,
	}
	if _, made, err := s.changed(ctx); err != nil || made {
		if err != nil {
			return nil, err
		}
		return s.getSku(ctx, &in.SKUPath)
	}
	err := store.InTx(ctx, s.config.Pool, func(ctx context.Context, tx pgx.Tx) error {
		changed, err := queries.UpdateSKU(ctx, tx, sku)
		if err == nil && !changed {
			_, err = queries.InsertSKU(ctx, tx, sku)
		}
		if err != nil {
			return err
		}
		return queries.InsertAudit(ctx, tx, queries.Audit{
			Actor: middleware.Principal(ctx).Actor(), Action: "sku.put", TargetType: "sku", TargetID: string(sku.ID),
			CorrelationID: telemetry.Correlation(ctx), RequestID: middleware.RequestOf(ctx).ID,
			Details: map[string]any{"offered": sku.Offered, "created": !changed},
		})
	})
	if err != nil {
		return nil, err
	}
	return s.getSku(ctx, &in.SKUPath)
}

func (s *server) listSkuPrices(ctx context.Context, in *skuPriceListIn) (*skuPriceListOut, error) {
	from, err := in.start()
	if err != nil {
		return nil, err
	}
	if _, err := s.sku(ctx, in.SKU); err != nil {
		return nil, err
	}
	rows, err := queries.ReadPrices(ctx, s.config.Pool, queries.PricePage{SKU: in.SKU, BeforeTime: from.Time, BeforeID: id.Price(from.ID), Limit: in.fetch()})
	if err != nil {
		return nil, err
	}
	return &skuPriceListOut{Body: paged(in.Paging, rows, func(row queries.PriceRow) after { return after{row.ValidFrom, string(row.ID)} }, renderPrice)}, nil
}

// pastTolerance forgives a caller's clock that is a little behind ours.
const pastTolerance = 5 * time.Second

// addSkuPrice adds a price for allocations admitted from then on; a price in the past would rewrite what was promised.
func (s *server) addSkuPrice(ctx context.Context, in *addSkuPriceIn) (*skuPriceOut, error) {
	if record, made, err := s.changed(ctx); err != nil || made {
		if err != nil {
			return nil, err
		}
		return priceOf(in.SKU, record)
	}
	now := s.config.Now().UTC().Truncate(time.Millisecond)
	price := queries.PriceRow{
		ID: id.New[id.Price](random16()), SKU: in.SKU, Currency: in.Body.Currency, RateMicrosPerHour: money.Micros(in.Body.RateMicrosPerHour),
		ValidFrom: in.Body.ValidFrom.UTC().Truncate(time.Millisecond), CreatedAt: now,
	}
	if in.Body.ValidFrom.IsZero() {
		price.ValidFrom = now
	}
	if price.ValidFrom.Before(now.Add(-pastTolerance)) {
		return nil, invalid("body.valid_from", "a price cannot hold from a moment in the past")
	}
	if _, err := s.sku(ctx, in.SKU); err != nil {
		return nil, err
	}
	err := store.InTx(ctx, s.config.Pool, func(ctx context.Context, tx pgx.Tx) error {
		inserted, err := queries.InsertPrice(ctx, tx, queries.Price{
			ID: price.ID, SKU: price.SKU, Currency: price.Currency, RateMicrosPerHour: price.RateMicrosPerHour, ValidFrom: price.ValidFrom,
		})
		if err != nil {
			return err
		}
		if !inserted {
			return fault.New(fault.PriceConflict, "")
		}
		return queries.InsertAudit(ctx, tx, queries.Audit{
			Actor: middleware.Principal(ctx).Actor(), Action: "sku.add_price", TargetType: "sku", TargetID: string(price.SKU),
			CorrelationID: telemetry.Correlation(ctx), RequestID: middleware.RequestOf(ctx).ID,
			Details: map[string]any{"price_id": price.ID, "currency": price.Currency, "rate_micros_per_hour": int64(price.RateMicrosPerHour), "valid_from": price.ValidFrom},
		})
	})
	if err != nil {
		return nil, err
	}
	return &skuPriceOut{Body: renderPrice(price)}, nil
}

// priceOf is the price that a request added, as its audit row tells it.
func priceOf(sku id.SKU, record queries.AuditRecord) (*skuPriceOut, error) {
	var added struct {
		ID                id.Price     `json:"price_id"`
		Currency          string       `json:"currency"`
		RateMicrosPerHour money.Micros `json:"rate_micros_per_hour"`
		ValidFrom         time.Time    `json:"valid_from"`
	}
	if err := json.Unmarshal(record.Details, &added); err != nil {
		return nil, fmt.Errorf("the audit row of a price of %s: %w", sku, err)
	}
	return &skuPriceOut{Body: renderPrice(queries.PriceRow{
		ID: added.ID, SKU: sku, Currency: added.Currency, RateMicrosPerHour: added.RateMicrosPerHour, ValidFrom: added.ValidFrom, CreatedAt: record.CreatedAt,
	})}, nil
}
