package cli

import (
	"fmt"
	"strings"
	"testing"

	client "github.com/gpuaas/gpuaas/client/go"
	"github.com/gpuaas/gpuaas/domain/hashchain"
)

func TestSignedHeadsAreHeldAgainstTheChain(t *testing.T) {
	chain := map[int64]string{1: "aa", 2: "bb"}
	for what, test := range map[string]struct {
		head   hashchain.Head
		broken int
	}{
		"one that stands":         {hashchain.Head{Number: 2, SHA256: "bb"}, 0},
		"one that was rewritten":  {hashchain.Head{Number: 1, SHA256: "ab"}, 1},
		"one that was cut off":    {hashchain.Head{Number: 3, SHA256: "cc"}, 1},
		"another block's instead": {hashchain.Head{Number: 2, SHA256: "aa"}, 1},
	} {
		found := &verification{Broken: []client.BrokenLedgerBlock{}, hashes: chain}
		found.compare([]hashchain.Head{test.head, {Number: 1, SHA256: "aa"}})
		if len(found.Broken) != test.broken || found.Heads != 2 || (test.broken == 1 && found.Broken[0].Number != test.head.Number) {
			t.Errorf("%s: %+v", what, found.Broken)
		}
	}
}

func TestAVerificationSaysWhetherItWasGivenHeads(t *testing.T) {
	for given, want := range map[bool]string{false: "no signed heads were given", true: "0 signed heads compared"} {
		if said := fmt.Sprint(verificationTable(&verification{Blocks: 3, Entries: 7, given: given}).rows); !strings.Contains(said, want) || !strings.Contains(said, "3 blocks with 7 entries hold") {
			t.Errorf("heads given %t: it says %s", given, said)
		}
	}
}
