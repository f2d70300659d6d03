package issuer

import "crypto/subtle"

// User is somebody who can sign in.
type User struct {
	// Subject is the stable id that becomes the claim sub.
	Subject, Username, Password, Email string
	Roles                              []string
	// OrgID is the tenant; empty leaves the claim out, as Keycloak does for a user without one.
	OrgID string
}

// DevelopmentUsers are the users of every development instance, with the subjects they have on a Keycloak of
// deploy/keycloak too.
func DevelopmentUsers() []User {
	return []User{
		{Subject: "5f0c9f6e-6f0e-4d6a-9d3e-0d0c7a1b2c3d", Username: "dev-user", Password: "dev123", Email: "dev-user@localhost", Roles: []string{"user"}},
		{Subject: "8a1d2e3f-4b5c-4d6e-8f70-1a2b3c4d5e6f", Username: "dev-admin", Password: "admin123", Email: "dev-admin@localhost", Roles: []string{"user", "admin"}},
		{Subject: "2b6e3a10-9c4d-4f5a-8b7c-6d5e4f3a2b1c", Username: "acme-owner", Password: "acme123", Email: "acme-owner@localhost", Roles: []string{"user"}, OrgID: "acme"},
		{Subject: "c4d5e6f7-1a2b-4c3d-9e8f-7a6b5c4d3e2f", Username: "acme-member", Password: "acme123", Email: "acme-member@localhost", Roles: []string{"user"}, OrgID: "acme"},
	}
}

// signIn answers the user of that name if the password is theirs.
func (i *Issuer) signIn(username, password string) (User, bool) {
	var found User
	for _, u := range i.cfg.Users {
		if u.Username == username {
			found = u
		}
	}
	matches := subtle.ConstantTimeCompare([]byte(found.Password), []byte(password)) == 1
	return found, matches && found.Subject != ""
}

// user answers who a subject is. A client's service account is a user without a password and without roles.
func (i *Issuer) user(subject string) (User, bool) {
	for _, u := range i.cfg.Users {
		if u.Subject == subject {
			return u, true
		}
	}
	for _, c := range i.cfg.Clients {
		if c.ServiceAccount != "" && c.ServiceAccount == subject {
			return User{Subject: subject, Username: "service-account-" + c.ID}, true
		}
	}
	return User{}, false
}
