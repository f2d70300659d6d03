package stack

import (
	"strings"
	"testing"
)

func TestPoolsFitTheServer(t *testing.T) {
	const stock = 100 - 3 // as PostgreSQL is installed, less what is reserved for superusers
	cases := map[string]struct {
		allowed            int
		temporal, programs bool
		want               pools
		notice, refusal    string
	}{
		"a private server":                      {allowed: 297, temporal: true, programs: true, want: usualPools()},
		"a given server as it is installed":     {allowed: stock, temporal: true, programs: true, want: smallPools(), notice: "takes 97 connections"},
		"one that is just large enough":         {allowed: usualPools().connections(true, true), temporal: true, programs: true, want: usualPools()},
		"one short of that":                     {allowed: usualPools().connections(true, true) - 1, temporal: true, programs: true, want: smallPools(), notice: "raised by 1 "},
		"one that is too small":                 {allowed: 47, temporal: true, programs: true, refusal: "raise its max_connections by 45 or more"},
		"the same without programs of ours":     {allowed: 47, temporal: true, want: smallPools(), notice: "small"},
		"the same without programs or Temporal": {allowed: 47, want: usualPools()},
	}
	for what, c := range cases {
		t.Run(what, func(t *testing.T) {
			got, notice, err := choosePools(c.allowed, c.temporal, c.programs)
			if got != c.want || !strings.Contains(notice, c.notice) || (notice == "") != (c.notice == "") {
				t.Errorf("it gives %+v, %q", got, notice)
			}
			if (err == nil) != (c.refusal == "") || err != nil && !strings.Contains(err.Error(), c.refusal) {
				t.Errorf("it refuses with %v", err)
			}
		})
	}
}
