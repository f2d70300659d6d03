// Package email writes mails and sends them by SMTP: what a letter says of an event, the consumer that records for whom there is one, and
// the sender. What becomes of a recorded message is decided in package activities. It imports domain, schema/queries and internal packages.
package email

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	htmltemplate "html/template"
	"strings"
	texttemplate "text/template"
	"time"
	"unicode"

	"github.com/gpuaas/gpuaas/domain/email"
	"github.com/gpuaas/gpuaas/domain/event"
	"github.com/gpuaas/gpuaas/domain/identity"
	"github.com/gpuaas/gpuaas/domain/money"
)

//go:embed templates
var templates embed.FS

var (
	textLetter = texttemplate.Must(texttemplate.ParseFS(templates, "templates/letter.txt.tmpl"))
	htmlLetter = htmltemplate.Must(htmltemplate.ParseFS(templates, "templates/letter.html.tmpl"))
)

// Occasion is what a letter is written from.
type Occasion struct {
	Kind email.Kind
	// Payload is the event's; of an invitation it is an Invitation.
	Payload json.RawMessage
	// Tenant and Project are their names, as people chose them. Project is empty where the occasion is about none.
	Tenant, Project string
	// Console is where a person looks further; empty where there is no such address.
	Console string
}

// Invitation is the payload of the letter to whom an invitation is meant for. The token is no part of it.
type Invitation struct {
	InvitationID string        `json:"invitation_id"`
	Role         identity.Role `json:"role"`
	ExpiresAt    time.Time     `json:"expires_at"`
}

// Letter is a mail as people read it.
type Letter struct {
	Subject string
	Text    string
	HTML    string
}

// draft is a letter before it is set: one line each.
type draft struct {
	Subject    string
	Paragraphs []string
	Items      []string
	Facts      []fact
	Link       string
	LinkText   string
	// Why says for what reason somebody has this letter.
	Why string
}

type fact struct{ Name, Value string }

// told is what the payloads say, of all events that letters are about.
type told struct {
	AllocationID      string       `json:"allocation_id"`
	PaymentID         string       `json:"payment_id"`
	RefundID          string       `json:"refund_id"`
	DisputeID         string       `json:"dispute_id"`
	WebhookID         string       `json:"webhook_id"`
	SKU               string       `json:"sku"`
	Currency          string       `json:"currency"`
	AmountMicros      money.Micros `json:"amount_micros"`
	AvailableMicros   money.Micros `json:"available_micros"`
	RateMicrosPerHour money.Micros `json:"rate_micros_per_hour"`
	SpentMicros       money.Micros `json:"spent_micros"`
	Method            string       `json:"method"`
	State             string       `json:"state"`
	Reason            string       `json:"reason"`
	Because           string       `json:"because"`
	Message           string       `json:"message"`
	Failures          int64        `json:"failures"`
	Deadline          *time.Time   `json:"deadline"`
	EvidenceDueAt     *time.Time   `json:"evidence_due_at"`
	FailingSince      *time.Time   `json:"failing_since"`
	AllocationCount   int          `json:"allocation_count"`
	Allocations       []struct {
		Message string `json:"message"`
	} `json:"allocations"`
	Failure struct {
		Message string `json:"message"`
	} `json:"failure"`
	Invitation
}

// Write makes the letter of an occasion. An error says that the payload is not one of its kind, or that there is no such kind.
func Write(of Occasion) (Letter, error) {
	var said told
	if err := json.Unmarshal(of.Payload, &said); err != nil {
		return Letter{}, fmt.Errorf("the payload of %s cannot be read: %w", of.Kind, err)
	}
	d, known := said.draft(of)
	if !known {
		return Letter{}, fmt.Errorf("no letter is about %q", of.Kind)
	}
	d.finish(of)
	var text, html bytes.Buffer
	if err := textLetter.Execute(&text, d); err != nil {
		return Letter{}, fmt.Errorf("the text about %s: %w", of.Kind, err)
	}
	if err := htmlLetter.Execute(&html, d); err != nil {
		return Letter{}, fmt.Errorf("the page about %s: %w", of.Kind, err)
	}
	return Letter{Subject: d.Subject, Text: text.String(), HTML: html.String()}, nil
}

