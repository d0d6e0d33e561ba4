package certs

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// The parts of an OCSP response that matter here (RFC 6960 4.2.1).
type (
	ocspResponse struct {
		Status asn1.Enumerated
		Bytes  ocspBytes `asn1:"explicit,tag:0,optional"`
	}
	ocspBytes struct {
		Type asn1.ObjectIdentifier
		Body []byte
	}
	ocspBasic struct {
		Data      ocspData
		Algorithm asn1.RawValue
		Signature asn1.BitString
		Certs     asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
	ocspData struct {
		Raw        asn1.RawContent
		Version    int `asn1:"optional,default:0,explicit,tag:0"`
		Responder  asn1.RawValue
		Produced   time.Time `asn1:"generalized"`
		Responses  []ocspSingle
		Extensions asn1.RawValue `asn1:"explicit,tag:1,optional"`
	}
	ocspSingle struct {
		ID         ocspID
		Good       asn1.Flag     `asn1:"tag:0,optional"`
		Revoked    asn1.RawValue `asn1:"tag:1,optional"`
		Unknown    asn1.Flag     `asn1:"tag:2,optional"`
		ThisUpdate time.Time     `asn1:"generalized"`
		NextUpdate time.Time     `asn1:"generalized,explicit,tag:0,optional"`
		Extensions asn1.RawValue `asn1:"explicit,tag:1,optional"`
	}
	ocspID struct {
		Algorithm asn1.RawValue
		NameHash  []byte
		KeyHash   []byte
		Serial    *big.Int
	}
)

var ocspBasicType = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}

// parseOCSP checks that der says something about leaf, and returns until when it may
// be stapled; zero: for ever. Its signature is for clients to check: a file that is not
// what it says only makes them ask elsewhere.
func parseOCSP(der []byte, leaf *x509.Certificate) (until time.Time, err error) {
	var r ocspResponse
	if rest, err := asn1.Unmarshal(der, &r); err != nil || len(rest) > 0 {
		return until, errors.New("is not an OCSP response in DER form")
	}
	if r.Status != 0 {
		return until, fmt.Errorf("is an OCSP error (status %d), not an answer", r.Status)
	}
	var b ocspBasic
	if !r.Bytes.Type.Equal(ocspBasicType) {
		return until, errors.New("is not a basic OCSP response")
	}
	if rest, err := asn1.Unmarshal(r.Bytes.Body, &b); err != nil || len(rest) > 0 {
		return until, errors.New("is not an OCSP response in DER form")
	}
	for i := range b.Data.Responses {
		if s := &b.Data.Responses[i]; s.ID.Serial != nil && s.ID.Serial.Cmp(leaf.SerialNumber) == 0 {
			return s.NextUpdate, nil
		}
	}
	return until, errors.New("is about another certificate")
}
