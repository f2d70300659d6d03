package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// refusal is one HTTP status with which an operation may refuse, and the codes that come under it.
type refusal struct {
	status  int
	entries []errorEntry
}

// refusalsOf gathers what an operation may answer beside success: its own x-error-codes and what its nature implies, by
// status, the codes in the catalogue's order.
func (c errorCatalogue) refusalsOf(o operation) []refusal {
	may := map[string]bool{}
	for _, of := range o.natures() {
		for _, code := range c.Implied[of] {
			may[code] = true
		}
	}
	if own := child(o.node, "x-error-codes"); own != nil {
		for _, code := range own.Content {
			may[code.Value] = true
		}
	}
	byStatus := map[int]refusal{}
	for _, entry := range c.entries() {
		if may[entry.Code] {
			found := byStatus[entry.HTTPStatus]
			byStatus[entry.HTTPStatus] = refusal{status: entry.HTTPStatus, entries: append(found.entries, entry)}
		}
	}
	var refusals []refusal
	for _, status := range slices.Sorted(maps.Keys(byStatus)) {
		refusals = append(refusals, byStatus[status])
	}
	return refusals
}

// name is that of the component which operations with the same refusal share.
func (r refusal) name() string {
	var codes []string
	for _, entry := range r.entries {
		codes = append(codes, goName(entry.Code))
	}
	return strings.Join(codes, "Or")
}

// addRefusals gives every operation a response for each status it may refuse with, and every response the header that
// all of them carry. A response that several operations share is a component.
func (d document) addRefusals(operations []operation, catalogue errorCatalogue) {
	sharers := map[string]int{}
	for _, o := range operations {
		for _, found := range catalogue.refusalsOf(o) {
			sharers[found.name()]++
		}
	}
	used := map[string]bool{}
	shared := map[string]*yaml.Node{}
	for _, o := range operations {
		responses := child(o.node, "responses")
		_ = each(responses, func(_ string, response *yaml.Node) error {
			addCommonHeaders(response)
			if o.parameter("X-Idempotency-Key") != nil {
				addHeader(response, "Idempotency-Replayed", reference("#/components/headers/IdempotencyReplayed"))
			}
			return nil
		})
		for _, found := range catalogue.refusalsOf(o) {
			for _, entry := range found.entries {
				used[entry.Code] = true
			}
			response := found.response()
			if sharers[found.name()] > 1 {
				shared[found.name()] = response
				response = reference("#/components/responses/" + found.name())
			}
			if child(responses, strconv.Itoa(found.status)) == nil {
				responses.Content = append(responses.Content, quoted(strconv.Itoa(found.status)), response)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(shared)) {
		d.addComponent("responses", name, shared[name])
	}
	for _, entry := range catalogue.entries() {
		if used[entry.Code] {
			d.addComponent("examples", entry.Code, entry.example())
		}
	}
}

// addCommonHeaders gives a response the headers that any of them may carry.
func addCommonHeaders(response *yaml.Node) {
	addHeader(response, "X-Correlation-Id", reference("#/components/headers/CorrelationId"))
	addHeader(response, "RateLimit-Policy", reference("#/components/headers/RateLimitPolicy"))
	addHeader(response, "RateLimit", reference("#/components/headers/RateLimit"))
}

// response is the refusal in the contract: the envelope, narrowed to the codes, with an example of each.
func (r refusal) response() *yaml.Node {
	codes, examples := sequence(), &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	var names []string
	for _, entry := range r.entries {
		names = append(names, entry.Code)
		codes.Content = append(codes.Content, text(entry.Code))
		examples.Content = append(examples.Content, text(entry.Code), reference("#/components/examples/"+entry.Code))
	}
	code := mapping("type", text("string"))
	code.Content = append(code.Content, text("enum"), codes)
	narrowed := mapping("type", text("object"))
	narrowed.Content = append(narrowed.Content, text("properties"), mapping("code", code), text("required"), sequence(text("code")))
	media := mapping("schema", mapping("allOf", sequence(reference("#/components/schemas/Fault"), narrowed)))
	media.Content = append(media.Content, text("examples"), examples)
	response := mapping("description", text(strings.Join(names, ", ")+"."))
	if len(names) == 1 {
		response = mapping("description", text(fmt.Sprintf("%s: %s", names[0], r.entries[0].Sentence)))
	}
	addCommonHeaders(response)
	switch r.status {
	case 401:
		addHeader(response, "WWW-Authenticate", reference("#/components/headers/Challenge"))
	case 429:
		addHeader(response, "Retry-After", reference("#/components/headers/RetryAfter"))
	}
	response.Content = append(response.Content, text("content"), mapping("application/json", media))
	return response
}

// example is the envelope of a code.
func (e errorEntry) example() *yaml.Node {
	details := e.Details
	if details == nil {
		details = map[string]any{}
	}
	var rendered yaml.Node
	_ = rendered.Encode(details) // what was decoded from YAML encodes as YAML
	value := mapping("code", text(e.Code))
	value.Content = append(value.Content, text("message"), text(e.Sentence), text("correlation_id"), text("01JBY6T4W2Z8Q1M0V5K3N7R9XD"), text("details"), &rendered)
	example := mapping("summary", text(e.Sentence))
	example.Content = append(example.Content, text("value"), value)
	return example
}

func (d document) addComponent(kind, name string, value *yaml.Node) {
	components := child(d.root, "components")
	named := child(components, kind)
	if named == nil {
		named = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		components.Content = append(components.Content, text(kind), named)
	}
	named.Content = append(named.Content, text(name), value)
}
