package certstest

import (
	"crypto/sha1" //nolint:gosec // what OCSP identifies certificates by
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"time"
)

// OCSP makes an OCSP response that says that a certificate is good. Its signature is not.
func OCSP(f Failer, leaf *x509.Certificate, from, until time.Time) []byte {
	type id struct {
		Algorithm         pkix.AlgorithmIdentifier
		NameHash, KeyHash []byte
		Serial            *big.Int
	}
	type single struct {
		ID         id
		Good       asn1.RawValue
		ThisUpdate time.Time `asn1:"generalized"`
		NextUpdate time.Time `asn1:"generalized,explicit,tag:0"`
	}
	type data struct {
		Responder asn1.RawValue
		Produced  time.Time `asn1:"generalized"`
		Responses []single
	}
	type basic struct {
		Data      data
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	type typed struct {
		Type asn1.ObjectIdentifier
		Body []byte
	}
	type response struct {
		Status asn1.Enumerated
		Bytes  typed `asn1:"explicit,tag:0"`
	}
	must := func(v any) []byte {
		b, err := asn1.Marshal(v)
		if err != nil {
			f.Fatalf("OCSP: %v", err)
		}
		return b
	}
	sum := sha1.Sum(leaf.RawIssuer) //nolint:gosec // as above
	key := must(sum[:])
	algorithm := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}}
	body := must(basic{
		Data: data{
			Responder: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, IsCompound: true, Bytes: key},
			Produced:  from.UTC().Truncate(time.Second),
			Responses: []single{{
				ID:         id{algorithm, sum[:], sum[:], leaf.SerialNumber},
				Good:       asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0},
				ThisUpdate: from.UTC().Truncate(time.Second), NextUpdate: until.UTC().Truncate(time.Second),
			}},
		},
		Algorithm: algorithm,
		Signature: asn1.BitString{Bytes: []byte{0}, BitLength: 8},
	})
	return must(response{Bytes: typed{asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}, body}})
}
