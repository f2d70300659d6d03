// Shows the contract that this server publishes. validatorUrl is null so that nothing is sent to a validator elsewhere. The
// nouns are shown closed: all operations at once take a browser many seconds.
SwaggerUIBundle({
  url: "/api/v1/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  docExpansion: "none",
  validatorUrl: null,
});
