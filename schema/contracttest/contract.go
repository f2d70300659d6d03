// Package contracttest holds what an API really answers against the contract that schema embeds: status, code, headers
// and body of every exchange, and that what the contract calls an invalid request never succeeds. Tests and programs
// that judge a running instance use it; it may import schema and nothing else of ours.
package contracttest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/gpuaas/gpuaas/schema"
)

// Exchange is one request and what was answered.
type Exchange struct {
	Method string
	URL    *url.URL
	// Sent are the request's headers.
	Sent http.Header
	// Asked is the request's body, empty when it had none.
	Asked  []byte
	Status int
	Header http.Header
	Body   []byte
}

// Contract is the bundled contract, ready to judge.
type Contract struct {
	root       map[string]any
	operations []operation
	compiler   *jsonschema.Compiler

	mutex    sync.Mutex
	compiled map[string]*jsonschema.Schema
}

// operation is one of the contract's, with the JSON pointer at which it stands.
type operation struct {
	id, method string
	segments   []string
	pointer    string
	node       map[string]any
}

const resource = "openapi.yaml"

// Load reads the embedded contract.
func Load() (*Contract, error) {
	var tree map[string]any
	if err := yaml.Unmarshal(schema.OpenAPI, &tree); err != nil {
		return nil, err
	}
	// As JSON, so that numbers are what the JSON Schema library expects.
	content, err := json.Marshal(tree)
	if err != nil {
		return nil, err
	}
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	c := &Contract{root: whole.(map[string]any), compiler: jsonschema.NewCompiler(), compiled: map[string]*jsonschema.Schema{}}
	c.compiler.DefaultDraft(jsonschema.Draft2020)
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource(resource, whole); err != nil {
		return nil, err
	}
	for path, item := range section(c.root, "paths") {
		for method, node := range item.(map[string]any) {
			id, _ := node.(map[string]any)["operationId"].(string)
			c.operations = append(c.operations, operation{
				id: id, method: strings.ToUpper(method), segments: strings.Split(path, "/"),
				pointer: "/paths/" + escape(path) + "/" + method, node: node.(map[string]any),
			})
		}
	}
	return c, nil
}

// Operation is the operationId that a request is for, empty when it is for none.
func (c *Contract) Operation(method string, at *url.URL) string {
	if found := c.find(method, at); found != nil {
		return found.id
	}
	return ""
}

// find is the operation for a request; a segment that is spelt out counts more than a parameter.
func (c *Contract) find(method string, at *url.URL) *operation {
	asked := strings.Split(at.EscapedPath(), "/")
	var best *operation
	bestSpelt := -1
	for i := range c.operations {
		o := &c.operations[i]
		if spelt := o.matches(asked); o.method == method && spelt > bestSpelt {
			best, bestSpelt = o, spelt
		}
	}
	return best
}

// matches counts the segments that are spelt out as asked; -1 when the path is another one.
func (o *operation) matches(asked []string) int {
	if len(asked) != len(o.segments) {
		return -1
	}
	spelt := 0
	for i, segment := range o.segments {
		switch {
		case strings.HasPrefix(segment, "{"):
			if asked[i] == "" {
				return -1
			}
		case segment == asked[i]:
			spelt++
		default:
			return -1
		}
	}
	return spelt
}

// documentation is served beside the operations, in forms of its own.
func documentation(path string) bool {
	return strings.HasPrefix(path, "/api/v1/openapi.") || path == "/docs" || strings.HasPrefix(path, "/docs/")
}

// Mistakes says how an exchange departs from the contract; it is empty when it does not.
func (c *Contract) Mistakes(e Exchange) []string {
	o := c.find(e.Method, e.URL)
	var mistakes []string
	if e.Header.Get("X-Correlation-Id") == "" {
		mistakes = append(mistakes, "the answer has no X-Correlation-Id")
	}
	switch {
	case o == nil && e.Status < http.StatusBadRequest && documentation(e.URL.Path):
		return mistakes
	case o == nil:
		return append(mistakes, c.unmatched(e)...)
	}
	mistakes = append(mistakes, c.answer(o, e)...)
	if e.Status < http.StatusMultipleChoices {
		for _, wrong := range c.request(o, e) {
			mistakes = append(mistakes, fmt.Sprintf("it succeeds (%d), and by the contract the request is invalid: %s", e.Status, wrong))
		}
	}
	return mistakes
}

