package queries

// optional turns an empty id into SQL's NULL, which filters nothing.
func optional[Text ~string](value Text) *string {
	if value == "" {
		return nil
	}
	text := string(value)
	return &text
}