// draft says what an event means, and what to do.
func (t told) draft(of Occasion) (draft, bool) {
	amount := t.AmountMicros.Text(t.Currency)
	switch of.Kind {
	case email.Kind(event.BillingLowBalanceWarning):
		return draft{
			Subject: "The balance is low: " + t.AvailableMicros.Text(t.Currency) + " left", Paragraphs: []string{t.Message},
			Facts: []fact{{"Left", t.AvailableMicros.Text(t.Currency)}, {"What runs costs an hour", t.RateMicrosPerHour.Text(t.Currency)}},
		}, true
	case email.Kind(event.BillingAutoReleasePending):
		return draft{
			Subject:    "Add funds before " + instant(t.Deadline) + ", or allocations are released and their data deleted",
			Paragraphs: []string{t.Message, "This is what is deleted then:"}, Items: t.losses(),
			Facts: []fact{{"Deadline", instant(t.Deadline)}, {"Left", t.AvailableMicros.Text(t.Currency)}, {"What runs costs an hour", t.RateMicrosPerHour.Text(t.Currency)}},
		}, true
	case email.Kind(event.BillingBalanceDepleted):
		return draft{Subject: "The balance is used up: allocations are being released", Paragraphs: []string{t.Message}, Items: t.losses()}, true
	case email.Kind(event.BillingBudgetWarning):
		return draft{
			Subject: "A budget is nearly used up: " + t.SpentMicros.Text(t.Currency) + " of " + amount, Paragraphs: []string{t.Message}, Items: t.losses(),
			Facts: []fact{{"Budget", amount}, {"Spent", t.SpentMicros.Text(t.Currency)}},
		}, true
	case email.Kind(event.BillingBudgetExhausted):
		return draft{
			Subject: "A budget is used up: what runs in its project is being released", Paragraphs: []string{t.Message}, Items: t.losses(), Facts: []fact{{"Budget", amount}},
		}, true
	case email.Kind(event.ProvisioningFailed):
		return draft{
			Subject:    "An allocation could not be provided",
			Paragraphs: []string{"No node could be made usable for your allocation. Nothing is charged for it.", sentence(t.Failure.Message)},
			Facts:      []fact{{"Allocation", t.AllocationID}, {"Kind of node", t.SKU}},
		}, true
	case email.Kind(event.ProvisioningReleaseFailed):
		return draft{
			Subject: "An allocation could not be released",
			Paragraphs: []string{"The node of your allocation could not be wiped and stays assigned to you until it is. It costs nothing since the release was asked for, and nobody else " +
				"gets it. The operators are told.", sentence(t.Failure.Message)},
			Facts: []fact{{"Allocation", t.AllocationID}, {"Kind of node", t.SKU}},
		}, true
	case email.Kind(event.WebhooksEndpointDisabled):
		return t.disabled(), true
	case email.InvitationCreated:
		return t.invited(of), true
	default:
		return t.payment(of.Kind, amount)
	}
}

// payment is the letters about payments, refunds and disputes.
func (t told) payment(kind email.Kind, amount string) (draft, bool) {
	paid := fact{"Payment", t.PaymentID}
	switch kind {
	case email.Kind(event.PaymentsBalanceCredited):
		how := "Thank you: a payment of %s was received and is in your balance."
		if t.Method == "auto_topup" {
			how = "The saved card was charged %s by the automatic top-up, and the amount is in your balance."
		}
		return draft{
			Subject:    "Receipt: " + amount,
			Paragraphs: []string{fmt.Sprintf(how, amount), "The receipt, with the taxes that apply, is in the console, and `gpuaas wallet receipt " + t.PaymentID + "` fetches it."},
			Facts:      []fact{{"Amount", amount}, {"Receipt of", t.PaymentID}},
		}, true
	case email.Kind(event.PaymentsRefundSettled):
		return draft{
			Subject:    "Receipt of a refund: " + amount,
			Paragraphs: []string{fmt.Sprintf("The refund of %s was paid out. Your bank may take some days to show it.", amount)},
			Facts:      []fact{{"Amount", amount}, {"Receipt of", t.RefundID}, paid},
		}, true
	case email.Kind(event.PaymentsDepositFailed):
		d := draft{Subject: "A deposit of " + amount + " did not come in", Facts: []fact{{"Amount", amount}, paid}}
		switch {
		case t.State == "expired":
			d.Paragraphs = []string{fmt.Sprintf("The page for a deposit of %s expired before it was paid. Nothing was charged.", amount)}
		case t.State == "held":
			d.Subject = "A payment needs a look: " + amount
			d.Paragraphs = []string{fmt.Sprintf("A payment for a deposit of %s does not fit what was asked for. It is not in the balance until the operators have looked at it.", amount)}
		case t.Method == "auto_topup":
			d.Subject = "An automatic top-up of " + amount + " failed"
			d.Paragraphs = []string{fmt.Sprintf("The saved card could not be charged %s. It is tried again; look whether the card is still good.", amount)}
		default:
			d.Paragraphs = []string{fmt.Sprintf("The deposit of %s failed. Nothing is in the balance of it.", amount)}
		}
		d.Facts = append(d.Facts, t.because()...)
		return d, true
	case email.Kind(event.PaymentsRefundFailed):
		return draft{
			Subject: "A refund of " + amount + " failed", Paragraphs: []string{fmt.Sprintf("The refund of %s could not be paid out. The amount is in the balance again.", amount)},
			Facts: append([]fact{{"Amount", amount}, {"Refund", t.RefundID}, paid}, t.because()...),
		}, true
	case email.Kind(event.PaymentsAutoTopUpPaused):
		return draft{Subject: "The automatic top-up is paused", Paragraphs: []string{t.Message}, Facts: append([]fact{{"Amount", amount}, paid}, t.because()...)}, true
	case email.Kind(event.PaymentsDisputeOpened):
		d := draft{
			Subject: "A payment of " + amount + " is disputed",
			Paragraphs: []string{fmt.Sprintf("The bank of whoever paid objects to a payment of %s and takes the amount back until it has decided. Nothing can be launched or refunded meanwhile.", amount),
				"If the payment was meant, ask the holder of the card to withdraw the objection at their bank."},
			Facts: append([]fact{{"Amount", amount}, {"Dispute", t.DisputeID}, paid}, t.because()...),
		}
		if t.EvidenceDueAt != nil {
			d.Facts = append(d.Facts, fact{"Decided after", instant(t.EvidenceDueAt)})
		}
		return d, true
	case email.Kind(event.PaymentsDisputeClosed):
		outcome := "The dispute over %s was lost: the amount stays with the bank."
		if t.State == "won" {
			outcome = "The dispute over %s was won: the amount is in the balance again."
		}
		return draft{
			Subject: "The dispute over " + amount + " is decided", Paragraphs: []string{fmt.Sprintf(outcome, amount)},
			Facts: []fact{{"Amount", amount}, {"Dispute", t.DisputeID}, paid},
		}, true
	default:
		return draft{}, false
	}
}

