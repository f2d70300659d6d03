package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

type policyFile struct {
	Keys                []policyKey         `yaml:"keys"`
	RefusedCombinations []policyCombination `yaml:"refused_combinations"`
	OrderedPairs        []policyPair        `yaml:"ordered_pairs"`
}

type policyKey struct {
	Key     string   `yaml:"key"`
	Type    string   `yaml:"type"`
	Default any      `yaml:"default"`
	Min     *int     `yaml:"min"`
	Max     *int     `yaml:"max"`
	Allowed []string `yaml:"allowed"`
	Longest *int     `yaml:"longest"`
	Unit    string   `yaml:"unit"`
	Meaning string   `yaml:"meaning"`
	Danger  string   `yaml:"danger"`
	Pinned  bool     `yaml:"pinned"`
	Tenant  bool     `yaml:"tenant"`
}

type policyCombination struct {
	When    map[string]string `yaml:"when"`
	Because string            `yaml:"because"`
}

type policyPair struct {
	Low  string `yaml:"low"`
	High string `yaml:"high"`
}

func generatePolicy(root string) error {
	const source = "schema/policy.yaml"
	var policy policyFile
	if err := readStrictly(filepath.Join(root, source), &policy); err != nil {
		return err
	}
	if err := policy.check(); err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	if err := writeGo(filepath.Join(root, "domain/policy/keys_gen.go"), policy.goSource(source)); err != nil {
		return err
	}
	return write(filepath.Join(root, "client/ts/src/policy.gen.ts"), policy.typeScript(source))
}

func (p policyFile) check() error {
	types := map[string]string{}
	for _, key := range p.Keys {
		if !dottedName.MatchString(key.Key) {
			return fmt.Errorf("key %q is not of the form noun.name", key.Key)
		}
		if types[key.Key] != "" {
			return fmt.Errorf("key %s stands twice", key.Key)
		}
		if err := key.check(); err != nil {
			return fmt.Errorf("key %s: %w", key.Key, err)
		}
		types[key.Key] = key.Type
	}
	for _, combination := range p.RefusedCombinations {
		for name := range combination.When {
			if types[name] == "" {
				return fmt.Errorf("a refused combination names the unknown key %s", name)
			}
		}
	}
	for _, pair := range p.OrderedPairs {
		if types[pair.Low] != "int" || types[pair.High] != "int" {
			return fmt.Errorf("the ordered pair %s, %s must name two int keys", pair.Low, pair.High)
		}
	}
	return nil
}

func (k policyKey) check() error {
	if !strings.HasSuffix(k.Meaning, ".") {
		return fmt.Errorf("the meaning is not a sentence")
	}
	switch k.Type {
	case "int":
		value, whole := k.Default.(int)
		if !whole || k.Min == nil || k.Max == nil || k.Unit == "" {
			return fmt.Errorf("an int needs a whole default, min, max and unit")
		}
		if value < *k.Min || value > *k.Max {
			return fmt.Errorf("the default %d lies outside %d to %d", value, *k.Min, *k.Max)
		}
	case "bool":
		if _, truth := k.Default.(bool); !truth || k.Min != nil || k.Max != nil || k.Allowed != nil {
			return fmt.Errorf("a bool needs a default of true or false and takes neither range nor allowed values")
		}
	case "string":
		value, text := k.Default.(string)
		switch free := k.Longest != nil; {
		case !text, free && (len(value) > *k.Longest || k.Allowed != nil):
			return fmt.Errorf("a free text needs a default that is not too long, and no allowed values")
		case !free && !slices.Contains(k.Allowed, value):
			return fmt.Errorf("a string needs its allowed values, the default among them, or the longest that it may be")
		}
	default:
		return fmt.Errorf("%q is no type: int, bool or string", k.Type)
	}
	return nil
}

func (p policyFile) goSource(source string) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "// "+notice+"\n\npackage policy\n\n// The keys of %s, in its order.\nvar (\n", source, source)
	for _, key := range p.Keys {
		fmt.Fprintf(&out, "\t// %s is %q. %s\n\t%s = %s\n", goName(key.Key), key.Key, key.Meaning, goName(key.Key), key.goLiteral())
	}
	out.WriteString(")\n\nvar keys = []Key{\n")
	for _, key := range p.Keys {
		fmt.Fprintf(&out, "\t%s,\n", goName(key.Key))
	}
	out.WriteString("}\n\nvar refusedCombinations = []refusal{\n")
	for _, combination := range p.RefusedCombinations {
		out.WriteString("\t{When: []condition{")
		for _, name := range sortedNames(combination.When) {
			fmt.Fprintf(&out, "{Key: %q, Equals: %q}, ", name, combination.When[name])
		}
		fmt.Fprintf(&out, "}, Because: %q},\n", combination.Because)
	}
	out.WriteString("}\n\nvar orderedPairs = []order{\n")
	for _, pair := range p.OrderedPairs {
		fmt.Fprintf(&out, "\t{Low: %s, High: %s},\n", goName(pair.Low), goName(pair.High))
	}
	out.WriteString("}\n")
	return out.Bytes()
}

func (k policyKey) goLiteral() string {
	var fields []string
	field := func(name string, value any) { fields = append(fields, fmt.Sprintf("\t%s: %#v,", name, value)) }
	field("Name", k.Key)
	field("Default", k.Default)
	switch k.Type {
	case "int":
		field("Min", *k.Min)
		field("Max", *k.Max)
		field("Unit", k.Unit)
	case "string":
		if k.Longest != nil {
			field("Longest", *k.Longest)
		} else {
			field("Allowed", k.Allowed)
		}
	}
	field("Meaning", k.Meaning)
	if k.Danger != "" {
		field("Danger", k.Danger)
	}
	if k.Pinned {
		field("Pinned", true)
	}
	if k.Tenant {
		field("Tenant", true)
	}
	return map[string]string{"int": "IntKey", "bool": "BoolKey", "string": "StringKey"}[k.Type] + "{\n" + strings.Join(fields, "\n") + "\n}"
}

func (p policyFile) typeScript(source string) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "// "+notice+"\n\n", source)
	out.WriteString("/** The type of every policy value, by key. */\nexport interface PolicyValues {\n")
	for _, key := range p.Keys {
		fmt.Fprintf(&out, "  /** %s%s */\n  %q: %s;\n", key.Meaning, unitSuffix(key.Unit), key.Key, key.typeScriptType())
	}
	out.WriteString("}\n\nexport type PolicyKey = keyof PolicyValues;\n\nexport const policyDefaults: Readonly<PolicyValues> = {\n")
	for _, key := range p.Keys {
		fmt.Fprintf(&out, "  %q: %#v,\n", key.Key, key.Default)
	}
	out.WriteString("};\n")
	return out.Bytes()
}

func unitSuffix(unit string) string {
	if unit == "" {
		return ""
	}
	return " Counted in " + unit + "."
}

func (k policyKey) typeScriptType() string {
	switch k.Type {
	case "int":
		return "number"
	case "bool":
		return "boolean"
	default:
		if k.Longest != nil {
			return "string"
		}
		quoted := make([]string, 0, len(k.Allowed))
		for _, word := range k.Allowed {
			quoted = append(quoted, fmt.Sprintf("%q", word))
		}
		return strings.Join(quoted, " | ")
	}
}

func sortedNames(values map[string]string) []string {
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
