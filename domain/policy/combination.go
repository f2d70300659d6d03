package policy

import (
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
	for _, refused := range refusedCombinations {
		if refused.holds(values) {
			return refused.fault()
		}
	}
	for _, pair := range orderedPairs {
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

func (r refusal) fault() *fault.Error {
	names := make([]string, 0, len(r.When))
	for _, one := range r.When {
		names = append(names, one.Key)
	}
	return fault.New(fault.PolicyCombinationRefused, r.Because).With(map[string]any{"keys": names})
}

func valueOrDefault(values map[string]string, name, otherwise string) string {
	if value, set := values[name]; set {
		return value
	}
	return otherwise
}
