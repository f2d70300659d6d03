package api

import (
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/gpuaas/gpuaas/domain/id"
)

// Paging is the query of every list.
type Paging struct {
	Limit  int64  `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many items to answer at most."`
	Cursor string `query:"cursor" minLength:"1" maxLength:"500" doc:"The next_cursor of the page before; opaque."`
}

// Where is the part of a query that says in which tenant or project it is asked; absent it is the caller's own tenant.
type Where struct {
	ProjectID id.Project `query:"project_id" pattern:"^proj_[a-z2-7]{26}$" doc:"Only this project's."`
	TenantID  id.Tenant  `query:"tenant_id" pattern:"^tenant_[a-z2-7]{26}$" doc:"This tenant's; your own when absent."`
}

// after is where a page begins: behind the last item of the page before.
type after struct {
	Time time.Time `json:"t"`
	ID   string    `json:"i"`
}

// start reads the cursor; the zero value without one.
func (p Paging) start() (after, error) {
	var from after
	if p.Cursor == "" {
		return from, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	if err != nil || json.Unmarshal(text, &from) != nil || from.ID == "" {
		return from, invalid("query.cursor", "the cursor is not one that a page before answered")
	}
	return from, nil
}

// fetch is how many rows to read: one more than asked for tells whether there is a next page.
func (p Paging) fetch() int { return int(p.Limit) + 1 }

// list is a page of items.
type list[Item any] struct {
	Items      []Item `json:"items"`
	NextCursor string `json:"next_cursor,omitempty"`
}

// paged renders rows as a page; place says where a row stands in the order.
func paged[Row, Item any](p Paging, rows []Row, place func(Row) after, item func(Row) Item) list[Item] {
	page := list[Item]{Items: []Item{}}
	if len(rows) > int(p.Limit) {
		rows = rows[:p.Limit]
		text, _ := json.Marshal(place(rows[len(rows)-1])) // a time and a text always marshal
		page.NextCursor = base64.RawURLEncoding.EncodeToString(text)
	}
	for _, row := range rows {
		page.Items = append(page.Items, item(row))
	}
	return page
}
