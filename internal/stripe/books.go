package stripe

import (
	"context"
	"time"

	stripego "github.com/stripe/stripe-go/v76"
)

// booksPage is how many objects one request of the books answers.
const booksPage = 100

// Charge is money that was taken from a customer. PaidAt is when it was booked, which may be days after it was asked for.
type Charge struct {
	ID              string
	PaymentIntentID string
	Currency        string
	// Amount is what was taken, and Refunded the part of it that went back since.
	Amount, Refunded int64
	PaidAt           time.Time
	Metadata         Metadata
}

// Charges reads the charges that were asked for from an instant on and are paid, newest first, and hands them on a page at a time.
func (c *Client) Charges(ctx context.Context, since time.Time, page func([]Charge) error) error {
	asked := &stripego.ChargeListParams{CreatedRange: &stripego.RangeQueryParams{GreaterThanOrEqual: since.Unix()}}
	asked.Context, asked.Limit = ctx, stripego.Int64(booksPage)
	asked.AddExpand("data.balance_transaction")
	var read []Charge
	pages := c.api.Charges.List(asked)
	for pages.Next() {
		found := pages.Charge()
		if found.Status != stripego.ChargeStatusSucceeded || !found.Captured {
			continue
		}
		charge := Charge{ID: found.ID, Currency: string(found.Currency), Amount: found.AmountCaptured, Refunded: found.AmountRefunded, PaidAt: time.Unix(found.Created, 0).UTC(), Metadata: found.Metadata}
		if found.PaymentIntent != nil {
			charge.PaymentIntentID = found.PaymentIntent.ID
		}
		if booked := found.BalanceTransaction; booked != nil && booked.Created > found.Created {
			charge.PaidAt = time.Unix(booked.Created, 0).UTC()
		}
		if read = append(read, charge); len(read) == booksPage {
			if err := page(read); err != nil {
				return err
			}
			read = nil
		}
	}
	if err := pages.Err(); err != nil {
		return classify("list charges", err)
	}
	return page(read)
}

// Refunds reads the refunds that were made from an instant on, newest first, and hands them on a page at a time.
func (c *Client) Refunds(ctx context.Context, since time.Time, page func([]Refund) error) error {
	asked := &stripego.RefundListParams{CreatedRange: &stripego.RangeQueryParams{GreaterThanOrEqual: since.Unix()}}
	asked.Context, asked.Limit = ctx, stripego.Int64(booksPage)
	var read []Refund
	pages := c.api.Refunds.List(asked)
	for pages.Next() {
		if read = append(read, refund(pages.Refund())); len(read) == booksPage {
			if err := page(read); err != nil {
				return err
			}
			read = nil
		}
	}
	if err := pages.Err(); err != nil {
		return classify("list refunds", err)
	}
	return page(read)
}

// Disputes reads the disputes that were opened from an instant on, newest first, and hands them on a page at a time.
func (c *Client) Disputes(ctx context.Context, since time.Time, page func([]Dispute) error) error {
	asked := &stripego.DisputeListParams{CreatedRange: &stripego.RangeQueryParams{GreaterThanOrEqual: since.Unix()}}
	asked.Context, asked.Limit = ctx, stripego.Int64(booksPage)
	var read []Dispute
	pages := c.api.Disputes.List(asked)
	for pages.Next() {
		if read = append(read, dispute(pages.Dispute())); len(read) == booksPage {
			if err := page(read); err != nil {
				return err
			}
			read = nil
		}
	}
	if err := pages.Err(); err != nil {
		return classify("list disputes", err)
	}
	return page(read)
}
