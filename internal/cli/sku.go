package cli

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	client "github.com/gpuaas/gpuaas/client/go"
)

func (c *command) skuCommand() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List what can be rented", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := c.api()
			if err != nil {
				return err
			}
			skus, body, err := all[client.SKU](cmd.Context(), 0, func(ctx context.Context, size int64, cursor *string) (*http.Response, error) {
				return api.ListSkus(ctx, &client.ListSkusParams{Limit: &size, Cursor: cursor})
			})
			if err != nil {
				return err
			}
			return c.show(body, func() table {
				shown := table{header: []string{"SKU", "GPUS", "GPU MEMORY", "CPUS", "RAM", "DISK", "CUDA", "LOCATION", "PRICE/HOUR", "FREE"}}
				for _, sku := range skus {
					shown.rows = append(shown.rows, []string{sku.SKU, fmt.Sprintf("%d × %s", sku.GpuCount, sku.GpuModel), byteSize(sku.GpuMemoryBytes),
						fmt.Sprint(sku.CPUCount), byteSize(sku.MemoryBytes), byteSize(sku.DiskBytes), sku.CudaVersion, sku.Location, priceOf(sku), fmt.Sprint(sku.AvailableNodes)})
				}
				return shown
			})
		},
	}
	get := &cobra.Command{
		Use: "get SKU", Short: "Show one SKU", Args: exact(1, "the SKU"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			api, err := c.api()
			if err != nil {
				return err
			}
			var sku client.SKU
			body, err := decode(&sku)(api.GetSKU(cmd.Context(), arguments[0]))
			if err != nil {
				return err
			}
			return c.show(body, func() table { return skuTable(sku) })
		},
	}
	return group("sku", "What can be rented, and for how much", list, get)
}

func skuTable(sku client.SKU) table {
	return fields("sku", sku.SKU, "name", sku.Name, "gpus", fmt.Sprintf("%d × %s", sku.GpuCount, sku.GpuModel), "gpu memory", byteSize(sku.GpuMemoryBytes),
		"cpus", fmt.Sprintf("%d (%s)", sku.CPUCount, sku.CPUModel), "memory", byteSize(sku.MemoryBytes), "disk", byteSize(sku.DiskBytes),
		"os", sku.OsImage, "cuda", sku.CudaVersion, "location", sku.Location, "offered", fmt.Sprint(sku.Offered),
		"price/hour", priceOf(sku), "free nodes", fmt.Sprint(sku.AvailableNodes))
}

func priceOf(sku client.SKU) string {
	if sku.Price == nil {
		return "no price yet"
	}
	return amount(sku.Price.RateMicrosPerHour, sku.Price.Currency)
}
