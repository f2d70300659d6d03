package node_test

import (
	"testing"

	"github.com/gpuaas/gpuaas/domain/node"
)

func TestEveryTaskSaysWhatItDoes(t *testing.T) {
	said := map[string]node.TaskKind{}
	for _, kind := range node.TaskKinds() {
		sentence := kind.Sentence()
		if other, twice := said[sentence]; twice || sentence == string(kind) {
			t.Errorf("%s says %q, and so does %q", kind, sentence, other)
		}
		said[sentence] = kind
	}
	if len(said) == 0 || node.TaskKind("exec").Sentence() != "exec" {
		t.Errorf("%d tasks say something, and what is no task %q", len(said), node.TaskKind("exec").Sentence())
	}
}
