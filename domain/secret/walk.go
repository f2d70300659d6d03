package secret

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"strings"
	"time"
)

const (
	mostParts = 4096
	mostBytes = 256 << 10
	mostDepth = 16
	// tooMuch stands where a value was not looked at any more.
	tooMuch = "[CUT]"
)

// walk is one way through a value, with what it may still cost.
type walk struct{ parts, bytes int }

func (w *walk) text(text string) string {
	if w.bytes <= 0 && text != "" {
		return tooMuch
	}
	w.bytes -= len(text)
	return Text(text)
}

func (w *walk) named(name string, value any, depth int) any {
	if Name(name) {
		switch value {
		case nil, "", true, false:
			return value
		}
		return Redacted
	}
	return w.value(value, depth)
}

func (w *walk) value(value any, depth int) any {
	if w.parts--; w.parts < 0 || depth > mostDepth {
		return tooMuch
	}
	switch typed := value.(type) {
	case nil, bool, int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64, time.Time, time.Duration, slog.Level, json.Number:
		return value
	case float64:
		return number(typed, value)
	case string:
		return w.text(typed)
	case []byte:
		return w.text(string(typed))
	case json.RawMessage:
		return w.json(typed, depth)
	case []string:
		clean := make([]string, 0, min(len(typed), w.parts+1))
		for _, inner := range typed {
			if w.parts--; w.parts < 0 {
				return append(clean, tooMuch)
			}
			clean = append(clean, w.text(inner))
		}
		return clean
	case map[string]any:
		return w.fields(typed, depth)
	case *slog.Source:
		return value
	case slog.Value:
		return w.logged(typed, depth)
	case slog.LogValuer:
		return w.logged(slog.AnyValue(typed), depth)
	}
	if text, is := ownWords(value); is {
		return w.text(text)
	}
	if content, is := ownJSON(value); is {
		return w.json(content, depth)
	}
	return w.reflected(reflect.ValueOf(value), depth)
}

func (w *walk) fields(fields map[string]any, depth int) map[string]any {
	clean := make(map[string]any, len(fields))
	for name, inner := range fields {
		if w.parts < 0 {
			clean[tooMuch] = len(fields)
			break
		}
		clean[w.text(name)] = w.named(name, inner, depth+1)
	}
	return pair(clean)
}

// pair hides the value of a name and a value where the name is that of a secret.
func pair(fields map[string]any) map[string]any {
	for _, names := range [][2]string{{"name", "value"}, {"Name", "Value"}, {"key", "value"}, {"Key", "Value"}} {
		name, named := fields[names[0]].(string)
		if _, valued := fields[names[1]]; named && valued && Name(name) {
			fields[names[1]] = Redacted
		}
	}
	return fields
}

// logged is what a slog.Value stands for. Resolve bounds a chain of LogValuers and catches their panics.
func (w *walk) logged(value slog.Value, depth int) any {
	value = value.Resolve()
	if value.Kind() != slog.KindGroup {
		if _, again := value.Any().(slog.LogValuer); again {
			return tooMuch
		}
		return w.value(value.Any(), depth+1)
	}
	clean := map[string]any{}
	for _, attr := range value.Group() {
		clean[attr.Key] = w.named(attr.Key, attr.Value, depth+1)
	}
	return clean
}

// ownWords is how a value describes itself, if it is an error, a text or a fmt.Stringer. A description that panics is
// said to.
func ownWords(value any) (text string, is bool) {
	defer func() {
		if trouble := recover(); trouble != nil {
			text = fmt.Sprintf("[a %T that panics when it is described]", value)
		}
	}()
	switch typed := value.(type) {
	case error:
		is = true
		return typed.Error(), true
	case json.Marshaler:
		return "", false
	case encoding.TextMarshaler:
		is = true
		content, err := typed.MarshalText()
		if err != nil {
			return "", true
		}
		return string(content), true
	case fmt.Stringer:
		is = true
		return typed.String(), true
	}
	return "", false
}