// unmatched judges an answer to what no operation is for: the router's refusal, in the envelope.
func (c *Contract) unmatched(e Exchange) []string {
	want := map[int]string{http.StatusNotFound: "not_found", http.StatusMethodNotAllowed: "method_not_allowed"}[e.Status]
	if want == "" {
		return []string{fmt.Sprintf("it answers %d, and the contract has no such operation", e.Status)}
	}
	mistakes := c.validate("/components/schemas/Fault", e.Body, "the envelope")
	if code := codeOf(e.Body); code != want {
		mistakes = append(mistakes, fmt.Sprintf("%d has the code %s, not %s", e.Status, code, want))
	}
	return mistakes
}

// answer judges status, headers, content type and body.
func (c *Contract) answer(o *operation, e Exchange) []string {
	status := strconv.Itoa(e.Status)
	pointer := o.pointer + "/responses/" + status
	response, listed := section(o.node, "responses")[status].(map[string]any)
	if !listed {
		return []string{fmt.Sprintf("it answers %d %s, and the contract does not list that status for %s", e.Status, codeOf(e.Body), o.id)}
	}
	pointer, response = c.follow(pointer, response)
	var mistakes []string
	for name, node := range section(response, "headers") {
		at, header := c.follow(pointer+"/headers/"+escape(name), node.(map[string]any))
		if value := e.Header.Get(name); value != "" {
			mistakes = append(mistakes, c.validateText(at+"/schema", header, value, "the header "+name)...)
		} else if header["required"] == true {
			mistakes = append(mistakes, "the answer lacks the header "+name)
		}
	}
	contents := section(response, "content")
	if len(contents) == 0 {
		if len(e.Body) > 0 {
			mistakes = append(mistakes, fmt.Sprintf("%d has a body, and the contract has none for it", e.Status))
		}
		return mistakes
	}
	kind, _, _ := strings.Cut(e.Header.Get("Content-Type"), ";")
	if _, known := contents[kind]; !known {
		return append(mistakes, fmt.Sprintf("%d has the content type %q, which the contract does not list", e.Status, kind))
	}
	if kind != "application/json" {
		if len(e.Body) == 0 {
			mistakes = append(mistakes, fmt.Sprintf("%d is an empty %s", e.Status, kind))
		}
		return mistakes // bytes that the contract says no more about
	}
	return append(mistakes, c.validate(pointer+"/content/"+escape(kind)+"/schema", e.Body, "the body of "+status)...)
}

// request says what the contract finds wrong with a request.
func (c *Contract) request(o *operation, e Exchange) []string {
	var mistakes []string
	known := map[string]bool{}
	parameters, _ := o.node["parameters"].([]any)
	asked := strings.Split(e.URL.EscapedPath(), "/")
	for i, one := range parameters {
		at, parameter := c.follow(fmt.Sprintf("%s/parameters/%d", o.pointer, i), one.(map[string]any))
		name, _ := parameter["name"].(string)
		var given []string
		switch parameter["in"] {
		case "query":
			known[name] = true
			given = e.URL.Query()[name]
		case "header":
			given = e.Sent.Values(name)
		case "path":
			for position, segment := range o.segments {
				if segment == "{"+name+"}" {
					value, err := url.PathUnescape(asked[position])
					if err != nil {
						mistakes = append(mistakes, fmt.Sprintf("the path parameter %s cannot be read: %v", name, err))
					}
					given = []string{value}
				}
			}
		}
		switch {
		case len(given) == 0 && parameter["required"] == true:
			mistakes = append(mistakes, fmt.Sprintf("the parameter %s is missing", name))
		case len(given) > 1:
			mistakes = append(mistakes, fmt.Sprintf("the parameter %s is given %d times", name, len(given)))
		case len(given) == 1:
			mistakes = append(mistakes, c.validateText(at+"/schema", parameter, given[0], "the parameter "+name)...)
		}
	}
	for name := range e.URL.Query() {
		if !known[name] {
			mistakes = append(mistakes, fmt.Sprintf("the query parameter %s is unknown", name))
		}
	}
	if body := section(o.node, "requestBody"); body != nil {
		mistakes = append(mistakes, c.validate(o.pointer+"/requestBody/content/application~1json/schema", e.Asked, "the request's body")...)
	}
	return mistakes
}

func codeOf(body []byte) string {
	var envelope struct {
		Code string `json:"code"`
	}
	_ = json.Unmarshal(body, &envelope) // what has no code is judged by its schema
	return envelope.Code
}
