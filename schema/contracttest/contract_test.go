package contracttest_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gpuaas/gpuaas/schema/contracttest"
)

const (
	skuPath = "/api/v1/skus/h100-8x"
	price   = `{"id":"price_mfrggzdfmztwq2lknnwg23tpob","sku":"h100-8x","currency":"usd","rate_micros_per_hour":1,` +
		`"valid_from":"2026-01-01T00:00:00.000Z","created_at":"2026-01-01T00:00:00.000Z"}`
	pricesPath = "/api/v1/admin/skus/h100-8x/prices"
	priceBody  = `{"currency":"usd","rate_micros_per_hour":1}`
)

func envelope(code string) string {
	return fmt.Sprintf(`{"code":%q,"message":"No.","correlation_id":"c1","details":{}}`, code)
}

func TestMistakes(t *testing.T) {
	contract, err := contracttest.Load()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		method, url, asked string
		status             int
		body               string
		header             http.Header
		want               string // empty: no mistake
	}{
		"a success":                    {"POST", pricesPath, priceBody, 201, price, nil, ""},
		"a refusal":                    {"GET", skuPath, "", 404, envelope("sku_not_found"), nil, ""},
		"an implied refusal":           {"GET", skuPath, "", 403, envelope("token_scope_invalid"), nil, ""},
		"another operation's code":     {"GET", skuPath, "", 404, envelope("node_not_found"), nil, "/code"},
		"a code under another status":  {"GET", skuPath, "", 403, envelope("sku_not_found"), nil, "/code"},
		"a status that is not listed":  {"GET", skuPath, "", 409, envelope("node_in_use"), nil, "does not list that status for getSku"},
		"a field too many":             {"POST", pricesPath, priceBody, 201, strings.Replace(price, "{", `{"x":1,`, 1), nil, "additional properties"},
		"a time that is none":          {"POST", pricesPath, priceBody, 201, strings.Replace(price, "2026-01-01T", "yesterday ", 1), nil, "date-time"},
		"an error without envelope":    {"GET", skuPath, "", 500, "oops", nil, "is no JSON"},
		"another content type":         {"GET", skuPath, "", 404, envelope("sku_not_found"), http.Header{"Content-Type": {"text/plain"}}, "content type"},
		"no correlation id":            {"GET", skuPath, "", 404, envelope("sku_not_found"), http.Header{"X-Correlation-Id": nil}, "no X-Correlation-Id"},
		"no challenge":                 {"GET", skuPath, "", 401, envelope("token_missing"), nil, "lacks the header WWW-Authenticate"},
		"a Retry-After that is none":   {"GET", skuPath, "", 429, envelope("rate_limit_exceeded"), http.Header{"Retry-After": {"soon"}}, "the header Retry-After"},
		"success of an invalid body":   {"POST", pricesPath, `{"currency":"USD","rate_micros_per_hour":1}`, 201, price, nil, "the request is invalid"},
		"success of an unknown query":  {"GET", "/api/v1/skus?colour=red", "", 200, `{"items":[]}`, nil, "query parameter colour is unknown"},
		"success of a limit too large": {"GET", "/api/v1/skus?limit=201", "", 200, `{"items":[]}`, nil, "the parameter limit"},
		"success without its key":      {"POST", "/api/v1/admin/accounts/acct_mfrggzdfmztwq2lknnwg23tpob/adjustments", `{"amount_minor":1,"currency":"usd","reason":"r"}`, 201, `{}`, nil, "X-Idempotency-Key is missing"},
		"success of an invalid id":     {"GET", "/api/v1/allocations/x", "", 200, `{}`, nil, "the parameter allocation_id"},
		"nothing there":                {"GET", "/nowhere", "", 404, envelope("not_found"), nil, ""},
		"something there":              {"GET", "/nowhere", "", 200, "{}", nil, "no such operation"},
		"no envelope where nothing is": {"GET", "/nowhere", "", 404, "404 page not found", nil, "is no JSON"},
		"the contract itself":          {"GET", "/api/v1/openapi.yaml", "", 200, "openapi: 3.1.0", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			at, err := url.Parse(test.url)
			if err != nil {
				t.Fatal(err)
			}
			header := http.Header{"Content-Type": {"application/json"}, "X-Correlation-Id": {"c1"}}
			for field, values := range test.header {
				header[field] = values
			}
			mistakes := strings.Join(contract.Mistakes(contracttest.Exchange{
				Method: test.method, URL: at, Sent: http.Header{}, Asked: []byte(test.asked), Status: test.status, Header: header, Body: []byte(test.body),
			}), "\n")
			if (test.want == "") != (mistakes == "") || !strings.Contains(mistakes, test.want) {
				t.Errorf("the mistakes are %q, not %q", mistakes, test.want)
			}
		})
	}
}

func TestASegmentThatIsSpeltOutCountsMore(t *testing.T) {
	contract, err := contracttest.Load()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/api/v1/admin/nodes/node_x": "getNode", "/api/v1/admin/nodes": "listNodes", "/api/v1/admin/nodes/": "",
	} {
		if got := contract.Operation("GET", &url.URL{Path: path}); got != want {
			t.Errorf("GET %s is %q, not %q", path, got, want)
		}
	}
	if got := contract.Operation("POST", &url.URL{Path: "/api/v1/admin/nodes/enrol-tokens"}); got != "createNodeEnrolToken" {
		t.Errorf("POST enrol-tokens is %q", got)
	}
}
