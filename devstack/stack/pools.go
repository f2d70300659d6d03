package stack

import "fmt"

const (
	// temporalServices are those that each have pools of their own, programsWithPool the programs of ours that do.
	temporalServices = 4
	programsWithPool = 5
	// connectionsBeside are taken for a moment: by migrations, by who looks after the databases, by psql.
	connectionsBeside = 10
)

// pools are how many connections to PostgreSQL each holder may have.
type pools struct {
	// temporal and visibility are for each service of Temporal's, program for each of our programs.
	temporal, visibility, program int
}

// usualPools are what temporal-dev.yaml and the programs' own defaults say.
func usualPools() pools { return pools{temporal: 20, visibility: 10, program: 16} }

// smallPools fit into a server as it is installed, which takes 97 connections of roles that are no superusers.
func smallPools() pools { return pools{temporal: 6, visibility: 2, program: 10} }

// connections is the most that an instance of these parts holds.
func (p pools) connections(temporal, programs bool) int {
	n := connectionsBeside
	if temporal {
		n += temporalServices * (p.temporal + p.visibility)
	}
	if programs {
		n += programsWithPool * p.program
	}
	return n
}

// choosePools are the usual ones where the server takes as many connections, else the small ones; notice says so then. A server that takes fewer is
// refused here, because its users would meet that as errors in the midst of their work.
func choosePools(allowed int, temporal, programs bool) (p pools, notice string, err error) {
	usual, small := usualPools(), smallPools()
	most, least := usual.connections(temporal, programs), small.connections(temporal, programs)
	switch {
	case most <= allowed:
		return usual, "", nil
	case least <= allowed:
		return small, fmt.Sprintf("the server of DATABASE_URL takes %d connections, so the pools are small; with max_connections raised by %d they are as usual", allowed, most-allowed), nil
	default:
		return pools{}, "", fmt.Errorf("the server of DATABASE_URL takes %d connections and an instance needs %d: raise its max_connections by %d or more", allowed, least, least-allowed)
	}
}
