package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
)

// accountKey returns where the storage has a file of the account: where
// certmagic's own issuer would have it, so that its directories can be taken over.
func (i *issuer) accountKey(suffix string) string {
	keys := certmagic.StorageKeys
	email := "default" // as certmagic says for none
	if i.email != "" {
		email = i.email
	}
	name, _, _ := strings.Cut(email, "@")
	return path.Join("acme", keys.Safe(i.IssuerKey()), "users", keys.Safe(email), keys.Safe(name)+suffix)
}

// account returns the account to order with, and makes it if there is none.
func (i *issuer) account(ctx context.Context) (acme.Account, error) {
	a, err := i.loadAccount(ctx)
	if !errors.Is(err, fs.ErrNotExist) {
		return a, err
	}
	// One at a time: the hosts of a first start come here together.
	lock := "acme_account_" + i.IssuerKey() + "_" + i.email
	if err := i.m.store.Lock(ctx, lock); err != nil {
		return acme.Account{}, fmt.Errorf("locking the account: %w", err)
	}
	defer func() { _ = i.m.store.Unlock(ctx, lock) }() // closes a file
	if a, err := i.loadAccount(ctx); !errors.Is(err, fs.ErrNotExist) {
		return a, err
	}
	return i.register(ctx)
}

// loadAccount returns the account that the storage has. The error wraps
// fs.ErrNotExist if it has none.
func (i *issuer) loadAccount(ctx context.Context) (acme.Account, error) {
	var a acme.Account
	b, err := i.m.store.Load(ctx, i.accountKey(".json"))
	if err != nil {
		return a, fmt.Errorf("account: %w", err)
	}
	key, err := i.m.store.Load(ctx, i.accountKey(".key"))
	if err != nil {
		return a, fmt.Errorf("account: %w", err)
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return a, fmt.Errorf("account: %s: %w", i.m.store.Filename(i.accountKey(".json")), err)
	}
	if a.PrivateKey, err = certmagic.PEMDecodePrivateKey(key); err != nil {
		return a, fmt.Errorf("account: %s: %w", i.m.store.Filename(i.accountKey(".key")), err)
	}
	return a, nil
}

// register makes an account at the CA and stores it.
func (i *issuer) register(ctx context.Context) (acme.Account, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return acme.Account{}, err
	}
	a := acme.Account{PrivateKey: key, TermsOfServiceAgreed: agreement}
	if i.email != "" {
		a.Contact = []string{"mailto:" + i.email}
	}
	a, err = i.client.NewAccount(ctx, a)
	if err != nil {
		return a, fmt.Errorf("registering an account: %w", err)
	}
	a.PrivateKey = key
	encoded, err := certmagic.PEMEncodePrivateKey(key)
	if err != nil {
		return a, err
	}
	b, err := json.MarshalIndent(a, "", "\t")
	if err != nil {
		return a, err
	}
	// The key first: an account whose key is lost is of no use.
	if err := i.m.store.Store(ctx, i.accountKey(".key"), encoded); err != nil {
		return a, fmt.Errorf("storing the account: %w", err)
	}
	if err := i.m.store.Store(ctx, i.accountKey(".json"), b); err != nil {
		return a, fmt.Errorf("storing the account: %w", err)
	}
	return a, nil
}
