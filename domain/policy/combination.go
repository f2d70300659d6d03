package policy

import (
	"slices"
	"strconv"

	"github.com/gpuaas/gpuaas/domain/fault"
)

// condition is one value that takes part in a refused combination.
type condition struct{ Key, Equals string }

// refusal is a set of values that must not stand beside each other, and the reason in a sentence.
type refusal struct {
	When    []condition
	Because string
}

// order says that the value of Low must not exceed the value of High.
type order struct{ Low, High IntKey }

// CheckTogether refuses values that do not go together with fault.PolicyCombinationRefused. values maps
// names to canonical texts and needs only the ones that were set: the defaults stand for all others. It is
// asked where a value is set and again where values are used, because two writers may each have been right.
func CheckTogether(values map[string]string) error {
	return check(values, func(...string) bool { return true })
}

// CheckChange refuses what CheckTogether refuses as far as the changed keys have a part in it: values that a newer release
// no longer lets stand beside each other must not keep anybody from changing another one.
func CheckChange(values map[string]string, changed ...string) error {
	return check(values, func(keys ...string) bool {
		return slices.ContainsFunc(keys, func(key string) bool { return slices.Contains(changed, key) })
	})
}

// check refuses the first rule that is broken among those that concern asks for by their keys.
func check(values map[string]string, concern func(keys ...string) bool) error {
	for _, refused := range refusedCombinations {
		if concern(refused.keys()...) && refused.holds(values) {
			return fault.New(fault.PolicyCombinationRefused, refused.Because).With(map[string]any{"keys": refused.keys()})
		}
	}
	for _, pair := range orderedPairs {
		if !concern(pair.Low.Name, pair.High.Name) {
			continue
		}
		low, err := pair.Low.Parse(valueOrDefault(values, pair.Low.Name, strconv.FormatInt(pair.Low.Default, 10)))
		if err != nil {
			return err
		}
		high, err := pair.High.Parse(valueOrDefault(values, pair.High.Name, strconv.FormatInt(pair.High.Default, 10)))
		if err != nil {
			return err
		}
		if low > high {
			return fault.Newf(fault.PolicyCombinationRefused, "%s (%d) must not exceed %s (%d).", pair.Low.Name, low, pair.High.Name, high).
				With(map[string]any{"keys": []string{pair.Low.Name, pair.High.Name}})
		}
	}
	return nil
}

func (r refusal) holds(values map[string]string) bool {
	for _, one := range r.When {
		key, err := Find(one.Key)
		if err != nil || valueOrDefault(values, one.Key, key.Info().Default) != one.Equals {
			return false
		}
	}
	return true
}

func (r refusal) keys() []string {
	names := make([]string, 0, len(r.When))
	for _, one := range r.When {
		names = append(names, one.Key)
	}
	return names
}

func valueOrDefault(values map[string]string, name, otherwise string) string {
	if value, set := values[name]; set {
		return value
	}
	return otherwise
}
