package main

import (
	"testing"
)

func TestWhatIsAskedForIsTheStorm(t *testing.T) {
	for name, test := range map[string]struct {
		arguments             []string
		seed                  string
		allocations, accounts int
		refused               bool
	}{
		"nothing":                      {nil, "7", 300, 30, false},
		"few allocations":              {[]string{"-allocations", "20"}, "7", 20, 20, false},
		"as few as there may be":       {[]string{"-allocations", "5"}, "7", 5, 5, false},
		"too few for anybody poor":     {[]string{"-allocations", "4"}, "7", 0, 0, true},
		"more accounts":                {[]string{"-accounts", "39"}, "7", 300, 39, false},
		"more accounts than they rent": {[]string{"-allocations", "20", "-accounts", "21"}, "7", 0, 0, true},
		"a seed that is no number":     {nil, "tuesday", 0, 0, true},
		"a seed that is too large":     {nil, "18446744073709551616", 0, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("SEED", test.seed)
			t.Setenv("PLANT", "")
			config, storm, err := parse("money", test.arguments)
			if (err != nil) != test.refused {
				t.Fatalf("it is answered %v", err)
			}
			if !test.refused && (storm == nil || config.seed != 7 || config.allocations != test.allocations || config.accounts != test.accounts) {
				t.Errorf("it becomes %+v", config)
			}
		})
	}
}

func TestAFreshSeedIsAnother(t *testing.T) {
	one, err := seed("")
	if err != nil {
		t.Fatal(err)
	}
	if other, err := seed(""); err != nil || one == other {
		t.Errorf("two fresh seeds are %d and %d: %v", one, other, err)
	}
}
