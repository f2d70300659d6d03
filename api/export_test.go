package api

import "net/http"

// PrivilegedMutations are the operations of the table of which the audit log must tell.
func PrivilegedMutations() (operations []string) {
	for _, line := range routes {
		if line.method != http.MethodGet && line.rule.permission.Privileged() {
			operations = append(operations, line.operation)
		}
	}
	return operations
}
