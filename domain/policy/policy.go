// Package policy holds the typed keys of everything an operator may tune, generated from
// schema/policy.yaml, and the rules a value must keep. Reading and writing values is the store's work;
// this package imports the standard library and domain/fault only.
package policy

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gpuaas/gpuaas/domain/fault"
)

// Type is the type of a key's value.
type Type string

// The three types a policy value can have.
const (
	TypeInt    Type = "int"
	TypeBool   Type = "bool"
	TypeString Type = "string"
)

// Info is what people are shown about a key.
type Info struct {
	Name string
	Type Type
	// Default is the canonical text of the value that holds while none was set.
	Default string
	// Min and Max bound an int, both inclusive; they mean nothing for other types.
	Min, Max int64
	// Allowed lists the values of a string key; without them it is a free text of at most Longest characters.
	Allowed []string
	Longest int
	// Unit is what an int counts; empty for other types.
	Unit    string
	Meaning string
	// Danger is what an operator must know before changing the value; mostly empty.
	Danger string
	// Pinned says that an allocation keeps the value that held when it was admitted.
	Pinned bool
	// Tenant says that an operator may set another value for a single tenant.
	Tenant bool
}

// Key is a policy key of any type. A value has one canonical text, which is what the database holds:
// decimal digits, true or false, or the string itself.
type Key interface {
	Info() Info
	// Check refuses a text that is not a canonical value of this key with fault.PolicyValueInvalid.
	Check(text string) error
	// FromJSON turns a JSON value into the canonical text, or refuses it with fault.PolicyValueInvalid.
	FromJSON(value []byte) (string, error)
	// ToJSON turns a canonical text into a JSON value of the key's type.
	ToJSON(text string) (json.RawMessage, error)
}

// IntKey is a key whose value is a whole number.
type IntKey struct {
	Name     string
	Default  int64
	Min, Max int64
	Unit     string
	Meaning  string
	Danger   string
	Pinned   bool
	Tenant   bool
}

// BoolKey is a key whose value is true or false.
type BoolKey struct {
	Name    string
	Default bool
	Meaning string
	Danger  string
	Pinned  bool
	Tenant  bool
}

// StringKey is a key whose value is one of a few words, or a free text of at most Longest characters where none are listed.
type StringKey struct {
	Name    string
	Default string
	Allowed []string
	Longest int
	Meaning string
	Danger  string
	Pinned  bool
	Tenant  bool
}

// All lists every key in the order of schema/policy.yaml.
func All() []Key { return slices.Clone(keys) }

// Find is the key of that name, or fault.PolicyNotFound.
func Find(name string) (Key, error) {
	for _, key := range keys {
		if key.Info().Name == name {
			return key, nil
		}
	}
	return nil, fault.Newf(fault.PolicyNotFound, "There is no policy key %q.", name).With(map[string]any{"key": name})
}

// Info is what people are shown about the key.
func (k IntKey) Info() Info {
	return Info{Name: k.Name, Type: TypeInt, Default: strconv.FormatInt(k.Default, 10), Min: k.Min, Max: k.Max,
		Unit: k.Unit, Meaning: k.Meaning, Danger: k.Danger, Pinned: k.Pinned, Tenant: k.Tenant}
}

// Parse reads a canonical text; fault.PolicyValueInvalid when it is no whole number within the key's range.
func (k IntKey) Parse(text string) (int64, error) {
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil || strconv.FormatInt(value, 10) != text {
		return 0, invalid(k.Name, text, "%s takes a whole number, not %q.", k.Name, text)
	}
	return value, k.Validate(value)
}

// Validate refuses a value outside the key's range with fault.PolicyValueInvalid.
func (k IntKey) Validate(value int64) error {
	if value < k.Min || value > k.Max {
		return invalid(k.Name, strconv.FormatInt(value, 10), "%s takes %d to %d %s, not %d.", k.Name, k.Min, k.Max, k.Unit, value).
			With(map[string]any{"min": k.Min, "max": k.Max})
	}
	return nil
}

// Check refuses what Parse refuses.
func (k IntKey) Check(text string) error {
	_, err := k.Parse(text)
	return err
}

// FromJSON accepts a JSON number without fraction or exponent.
func (k IntKey) FromJSON(value []byte) (string, error) {
	text := string(bytes.TrimSpace(value))
	return text, k.Check(text)
}

// ToJSON is the number.
func (k IntKey) ToJSON(text string) (json.RawMessage, error) {
	return json.RawMessage(text), k.Check(text)
}

// Info is what people are shown about the key.
func (k BoolKey) Info() Info {
	return Info{Name: k.Name, Type: TypeBool, Default: strconv.FormatBool(k.Default), Meaning: k.Meaning, Danger: k.Danger, Pinned: k.Pinned, Tenant: k.Tenant}
}

// Parse reads "true" or "false"; fault.PolicyValueInvalid for anything else.
func (k BoolKey) Parse(text string) (bool, error) {
	switch text {
	case "true":
		return true, nil
	case "false":
		return false, nil
	default:
		return false, invalid(k.Name, text, "%s takes true or false, not %q.", k.Name, text)
	}
}

// Check refuses what Parse refuses.
func (k BoolKey) Check(text string) error {
	_, err := k.Parse(text)
	return err
}

// FromJSON accepts the JSON literals true and false.
func (k BoolKey) FromJSON(value []byte) (string, error) {
	text := string(bytes.TrimSpace(value))
	return text, k.Check(text)
}

// ToJSON is the literal.
func (k BoolKey) ToJSON(text string) (json.RawMessage, error) {
	return json.RawMessage(text), k.Check(text)
}

// Info is what people are shown about the key.
func (k StringKey) Info() Info {
	return Info{Name: k.Name, Type: TypeString, Default: k.Default, Allowed: slices.Clone(k.Allowed), Longest: k.Longest, Meaning: k.Meaning, Danger: k.Danger, Pinned: k.Pinned, Tenant: k.Tenant}
}

// Parse accepts one of the allowed words, or a text of printable lines that is not too long; fault.PolicyValueInvalid for anything
// else.
func (k StringKey) Parse(text string) (string, error) {
	if k.Longest > 0 {
		unprintable := strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) })
		if unprintable || utf8.RuneCountInString(text) > k.Longest {
			return "", invalid(k.Name, text, "%s takes a text of at most %d printable characters.", k.Name, k.Longest).With(map[string]any{"longest": k.Longest})
		}
		return text, nil
	}
	if !slices.Contains(k.Allowed, text) {
		return "", invalid(k.Name, text, "%s takes one of %q, not %q.", k.Name, k.Allowed, text).With(map[string]any{"allowed": k.Allowed})
	}
	return text, nil
}

// Check refuses what Parse refuses.
func (k StringKey) Check(text string) error {
	_, err := k.Parse(text)
	return err
}

// FromJSON accepts a JSON string.
func (k StringKey) FromJSON(value []byte) (string, error) {
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		return "", invalid(k.Name, string(value), "%s takes a string.", k.Name)
	}
	return k.Parse(text)
}

// ToJSON is the quoted word.
func (k StringKey) ToJSON(text string) (json.RawMessage, error) {
	if err := k.Check(text); err != nil {
		return nil, err
	}
	return json.Marshal(text)
}

func invalid(name, value, format string, arguments ...any) *fault.Error {
	return fault.Newf(fault.PolicyValueInvalid, format, arguments...).With(map[string]any{"key": name, "value": value})
}
