package api

import (
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gpuaas/gpuaas/api/middleware"
)

// completeContract writes down what Huma cannot know: the headers that middleware sets, and that readiness answers 503
// with the same body, and what a document is.
func (s *server) completeContract() {
	if ready := s.huma.OpenAPI().Paths["/readyz"]; ready != nil && ready.Get != nil {
		ready.Get.Responses["503"] = &huma.Response{Description: "At least one dependency that is needed is missing.", Content: ready.Get.Responses["200"].Content}
	}
	if exchange := s.huma.OpenAPI().Paths["/api/v1/auth/token"]; exchange != nil && exchange.Post != nil {
		content := exchange.Post.RequestBody.Content
		content[formType] = content["application/json"]
	}
	for path, kinds := range map[string][]string{
		"/api/v1/billing/statements/{month}/document":    {"application/pdf", "text/csv"},
		"/api/v1/payments/{payment_id}/receipt/document": {"application/pdf", "text/csv"},
		"/api/v1/refunds/{refund_id}/receipt/document":   {"application/pdf", "text/csv"},
	} {
		if document := s.huma.OpenAPI().Paths[path]; document != nil && document.Get != nil {
			content := map[string]*huma.MediaType{}
			for _, kind := range kinds {
				content[kind] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}
			}
			document.Get.Responses["200"].Content = content
			delete(document.Get.Responses["200"].Headers, "Content-Type") // the content says it
		}
	}
	if told := s.huma.OpenAPI().Paths["/api/v1/payments/webhook"]; told != nil && told.Post != nil {
		told.Post.RequestBody.Required = true
		told.Post.RequestBody.Content["application/json"].Schema = freeForm{}.Schema(nil)
	}
	for _, item := range s.huma.OpenAPI().Paths {
		for _, operation := range []*huma.Operation{item.Get, item.Put, item.Post, item.Patch, item.Delete} {
			if operation == nil {
				continue
			}
			keyed := slices.ContainsFunc(operation.Parameters, func(p *huma.Param) bool { return p.Name == middleware.HeaderIdempotencyKey })
			for status, response := range operation.Responses {
				if response.Headers == nil {
					response.Headers = map[string]*huma.Param{}
				}
				header := func(name string) {
					response.Headers[name] = &huma.Param{Required: true, Schema: &huma.Schema{Type: huma.TypeString}}
				}
				header(middleware.HeaderCorrelationID)
				header(middleware.HeaderRateLimitPolicy)
				header(middleware.HeaderRateLimit)
				switch {
				case status == "401":
					header(middleware.HeaderChallenge)
				case status == "429":
					header("Retry-After")
				case keyed && status < "300":
					header(middleware.HeaderReplayed)
				}
			}
		}
	}
}