// ownJSON is how a value renders itself.
func ownJSON(value any) (content []byte, is bool) {
	marshaler, is := value.(json.Marshaler)
	if !is {
		return nil, false
	}
	defer func() {
		if recover() != nil {
			content = nil
		}
	}()
	content, err := marshaler.MarshalJSON()
	if err != nil {
		return nil, true
	}
	return content, true
}

// json walks JSON; what is none, or too long to be taken apart, is a text.
func (w *walk) json(content []byte, depth int) any {
	if len(content) == 0 {
		return nil
	}
	if len(content) > longestText {
		return w.text(string(content))
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil || decoder.More() {
		return w.text(string(content))
	}
	return w.value(value, depth+1)
}

// reflected walks whatever else there is, by the names that JSON would give.
func (w *walk) reflected(value reflect.Value, depth int) any {
	switch value.Kind() {
	case reflect.Pointer, reflect.Interface:
		if value.IsNil() {
			return nil
		}
		return w.value(value.Elem().Interface(), depth+1)
	case reflect.Struct:
		clean := map[string]any{}
		w.structure(clean, value, depth)
		return pair(clean)
	case reflect.Map:
		if value.IsNil() {
			return nil
		}
		return w.mapping(value, depth)
	case reflect.Slice, reflect.Array:
		return w.list(value, depth)
	case reflect.String:
		if clean := w.text(value.String()); clean != value.String() {
			return clean
		}
		return value.Interface()
	case reflect.Float32, reflect.Float64:
		return number(value.Float(), value.Interface())
	case reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Complex64, reflect.Complex128, reflect.Invalid:
		if !value.IsValid() {
			return nil
		}
		return value.Type().String()
	default:
		return value.Interface()
	}
}

func (w *walk) structure(clean map[string]any, value reflect.Value, depth int) {
	kind := value.Type()
	for i := range kind.NumField() {
		field := kind.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		inner := value.Field(i)
		embedded := field.Anonymous && name == "" && inner.Kind() == reflect.Struct
		if !field.IsExported() && !embedded || name == "-" {
			continue
		}
		if w.parts < 0 {
			clean[tooMuch] = kind.String()
			return
		}
		if embedded {
			w.structure(clean, inner, depth+1)
			continue
		}
		secret := Name(field.Name)
		if name == "" {
			name = field.Name
		}
		if secret && !Name(name) && !inner.IsZero() {
			clean[name] = Redacted
			continue
		}
		clean[name] = w.named(name, inner.Interface(), depth+1)
	}
}

func (w *walk) mapping(value reflect.Value, depth int) any {
	clean := make(map[string]any, min(value.Len(), w.parts+1))
	for entries := value.MapRange(); entries.Next(); {
		if w.parts < 0 {
			clean[tooMuch] = value.Len()
			break
		}
		name := w.keyText(entries.Key())
		clean[Text(name)] = w.named(name, entries.Value().Interface(), depth+1)
	}
	return pair(clean)
}

func (w *walk) keyText(key reflect.Value) string {
	if key.Kind() == reflect.String {
		return key.String()
	}
	if text, is := ownWords(key.Interface()); is {
		return text
	}
	if key.Kind() == reflect.Struct || key.Kind() == reflect.Pointer || key.Kind() == reflect.Interface {
		content, err := json.Marshal(w.value(key.Interface(), mostDepth-2))
		if err != nil {
			return tooMuch
		}
		return string(content)
	}
	return fmt.Sprint(key.Interface())
}

func (w *walk) list(value reflect.Value, depth int) any {
	if value.Kind() == reflect.Slice && value.IsNil() {
		return nil
	}
	if value.Type().Elem().Kind() == reflect.Uint8 && value.Kind() == reflect.Slice {
		return w.text(string(value.Bytes()))
	}
	clean := make([]any, 0, min(value.Len(), max(w.parts, 0)))
	for i := range value.Len() {
		if w.parts < 0 {
			return append(clean, tooMuch)
		}
		clean = append(clean, w.value(value.Index(i).Interface(), depth+1))
	}
	return clean
}

// number is a float as JSON can hold it.
func number(float float64, value any) any {
	if math.IsNaN(float) || math.IsInf(float, 0) {
		return fmt.Sprint(float)
	}
	return value
}
