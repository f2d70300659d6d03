package stripe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/lestrrat-go/jsval"
	"github.com/stripe/stripe-mock/embedded"
	"github.com/stripe/stripe-mock/param"
	"github.com/stripe/stripe-mock/param/coercer"
	"github.com/stripe/stripe-mock/spec"
)

// Description is Stripe's own OpenAPI description of its API, as stripe-mock ships it: what a request must be, and what an object
// of Stripe looks like.
type Description struct {
	version  string
	fixtures map[string]json.RawMessage
	schemas  map[string]*spec.Schema
	all      *spec.ComponentsForValidation
	paths    []describedPath

	mutex      sync.Mutex
	validators map[string]*jsval.JSVal
}

// describedPath is one operation; a path with fewer parameters is tried first.
type describedPath struct {
	verb       string
	path       string
	pattern    *regexp.Regexp
	parameters int
	schema     *spec.Schema
}

var pathParameter = regexp.MustCompile(`\\\{[^/]+\\\}`)

// LoadDescription reads the description, which takes a second or two.
func LoadDescription() (*Description, error) {
	var api spec.Spec
	if err := json.Unmarshal(embedded.OpenAPISpec, &api); err != nil {
		return nil, fmt.Errorf("Stripe's description cannot be read: %w", err) //nolint:staticcheck // a name
	}
	var fixtures struct {
		Resources map[string]json.RawMessage `json:"resources"`
	}
	if err := json.Unmarshal(embedded.OpenAPIFixtures, &fixtures); err != nil {
		return nil, fmt.Errorf("Stripe's fixtures cannot be read: %w", err) //nolint:staticcheck // a name
	}
	d := &Description{version: api.Info.Version, fixtures: fixtures.Resources, schemas: api.Components.Schemas, validators: map[string]*jsval.JSVal{}}
	d.all = spec.GetComponentsForValidation(&api.Components)
	for path, verbs := range api.Paths {
		quoted := regexp.QuoteMeta(string(path))
		for verb, operation := range verbs {
			described := describedPath{
				verb: strings.ToUpper(string(verb)), path: string(path), parameters: strings.Count(string(path), "{"),
				pattern: regexp.MustCompile(`^` + pathParameter.ReplaceAllString(quoted, `[^/]+`) + `$`),
			}
			if described.verb == http.MethodGet {
				described.schema = spec.BuildQuerySchema(operation)
			} else if operation.RequestBody != nil {
				for _, content := range operation.RequestBody.Content {
					described.schema = content.Schema
				}
			}
			d.paths = append(d.paths, described)
		}
	}
	slices.SortFunc(d.paths, func(a, b describedPath) int {
		if a.parameters != b.parameters {
			return a.parameters - b.parameters
		}
		return strings.Compare(a.verb+a.path, b.verb+b.path)
	})
	return d, nil
}

// Version is the version of the API that is described.
func (d *Description) Version() string { return d.version }

// example is an object of a kind as Stripe's fixtures show it, to be filled.
func (d *Description) example(kind string) (object, error) {
	var made object
	if err := json.Unmarshal(d.fixtures[kind], &made); err != nil {
		return nil, fmt.Errorf("there is no example of a %s: %w", kind, err)
	}
	return made, nil
}

// Request holds a request against the description and answers its parameters, each with its type. The body is read and put back.
func (d *Description) Request(r *http.Request) (map[string]any, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	for _, described := range d.paths {
		if described.verb != r.Method || !described.pattern.MatchString(r.URL.Path) {
			continue
		}
		given, err := param.ParseParams(r)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if err != nil {
			return nil, fmt.Errorf("the parameters cannot be parsed: %w", err)
		}
		if given == nil {
			given = map[string]any{}
		}
		if described.schema == nil {
			return given, nil
		}
		if err := coercer.CoerceParams(described.schema, given); err != nil {
			return nil, err
		}
		validator, err := d.validator(described.verb+" "+described.path, described.schema)
		if err != nil {
			return nil, err
		}
		return given, validator.Validate(given)
	}
	return nil, fmt.Errorf("Stripe has no operation %s %s", r.Method, r.URL.Path) //nolint:staticcheck // a name
}

// Object holds an object of Stripe against the schema of its kind. An event is held with the object that it carries.
func (d *Description) Object(made object) error {
	kind, _ := made["object"].(string)
	schema := d.schemas[kind]
	if schema == nil {
		return fmt.Errorf("Stripe describes no object %q", kind) //nolint:staticcheck // a name
	}
	if stripped, err := asJSON(made); err != nil {
		return err
	} else if validator, err := d.validator(kind, schema); err != nil {
		return err
	} else if err := validator.Validate(stripped); err != nil {
		return fmt.Errorf("a %s is not as Stripe describes it: %w", kind, err)
	}
	if kind != "event" {
		return nil
	}
	data, _ := made["data"].(object)
	carried, isObject := data["object"].(object)
	if !isObject {
		return errors.New("an event carries no object")
	}
	return d.Object(carried)
}

// asJSON is a value as a reader of its JSON sees it.
func asJSON(value any) (plain map[string]any, err error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return plain, json.Unmarshal(text, &plain)
}

func (d *Description) validator(name string, schema *spec.Schema) (*jsval.JSVal, error) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if known := d.validators[name]; known != nil {
		return known, nil
	}
	made, err := spec.GetValidatorForOpenAPI3Schema(schema, d.all)
	if err != nil {
		return nil, fmt.Errorf("the schema of %s: %w", name, err)
	}
	d.validators[name] = made
	return made, nil
}
