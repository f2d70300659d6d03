// Package evidence seals what is proven in a signed envelope and opens it again: canonical JSON (RFC 8785) in a DSSE envelope
// with one Ed25519 signature. It reads no database and calls nobody, so that the command line verifies offline. What a bundle
// says is domain/evidence's.
package evidence

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/gowebpki/jcs"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	domain "github.com/gpuaas/gpuaas/domain/evidence"
	"github.com/gpuaas/gpuaas/domain/hashchain"
)

// AllocationType says what an envelope's payload is.
const AllocationType = "application/vnd.gpuaas.allocation-evidence+json"

// Envelope is a DSSE envelope, as it is written to a file.
type Envelope = dsse.Envelope

// HeadType says that an envelope's payload is a head of the ledger's chain.
const HeadType = "application/vnd.gpuaas.ledger-head+json"

// Seal signs a bundle with the current key.
func (k *Keys) Seal(ctx context.Context, bundle domain.Bundle) (*Envelope, error) {
	envelope, err := k.seal(ctx, AllocationType, bundle)
	if err != nil {
		return nil, fmt.Errorf("the evidence of %s: %w", bundle.Allocation.ID, err)
	}
	return envelope, nil
}

// SealHead signs a head of the ledger's chain with the current key.
func (k *Keys) SealHead(ctx context.Context, head hashchain.Head) (*Envelope, error) {
	envelope, err := k.seal(ctx, HeadType, head)
	if err != nil {
		return nil, fmt.Errorf("the head %d of the ledger: %w", head.Number, err)
	}
	return envelope, nil
}

func (k *Keys) seal(ctx context.Context, payloadType string, content any) (*Envelope, error) {
	plain, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	canonical, err := jcs.Transform(plain)
	if err != nil {
		return nil, fmt.Errorf("its canonical form: %w", err)
	}
	signer, err := dsse.NewEnvelopeSigner(k.current)
	if err != nil {
		return nil, fmt.Errorf("a signer: %w", err)
	}
	return signer.SignPayload(ctx, payloadType, canonical)
}

// Open verifies an envelope with one of the public keys and answers its bundle and the id of the key. It is strict: the file is, byte
// for byte and but for one line feed at its end, what was written when it was sealed, so that any change of it is an error.
func Open(ctx context.Context, file []byte, trusted []ed25519.PublicKey) (bundle domain.Bundle, keyID string, err error) {
	keyID, err = open(ctx, file, trusted, AllocationType, &bundle)
	return bundle, keyID, err
}

// OpenHead verifies an envelope as Open does and answers the head of the ledger's chain in it.
func OpenHead(ctx context.Context, file []byte, trusted []ed25519.PublicKey) (head hashchain.Head, err error) {
	_, err = open(ctx, file, trusted, HeadType, &head)
	return head, err
}

func open(ctx context.Context, file []byte, trusted []ed25519.PublicKey, payloadType string, into any) (keyID string, err error) {
	var envelope Envelope
	if err := strictly(file, &envelope); err != nil {
		return "", fmt.Errorf("this is no envelope: %w", err)
	}
	if !asWritten(file, envelope) {
		return "", errors.New("the envelope is not written as it was sealed; a program that arranged it anew spoils it")
	}
	if envelope.PayloadType != payloadType {
		return "", fmt.Errorf("the payload is of type %q, and not %s", envelope.PayloadType, payloadType)
	}
	if len(envelope.Signatures) != 1 {
		return "", fmt.Errorf("the envelope has %d signatures, and not one", len(envelope.Signatures))
	}
	payload, err := base64.StdEncoding.Strict().DecodeString(envelope.Payload)
	if err != nil || base64.StdEncoding.EncodeToString(payload) != envelope.Payload {
		return "", errors.New("the payload is not written as it was signed")
	}
	keyID = envelope.Signatures[0].KeyID
	signature, err := base64.StdEncoding.Strict().DecodeString(envelope.Signatures[0].Sig)
	if err != nil || base64.StdEncoding.EncodeToString(signature) != envelope.Signatures[0].Sig {
		return keyID, errors.New("the signature is not written as it was made")
	}
	signer, known := signerOf(keyID, trusted)
	if !known {
		return keyID, fmt.Errorf("it was signed with the key %s, which is not among the public keys", keyID)
	}
	verifier, err := dsse.NewEnvelopeVerifier(signer)
	if err != nil {
		return keyID, fmt.Errorf("a verifier: %w", err)
	}
	if _, err := verifier.Verify(ctx, &envelope); err != nil {
		return keyID, fmt.Errorf("the signature does not fit: %w", err)
	}
	if canonical, err := jcs.Transform(payload); err != nil || !bytes.Equal(canonical, payload) {
		return keyID, errors.New("the payload is no canonical JSON")
	}
	if err := strictly(payload, into); err != nil {
		return keyID, fmt.Errorf("the payload is not what its type says: %w", err)
	}
	return keyID, nil
}

// asWritten says whether a file is an envelope as JSON of the platform writes it. A reader of JSON alone would not notice a name in
// capital letters, or white space.
func asWritten(file []byte, envelope Envelope) bool {
	written, err := json.Marshal(envelope)
	return err == nil && bytes.Equal(bytes.TrimSuffix(file, []byte("\n")), written)
}

// strictly reads exactly one value with no field that is not known.
func strictly(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows it")
	}
	return nil
}

func signerOf(keyID string, trusted []ed25519.PublicKey) (signer, bool) {
	for _, public := range trusted {
		if KeyID(public) == keyID {
			return signer{public: public}, true
		}
	}
	return signer{}, false
}

// signer is one key as DSSE uses it; private is nil for one that only verifies.
type signer struct {
	private ed25519.PrivateKey
	public  ed25519.PublicKey
}

// Sign signs what DSSE makes of type and payload.
func (s signer) Sign(_ context.Context, data []byte) ([]byte, error) {
	return s.private.Sign(nil, data, crypto.Hash(0))
}

// Verify refuses a signature that is not this key's.
func (s signer) Verify(_ context.Context, data, signature []byte) error {
	if !ed25519.Verify(s.public, data, signature) {
		return errors.New("it is not this key's over this payload")
	}
	return nil
}

// KeyID names the key.
func (s signer) KeyID() (string, error) { return KeyID(s.public), nil }

// Public is the public half.
func (s signer) Public() crypto.PublicKey { return s.public }
