package stack

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// Variable is one line of a program's environment.
type Variable struct{ Name, Value string }

// ProgramEnvironment is the configuration of every program of ours against the instance in dataDir: the one that
// `up` gives to the programs it runs, and that starts them separately.
func ProgramEnvironment(dataDir string, e Endpoints) ([]Variable, error) {
	var m memory
	raw, err := os.ReadFile(filepath.Join(dataDir, "instance.json"))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	return []Variable{
		{"DATABASE_URL", e.DatabaseURL},
		{"TEMPORAL_ADDRESS", e.TemporalAddress},
		{"TEMPORAL_NAMESPACE", e.TemporalNamespace},
		{"KEYCLOAK_ISSUER_URL", e.IssuerURL},
		{"GPUAAS_PROBE_SECRET", m.ProbeSecret},
	}, nil
}
