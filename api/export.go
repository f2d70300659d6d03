package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/gpuaas/gpuaas/api/middleware"
	"github.com/gpuaas/gpuaas/domain/id"
	"github.com/gpuaas/gpuaas/internal/telemetry"
	"github.com/gpuaas/gpuaas/schema/queries"
)

// exportSchemaVersion rises when the fields of an export's rows change.
const exportSchemaVersion = 1

type exportSectionBody struct {
	Name string     `json:"name" doc:"The noun, such as ledger_entries."`
	Rows []freeForm `json:"rows"`
}

type exportBody struct {
	SchemaVersion int64               `json:"schema_version" doc:"Of the rows; it rises when their fields change."`
	ExportedAt    moment              `json:"exported_at"`
	TenantID      id.Tenant           `json:"tenant_id,omitempty" pattern:"^tenant_[a-z2-7]{26}$" doc:"Whose it is; absent from an export of a person."`
	UserID        id.User             `json:"user_id,omitempty" pattern:"^user_[a-z2-7]{26}$" doc:"Whose it is; absent from an export of a tenant."`
	Sections      []exportSectionBody `json:"sections"`
	NextCursor    string              `json:"next_cursor,omitempty"`
}

// ExportPaging is how much of an export is asked for. Every page of a tenant's writes one audit row, so a page takes in more than that.
type ExportPaging struct {
	Limit  int64  `query:"limit" minimum:"10" maximum:"5000" default:"1000" doc:"How many rows to answer at most."`
	Cursor string `query:"cursor" minLength:"1" maxLength:"500" doc:"The next_cursor of the page before; opaque."`
}

type (
	tenantExportIn struct {
		TenantPath
		ExportPaging
	}
	exportOut struct{ Body exportBody }
)

func (s *server) exportOperations() {
	handle(s, "exportTenant", s.exportTenant)
	handle(s, "exportMe", s.exportMe)
}

// exportTenant writes to the tenant's audit log that its data went out, and to whom.
func (s *server) exportTenant(ctx context.Context, in *tenantExportIn) (*exportOut, error) {
	tenantID := middleware.At(ctx).TenantID
	if err := queries.InsertAudit(ctx, s.config.Pool, queries.Audit{
		TenantID: string(tenantID), Actor: middleware.Principal(ctx).Actor(), Action: "tenant.export", TargetType: "tenant", TargetID: string(tenantID),
		CorrelationID: telemetry.Correlation(ctx),
	}); err != nil {
		return nil, err
	}
	body := exportBody{TenantID: tenantID}
	return s.export(ctx, body, queries.TenantSections(), in.ExportPaging)
}

func (s *server) exportMe(ctx context.Context, in *ExportPaging) (*exportOut, error) {
	return s.export(ctx, exportBody{UserID: middleware.Principal(ctx).UserID}, queries.UserSections(), *in)
}

// exportPlace is where a page of an export begins: behind a key of a section.
type exportPlace struct {
	Section int    `json:"s"`
	Key     string `json:"k"`
}

func (p ExportPaging) start(sections int) (from exportPlace, err error) {
	if p.Cursor == "" {
		return from, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	if err != nil || json.Unmarshal(text, &from) != nil || from.Section < 0 || from.Section >= sections {
		return from, invalid("query.cursor", "the cursor is not one that a page of this export answered")
	}
	return from, nil
}

// export reads section after section until the page is full.
func (s *server) export(ctx context.Context, body exportBody, sections []queries.ExportSection, paging ExportPaging) (*exportOut, error) {
	from, err := paging.start(len(sections))
	if err != nil {
		return nil, err
	}
	body.SchemaVersion, body.ExportedAt, body.Sections = exportSchemaVersion, moment(s.config.Now()), []exportSectionBody{}
	room := int(paging.Limit)
	for i := from.Section; i < len(sections) && body.NextCursor == ""; i++ {
		rows, err := queries.ExportRows(ctx, s.config.Pool, sections[i], body.TenantID, body.UserID, from.Key, room)
		if err != nil {
			return nil, err
		}
		section := exportSectionBody{Name: sections[i].Name, Rows: make([]freeForm, len(rows))}
		for n, row := range rows {
			if err := json.Unmarshal(row.Document, &section.Rows[n]); err != nil {
				return nil, fmt.Errorf("the row %s of %s: %w", row.Key, section.Name, err)
			}
		}
		body.Sections = append(body.Sections, section)
		from.Key = ""
		if room -= len(rows); room == 0 {
			text, _ := json.Marshal(exportPlace{i, rows[len(rows)-1].Key}) // a number and a text always marshal
			body.NextCursor = base64.RawURLEncoding.EncodeToString(text)
		}
	}
	return &exportOut{Body: body}, nil
}
