package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

type errorCatalogue struct {
	Groups []struct {
		Group string       `yaml:"group"`
		Codes []errorEntry `yaml:"codes"`
	} `yaml:"groups"`
	// Implied lists, by an operation's nature, the codes that it may answer without naming them.
	Implied map[nature][]string `yaml:"implied"`
}

type errorEntry struct {
	Code       string `yaml:"code"`
	HTTPStatus int    `yaml:"http_status"`
	Retryable  *bool  `yaml:"retryable"`
	Sentence   string `yaml:"sentence"`
	// Details is an example of what the details hold, where they hold something.
	Details map[string]any `yaml:"details"`
}

// nature is what an operation's refusals follow from.
type nature string

const (
	every                  nature = "every"
	signedIn               nature = "signed_in"
	adminOnly              nature = "admin"
	pathParameter          nature = "path_parameter"
	mutation               nature = "mutation"
	hasBody                nature = "body"
	idempotencyKey         nature = "idempotency_key"
	idempotencyKeyRequired nature = "idempotency_key_required"
)

var natures = []nature{every, signedIn, adminOnly, pathParameter, mutation, hasBody, idempotencyKey, idempotencyKeyRequired}

func readErrors(root string) (errorCatalogue, error) {
	const source = "schema/errors.yaml"
	var catalogue errorCatalogue
	if err := readStrictly(filepath.Join(root, source), &catalogue); err != nil {
		return catalogue, err
	}
	if err := catalogue.check(); err != nil {
		return catalogue, fmt.Errorf("%s: %w", source, err)
	}
	return catalogue, nil
}

func generateErrors(root string) error {
	const source = "schema/errors.yaml"
	catalogue, err := readErrors(root)
	if err != nil {
		return err
	}
	if err := writeGo(filepath.Join(root, "domain/fault/codes_gen.go"), catalogue.goSource(source)); err != nil {
		return err
	}
	return write(filepath.Join(root, "client/ts/src/errors.gen.ts"), catalogue.typeScript(source))
}

func (c errorCatalogue) check() error {
	seen := map[string]bool{}
	for _, group := range c.Groups {
		if !snakeCase.MatchString(group.Group) {
			return fmt.Errorf("group %q is not in snake_case", group.Group)
		}
		for _, entry := range group.Codes {
			switch {
			case !snakeCase.MatchString(entry.Code):
				return fmt.Errorf("code %q is not in snake_case", entry.Code)
			case seen[entry.Code]:
				return fmt.Errorf("code %s stands twice", entry.Code)
			case entry.HTTPStatus < 400 || entry.HTTPStatus > 599:
				return fmt.Errorf("code %s has the HTTP status %d, which is no error", entry.Code, entry.HTTPStatus)
			case entry.Retryable == nil:
				return fmt.Errorf("code %s does not say whether it is retryable", entry.Code)
			case !strings.HasSuffix(entry.Sentence, "."):
				return fmt.Errorf("code %s has no sentence", entry.Code)
			}
			seen[entry.Code] = true
		}
	}
	for of, codes := range c.Implied {
		if !slices.Contains(natures, of) {
			return fmt.Errorf("implied: %q is no nature of an operation; there are %q", of, natures)
		}
		for _, code := range codes {
			if !seen[code] {
				return fmt.Errorf("implied: %s: the code %s is not in the catalogue", of, code)
			}
		}
	}
	return nil
}

// entries lists every code in the catalogue's order.
func (c errorCatalogue) entries() []errorEntry {
	var all []errorEntry
	for _, group := range c.Groups {
		all = append(all, group.Codes...)
	}
	return all
}

func (c errorCatalogue) goSource(source string) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "// "+notice+"\n\npackage fault\n\n// The groups of the catalogue.\nconst (\n", source)
	for _, group := range c.Groups {
		fmt.Fprintf(&out, "\tGroup%s Group = %q\n", goName(group.Group), group.Group)
	}
	out.WriteString(")\n\n// The codes of the catalogue.\nconst (\n")
	for _, group := range c.Groups {
		for _, entry := range group.Codes {
			fmt.Fprintf(&out, "\t// %s (%d): %s\n\t%s Code = %q\n", goName(entry.Code), entry.HTTPStatus, entry.Sentence, goName(entry.Code), entry.Code)
		}
	}
	out.WriteString(")\n\nvar codes = []Code{\n")
	for _, group := range c.Groups {
		for _, entry := range group.Codes {
			fmt.Fprintf(&out, "\t%s,\n", goName(entry.Code))
		}
	}
	out.WriteString("}\n\nvar catalogue = map[Code]Entry{\n")
	for _, group := range c.Groups {
		for _, entry := range group.Codes {
			fmt.Fprintf(&out, "\t%s: {Code: %s, HTTPStatus: %d, Retryable: %t, Sentence: %q, Group: Group%s},\n",
				goName(entry.Code), goName(entry.Code), entry.HTTPStatus, *entry.Retryable, entry.Sentence, goName(group.Group))
		}
	}
	out.WriteString("}\n")
	return out.Bytes()
}

func (c errorCatalogue) typeScript(source string) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "// "+notice+"\n\n", source)
	out.WriteString("/** What the catalogue says about one error code. */\nexport interface ErrorEntry {\n" +
		"  readonly httpStatus: number;\n  /** Whether the same request with the same idempotency key may succeed later. */\n" +
		"  readonly retryable: boolean;\n  readonly sentence: string;\n  readonly group: string;\n}\n\nexport const errorCatalogue = {\n")
	for _, group := range c.Groups {
		for _, entry := range group.Codes {
			fmt.Fprintf(&out, "  %s: {\n    httpStatus: %d,\n    retryable: %t,\n    sentence: %q,\n    group: %q,\n  },\n",
				entry.Code, entry.HTTPStatus, *entry.Retryable, entry.Sentence, group.Group)
		}
	}
	out.WriteString("} as const satisfies Record<string, ErrorEntry>;\n\nexport type ErrorCode = keyof typeof errorCatalogue;\n")
	return out.Bytes()
}
