package process

import (
	"net/http"
	"net/url"

	"github.com/gpuaas/gpuaas/api"
	"github.com/gpuaas/gpuaas/internal/oidc"
)

// SignInConfig is how people and programs sign in through the API itself.
type SignInConfig struct {
	PublicURL     string `env:"GPUAAS_PUBLIC_URL" envDefault:"http://localhost:8081" usage:"where browsers find the API, without a path; over https the cookies are Secure"`
	WebClient     string `env:"OIDC_WEB_CLIENT" envDefault:"gpuaas-web" usage:"client that browsers sign in with, by code and PKCE"`
	WebSecret     string `env:"OIDC_WEB_CLIENT_SECRET" usage:"secret of that client; empty for a public one"`
	DeviceClient  string `env:"OIDC_DEVICE_CLIENT" envDefault:"gpuaas-cli" usage:"public client of the command line, whose tokens may be refreshed through the API"`
	APIClient     string `env:"OIDC_API_CLIENT" envDefault:"gpuaas-api" usage:"confidential client of the API"`
	APISecret     string `env:"OIDC_API_CLIENT_SECRET" usage:"secret of that client; empty: its tokens are not refreshed through the API"`
	PasswordLogin bool   `env:"GPUAAS_PASSWORD_LOGIN" envDefault:"false" usage:"whether POST /api/v1/auth/login takes passwords: for development only"`
}

// Check says in one sentence each what is wrong with the configuration.
func (c SignInConfig) Check() []string {
	var mistakes []string
	parsed, err := url.Parse(c.PublicURL)
	if c.PublicURL != "" && (err != nil || (parsed.Scheme != "http" && parsed.Scheme != "https") || parsed.Host == "" || parsed.Path != "" || parsed.RawQuery != "") {
		mistakes = append(mistakes, "GPUAAS_PUBLIC_URL must look like https://gpuaas.example, without a path.")
	}
	if c.PasswordLogin && c.APISecret == "" {
		mistakes = append(mistakes, "GPUAAS_PASSWORD_LOGIN needs OIDC_API_CLIENT_SECRET.")
	}
	return mistakes
}

// defaultPublicURL is where a browser on this machine finds an API that says nothing else.
const defaultPublicURL = "http://localhost:8081"

func (c SignInConfig) clients(verifier *oidc.Verifier, issuer *http.Client) api.SignIn {
	if c.PublicURL == "" {
		c.PublicURL = defaultPublicURL
	}
	signIn := api.SignIn{PublicURL: c.PublicURL, Refreshers: map[string]*oidc.Client{}}
	signIn.Web = oidc.NewClient(verifier, issuer, c.WebClient, c.WebSecret, c.PublicURL+api.CallbackPath)
	if c.DeviceClient != "" {
		signIn.Refreshers[c.DeviceClient] = oidc.NewClient(verifier, issuer, c.DeviceClient, "", "")
	}
	if c.APISecret != "" {
		client := oidc.NewClient(verifier, issuer, c.APIClient, c.APISecret, "")
		signIn.Refreshers[c.APIClient] = client
		if c.PasswordLogin {
			signIn.Password = client
		}
	}
	return signIn
}
