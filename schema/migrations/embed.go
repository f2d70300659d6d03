// Package migrations holds the database's history: forward-only SQL files applied in order of their names, each
// in one transaction. It embeds them and imports nothing, so that whoever applies them needs no file tree.
package migrations

import "embed"

// Files holds every migration, named NNNN_what.sql.
//
//go:embed *.sql
var Files embed.FS