func (t told) disabled() draft {
	why := fmt.Sprintf("%d attempts to reach it failed since %s, with no success between them.", t.Failures, instant(t.FailingSince))
	if t.Because == "gone" {
		why = "It answered that it is gone (410)."
	}
	return draft{
		Subject:    "A webhook endpoint is disabled",
		Paragraphs: []string{"Nothing is sent any more to one of your webhook endpoints. " + why, "What happens meanwhile is kept. Mend the endpoint, enable it again, and ask for what it missed."},
		Facts:      []fact{{"Endpoint", t.WebhookID}},
	}
}

func (t told) invited(of Occasion) draft {
	where := "the tenant"
	if of.Project != "" {
		where = "a project of the tenant"
	}
	return draft{
		Subject: "You are invited to " + of.Tenant,
		Paragraphs: []string{
			fmt.Sprintf("Somebody offers you the role %s in %s %q. Sign in with this e-mail address to see who it is and to accept; there is nothing to be done if you do not want it.", t.Role, where, of.Tenant),
			"With the command line: `gpuaas invitation mine`, then `gpuaas invitation accept " + t.InvitationID + "`.",
		},
		Facts: []fact{{"Invitation", t.InvitationID}, {"Good until", instant(&t.ExpiresAt)}},
	}
}

// losses are what is deleted with each allocation, and how many more there are.
func (t told) losses() []string {
	items := make([]string, 0, len(t.Allocations)+1)
	for _, allocation := range t.Allocations {
		items = append(items, allocation.Message)
	}
	if more := t.AllocationCount - len(items); more > 0 {
		items = append(items, fmt.Sprintf("and %d more", more))
	}
	return items
}

func (t told) because() []fact {
	if t.Reason == "" {
		return nil
	}
	return []fact{{"Reason", t.Reason}}
}

// finish adds what every letter has, and makes one line of what people, banks and programs wrote: nothing that they wrote begins a line, or a
// header, of its own.
func (d *draft) finish(of Occasion) {
	d.Why = "You have this mail because you answer for the tenant in question. `gpuaas notifications preferences` says what you are written to about."
	switch category := of.category(); {
	case of.Kind == email.InvitationCreated:
		d.Why = "You have this mail because somebody named this address in an invitation. Whoever has no use for it can ignore it: it ends by itself."
	case category.Essential():
		d.Why = "You have this mail because you answer for the tenant in question, and data is about to be lost. It cannot be switched off."
	case category == email.Allocations:
		d.Why = "You have this mail because it is your allocation. `gpuaas notifications preferences` says what you are written to about."
	}
	d.Facts = append([]fact{{"Tenant", of.Tenant}}, d.Facts...)
	if of.Project != "" {
		d.Facts = append(d.Facts, fact{"Project", of.Project})
	}
	if of.Console != "" {
		d.Link, d.LinkText = of.Console, "Console"
	}
	d.Subject = line(d.Subject, mostSubject)
	d.Paragraphs = lines(d.Paragraphs)
	d.Items = lines(d.Items)
	for i, fact := range d.Facts {
		d.Facts[i].Value = line(fact.Value, mostLine)
	}
}

func (of Occasion) category() email.Category {
	if of.Kind == email.InvitationCreated {
		return email.Invitations
	}
	category, _ := email.Of(event.Type(of.Kind))
	return category
}

const (
	// mostSubject and mostLine bound what is taken of a text, in runes.
	mostSubject = 150
	mostLine    = 2000
)

// line is a text on one line, printable, and not endless.
func line(text string, most int) string {
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, ""), func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return text
}

// lines leaves out what is empty.
func lines(texts []string) []string {
	kept := make([]string, 0, len(texts))
	for _, text := range texts {
		if text = line(text, mostLine); text != "" {
			kept = append(kept, text)
		}
	}
	return kept
}

// sentence is what a failure says, where it says something.
func sentence(message string) string {
	if message == "" {
		return ""
	}
	return "What went wrong: " + message
}

func instant(at *time.Time) string {
	if at == nil {
		return "an instant that is not known"
	}
	return at.UTC().Format("2006-01-02 15:04:05 UTC")
}
