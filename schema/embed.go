// Package schema embeds what the platform promises: the bundled contracts and the authored catalogues they
// refer to. The API serves the contract from here and tests compare it with what is really served. It
// imports nothing.
package schema

import _ "embed"

// OpenAPI is the bundled contract of the public API (schema/openapi.yaml).
//
//go:embed openapi.yaml
var OpenAPI []byte

// AsyncAPI is the bundled contract of the events (schema/asyncapi.yaml).
//
//go:embed asyncapi.yaml
var AsyncAPI []byte

// Errors is the authored catalogue of error codes (schema/errors.yaml).
//
//go:embed errors.yaml
var Errors []byte

// Policy is the authored catalogue of policy keys (schema/policy.yaml).
//
//go:embed policy.yaml
var Policy []byte

// Seed is the idempotent seed of a development stack (schema/seed.sql).
//
//go:embed seed.sql
var Seed string
