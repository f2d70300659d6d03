// Package conformance holds an OIDC issuer to what the platform needs of one. Its tests (tag oidc) drive every flow as a
// browser, a device and a service would, and judge the tokens by internal/oidc; the same tests run against the development
// stack's issuer and against a Keycloak with the realm of deploy/keycloak. The package has no code of its own.
package conformance
