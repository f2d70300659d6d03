// Shows the contract that this server publishes. validatorUrl is null so that nothing is sent to a validator elsewhere.
SwaggerUIBundle({
  url: "/api/v1/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
