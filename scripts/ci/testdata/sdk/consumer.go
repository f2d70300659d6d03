// What somebody who depends on the Go client writes: built by scripts/ci/sdk_codegen_smoke.sh in a directory of its own.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"

	client "github.com/gpuaas/gpuaas/client/go"
	"github.com/gpuaas/gpuaas/domain/fault"
)

func main() {
	text, err := os.ReadFile(os.Getenv("ENDPOINTS"))
	if err != nil {
		log.Fatal(err)
	}
	var at struct {
		APIURL   string `json:"api_url"`
		TokenURL string `json:"token_url"`
	}
	if err := json.Unmarshal(text, &at); err != nil {
		log.Fatal(err)
	}
	api, err := client.Connect(at.APIURL, signIn(at.TokenURL), nil)
	if err != nil {
		log.Fatal(err)
	}
	ctx, found := context.Background(), 0
	for sku, err := range client.Each[client.SKU](ctx, func(ctx context.Context, cursor *string) (*http.Response, error) {
		return api.ListSkus(ctx, &client.ListSkusParams{Cursor: cursor})
	}) {
		if err != nil {
			log.Fatal(err)
		}
		found++
		fmt.Println("go:", sku.SKU, "with", sku.AvailableNodes, "free nodes")
	}
	if found == 0 {
		log.Fatal("there is no SKU")
	}
	answer, err := api.GetSKUWithResponse(ctx, "no-such-sku")
	if err != nil {
		log.Fatal(err)
	}
	if err := client.Check(answer.HTTPResponse, answer.Body); !errors.Is(err, fault.SKUNotFound) {
		log.Fatalf("an unknown SKU answers %v", err)
	}
}

// signIn asks for a token at each call; a real program keeps it until it ends.
func signIn(tokenURL string) client.TokenSource {
	return func(context.Context) (string, error) {
		response, err := http.PostForm(tokenURL, url.Values{
			"grant_type": {"password"}, "client_id": {"gpuaas-api"}, "client_secret": {"dev-client-secret"}, "username": {"dev-user"}, "password": {"dev123"},
		})
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		var token struct {
			AccessToken string `json:"access_token"`
		}
		err = json.NewDecoder(response.Body).Decode(&token)
		return token.AccessToken, err
	}
}
