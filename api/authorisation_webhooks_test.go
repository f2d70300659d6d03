//go:build integration

package api_test

import (
	"fmt"
	"time"

	"github.com/gpuaas/gpuaas/internal/temporal/temporaltest"
)

// Endpoints of the matrix listen where nobody does, and to what never happens.
const unheard = `"url":"https://127.0.0.1:1/hook","event_types":["webhooks.endpoint_disabled"]`

// endpoint makes an endpoint of the tenant and answers its id.
func (s *scene) endpoint() string {
	s.t.Helper()
	s.made++
	made := s.ask("POST", "/api/v1/webhooks", s.credentials["owner"], fmt.Sprintf("webhook-%03d", s.made), `{"tenant_id":"`+s.tenant+`",`+unheard+`}`)
	if made.status != 201 {
		s.t.Fatalf("the scene's webhook is answered %d %s", made.status, made.body)
	}
	endpoint, _ := made.fields()["webhook"].(map[string]any)
	return fmt.Sprint(endpoint["id"])
}

// delivered is a delivery of a test to the endpoint, which has ended.
func (s *scene) delivered(webhook string) string {
	s.t.Helper()
	s.needBus()
	s.made++
	made := s.ask("POST", "/api/v1/webhooks/"+webhook+"/test", s.credentials["owner"], fmt.Sprintf("webhook-test-%03d", s.made), "")
	if made.status != 201 {
		s.t.Fatalf("the scene's test of a webhook is answered %d %s", made.status, made.body)
	}
	delivery := made.text("id")
	temporaltest.Eventually(s.t, time.Minute, func() error {
		if state := s.field(`SELECT state FROM webhook_deliveries WHERE id = $1`, delivery); state != "failed" {
			return fmt.Errorf("the delivery is %s", state)
		}
		return nil
	})
	return delivery
}

func (s *scene) webhookRequests() map[string]func(string) subject {
	here := "?tenant_id=" + s.tenant
	of := map[string]string{"webhook_id": s.endpoint()}
	delivery := map[string]string{"delivery_id": s.delivered(of["webhook_id"])}
	fresh := func(body string) func(string) subject {
		return func(string) subject {
			return subject{path: map[string]string{"webhook_id": s.endpoint()}, body: body}
		}
	}
	return map[string]func(string) subject{
		"createWebhook":         always(subject{body: `{"tenant_id":"` + s.tenant + `",` + unheard + `}`}),
		"listWebhooks":          always(subject{query: here}),
		"getWebhook":            always(subject{path: of}),
		"updateWebhook":         fresh(`{"description":"matrix"}`),
		"deleteWebhook":         fresh(""),
		"rotateWebhookSecret":   fresh(`{}`),
		"testWebhook":           fresh(""),
		"listWebhookDeliveries": always(subject{path: of}),
		"getWebhookDelivery":    always(subject{path: delivery}),
		"redeliverWebhook": func(string) subject {
			return subject{path: map[string]string{"delivery_id": s.delivered(of["webhook_id"])}}
		},
	}
}
