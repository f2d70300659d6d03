package stepca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"go.step.sm/crypto/jose"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	clockSkew     = time.Minute
)

// files are what an authority is made of. The root's private key is not among them: it signs one intermediate and
// is forgotten.
type files struct {
	Root, Intermediate, intermediateKey, provisioner string
}

// openFiles finds the files in dir or makes them. The root is written last: where it is, the rest is complete.
func openFiles(dir string) (files, error) {
	f := files{
		Root:            filepath.Join(dir, "root.pem"),
		Intermediate:    filepath.Join(dir, "intermediate.pem"),
		intermediateKey: filepath.Join(dir, "intermediate.key"),
		provisioner:     filepath.Join(dir, "provisioner.jwk"),
	}
	if _, err := os.Stat(f.Root); err == nil {
		return f, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return files{}, fmt.Errorf("the directory of the CA cannot be made: %w", err)
	}
	if err := f.make(); err != nil {
		return files{}, fmt.Errorf("the keys of the CA cannot be made: %w", err)
	}
	return f, nil
}

func (f files) make() error {
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	root, err := authorityTemplate("GPUaaS development root", 1)
	if err != nil {
		return err
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	if err != nil {
		return err
	}
	intermediate, err := authorityTemplate("GPUaaS development intermediate", 0)
	if err != nil {
		return err
	}
	intermediateDER, err := x509.CreateCertificate(rand.Reader, intermediate, root, key.Public(), rootKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	provisioner, err := jose.GenerateJWK("EC", "P-256", "ES256", "sig", "", 0)
	if err != nil {
		return err
	}
	thumbprint, err := provisioner.Thumbprint(crypto.SHA256)
	if err != nil {
		return err
	}
	provisioner.KeyID = fmt.Sprintf("%x", thumbprint[:16])
	jwk, err := json.Marshal(provisioner)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(f.intermediateKey, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600),
		os.WriteFile(f.Intermediate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: intermediateDER}), 0o600),
		os.WriteFile(f.provisioner, jwk, 0o600),
		os.WriteFile(f.Root+".new", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER}), 0o600),
		os.Rename(f.Root+".new", f.Root),
	)
}

func authorityTemplate(name string, pathLength int) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name, Organization: []string{"GPUaaS"}},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(authorityLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
		MaxPathLen: pathLength, MaxPathLenZero: pathLength == 0,
	}, nil
}

// provisionerKey is the public half of the provisioner's key.
func (f files) provisionerKey() (*jose.JSONWebKey, error) {
	raw, err := os.ReadFile(f.provisioner)
	if err != nil {
		return nil, fmt.Errorf("the key of the provisioner cannot be read: %w", err)
	}
	var private jose.JSONWebKey
	if err := json.Unmarshal(raw, &private); err != nil {
		return nil, fmt.Errorf("%s holds no JWK: %w", f.provisioner, err)
	}
	public := private.Public()
	return &public, nil
}
