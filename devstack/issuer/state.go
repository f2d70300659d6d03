package issuer

import (
	"crypto/rand"
	"sync"
	"time"
)

const (
	requestLife = 10 * time.Minute
	codeLife    = time.Minute
	deviceLife  = 10 * time.Minute
	// pollEvery is how long a device waits between two questions.
	pollEvery   = 5 * time.Second
	sessionLife = 12 * time.Hour

	mostRequests = 5_000
	mostDevices  = 5_000
	mostSessions = 20_000
	mostTokens   = 50_000
)

// state is what the issuer remembers, all of it bounded in time and number. It lives in memory: after a restart people
// sign in again, while access tokens stay good because the keys do.
type state struct {
	mutex    sync.Mutex
	requests *shelf[*authorization]
	codes    *shelf[*authorization]
	devices  *shelf[*device]
	// userCodes leads from what a person types to a device code.
	userCodes *shelf[string]
	sessions  *shelf[signedIn]
	refresh   *shelf[refreshable]
	// revoked are the ids of access tokens that were taken back before their time.
	revoked *shelf[struct{}]
}

func newState(accessLife, refreshLife time.Duration) *state {
	return &state{
		requests: newShelf[*authorization](mostRequests, requestLife), codes: newShelf[*authorization](mostRequests, codeLife),
		devices: newShelf[*device](mostDevices, deviceLife), userCodes: newShelf[string](mostDevices, deviceLife),
		sessions: newShelf[signedIn](mostSessions, sessionLife), refresh: newShelf[refreshable](mostTokens, refreshLife),
		revoked: newShelf[struct{}](mostTokens, accessLife),
	}
}

// begin remembers that a browser signed in.
func (s *state) begin(subject string) (session string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	session = rand.Text()
	s.sessions.put(session, signedIn{subject: subject, at: time.Now()})
	return session
}

func (s *state) session(id string) (signedIn, bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.sessions.get(id)
}

// end forgets a session and takes back every refresh token that came from it.
func (s *state) end(session string) {
	if session == "" {
		return
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.sessions.remove(session)
	s.refresh.removeIf(func(r refreshable) bool { return r.granted.session == session })
}

func (s *state) request(id string) (*authorization, bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.requests.get(id)
}

// approve grants an authorisation request to whoever signed in.
func (s *state) approve(id, session string, who signedIn) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if request, found := s.requests.get(id); found {
		granted := *request.grant
		granted.subject, granted.session, granted.at = who.subject, session, who.at
		s.requests.put(id, &authorization{grant: &granted, id: id, asked: request.asked})
	}
}

// device answers the request behind a user code that nobody decided yet.
func (s *state) device(userCode string) (device, bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if found := s.undecided(userCode); found != nil {
		return *found, true
	}
	return device{}, false
}

// decide grants a device's request to who, or denies it.
func (s *state) decide(userCode string, who signedIn, granted bool) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	found := s.undecided(userCode)
	if found == nil {
		return false
	}
	found.state.Done, found.state.Denied = granted, !granted
	found.state.Subject, found.state.AuthTime, found.state.AMR = who.subject, who.at, []string{"pwd"}
	s.userCodes.remove(userCode)
	return true
}

func (s *state) undecided(userCode string) *device {
	code, found := s.userCodes.get(userCode)
	if !found {
		return nil
	}
	waiting, found := s.devices.get(code)
	if !found || waiting.state.Done || waiting.state.Denied {
		return nil
	}
	return waiting
}
