package api

import (
	"encoding/json"
	"fmt"
	"net/http"

	"go.yaml.in/yaml/v3"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/internal/swaggerui"
	"github.com/gpuaas/gpuaas/schema"
)

// contractPath and contractJSONPath serve the authored contract, which needs no rule: it is public text.
const (
	contractPath     = "/api/v1/openapi.yaml"
	contractJSONPath = "/api/v1/openapi.json"
)

// documentation serves the contract in both forms, and the page that shows it.
func (s *server) documentation() error {
	inJSON, err := contractJSON()
	if err != nil {
		return err
	}
	serve := func(path string, page http.Handler) {
		s.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			if err := s.limits.Admit(w, r, middleware.Anonymous); err != nil {
				middleware.WriteFault(w, r, s.config.Log, err)
				return
			}
			page.ServeHTTP(w, r)
		})
	}
	publish := func(path, kind string, text []byte) {
		serve(path, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			_, _ = w.Write(text)
		}))
	}
	publish(contractPath, "application/yaml", schema.OpenAPI)
	publish(contractJSONPath, "application/json", inJSON)
	pages, err := swaggerui.Handlers()
	if err != nil {
		return fmt.Errorf("the page of the contract: %w", err)
	}
	for path, page := range pages {
		serve(path, page)
	}
	return nil
}

func contractJSON() ([]byte, error) {
	var contract map[string]any
	if err := yaml.Unmarshal(schema.OpenAPI, &contract); err != nil {
		return nil, fmt.Errorf("the contract: %w", err)
	}
	return json.Marshal(contract)
}
