package temporal

// UIPath is where operators find Temporal's UI, below the platform's public URL: the API serves it there, and the UI itself is told
// the same public path.
const UIPath = "/operator/temporal"
