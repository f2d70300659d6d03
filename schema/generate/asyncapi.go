package main

import "path/filepath"

func bundleAsyncAPI(root string) error {
	contract, err := merge(filepath.Join(root, "schema/asyncapi"))
	if err != nil {
		return err
	}
	return contract.write(filepath.Join(root, "schema/asyncapi.yaml"))
}
