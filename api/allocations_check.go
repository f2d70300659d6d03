package api

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"github.com/gpuaas/gpuaas/internal/sshkey"
)

var saneLabelKey = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$`)

// checkName accepts what a person can read in one line.
func checkName(name string) error {
	if name != strings.TrimSpace(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return invalid("body.name", "a name has printable characters only and no space at its ends")
	}
	return nil
}

func checkLabels(labels map[string]labelValue, most int64) (map[string]string, error) {
	if int64(len(labels)) > most {
		return nil, invalid("body.labels", fmt.Sprintf("at most %d labels are accepted", most))
	}
	checked := make(map[string]string, len(labels))
	for key, value := range labels {
		if !saneLabelKey.MatchString(key) {
			return nil, invalid("body.labels", "a label's key has 1 to 63 letters, digits, dots, dashes, slashes or underscores and ends in a letter or digit")
		}
		if strings.ContainsFunc(string(value), func(r rune) bool { return !unicode.IsPrint(r) }) {
			return nil, invalid("body.labels."+key, "a label's value has printable characters only")
		}
		checked[key] = string(value)
	}
	return checked, nil
}

// checkSSHKeys reads each key and keeps it once.
func checkSSHKeys(keys []publicKey, most int64) ([]string, error) {
	if int64(len(keys)) > most {
		return nil, tooManyKeys("body.ssh_keys", most)
	}
	checked, seen := make([]string, 0, len(keys)), map[string]bool{}
	for i, key := range keys {
		parsed, err := sshkey.Parse(string(key))
		if err != nil {
			return nil, invalid(fmt.Sprintf("body.ssh_keys[%d]", i), err.Error())
		}
		if !seen[parsed.Line] {
			seen[parsed.Line] = true
			checked = append(checked, parsed.Line)
		}
	}
	return checked, nil
}

func tooManyKeys(location string, most int64) error {
	return invalid(location, fmt.Sprintf("at most %d keys are accepted", most))
}
