package host

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // guests may have to check what others have signed
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"wproxy/abi"
)

// Signatures as Envoy has them: RSA PKCS #1 v1.5 and ECDSA (ASN.1) over a named hash. A
// signature that is not right is no failure of the call: the result says so.

// foreignVerifySignature is verify_signature {1 hash, 2 key DER, 3 signature, 4 text, 5
// key PEM} to {1 ok, 2 error}. Keys are SubjectPublicKeyInfo.
func foreignVerifySignature(v *vm, args string) ([]byte, abi.Status) {
	a, ok := protoStrings(args)
	if !ok {
		return nil, abi.StatusBadArgument
	}
	var err error
	v.measured(verifyUnits, keyMostUnits, func() { err = verifySignature(a[1], a[2], a[5], a[3], a[4]) })
	return signatureResult(nil, 2, err), abi.StatusOK
}

// foreignSign is sign {1 hash, 2 key DER, 3 text, 4 key PEM} to {1 ok, 2 signature, 3
// error}. Keys are PKCS #8.
func foreignSign(v *vm, args string) ([]byte, abi.Status) {
	a, ok := protoStrings(args)
	if !ok {
		return nil, abi.StatusBadArgument
	}
	var signature []byte
	var err error
	v.measured(signUnits, keyMostUnits, func() { signature, err = sign(a[1], a[2], a[4], a[3]) })
	return signatureResult(signature, 3, err), abi.StatusOK
}

// protoStrings returns the string fields of a message by their numbers.
func protoStrings(message string) (list [6]string, ok bool) {
	for f, ok := range abi.ProtoFields(message) {
		if !ok {
			return list, false
		}
		if f.Number < uint32(len(list)) {
			list[f.Number] = f.Bytes
		}
	}
	return list, true
}

// signatureResult encodes {1 ok, 2 signature, errorField text}.
func signatureResult(signature []byte, errorField uint32, err error) []byte {
	if err != nil {
		return abi.AppendProtoBytes(nil, errorField, err.Error())
	}
	return abi.AppendProtoBytes(abi.AppendProtoUint(nil, 1, 1), 2, string(signature))
}

// digest returns the digest of text by the name of a hash, "sha256" for one.
func digest(name, text string) (crypto.Hash, []byte, error) {
	b := []byte(text)
	switch name {
	case "sha1":
		d := sha1.Sum(b) //nolint:gosec // see above
		return crypto.SHA1, d[:], nil
	case "sha224":
		d := sha256.Sum224(b)
		return crypto.SHA224, d[:], nil
	case "sha256":
		d := sha256.Sum256(b)
		return crypto.SHA256, d[:], nil
	case "sha384":
		d := sha512.Sum384(b)
		return crypto.SHA384, d[:], nil
	case "sha512":
		d := sha512.Sum512(b)
		return crypto.SHA512, d[:], nil
	}
	return 0, nil, fmt.Errorf("%.32q is not supported", name)
}

// keyBytes returns a key given as DER or as PEM, bounded: what it costs to use one grows
// with the cube of its length.
func keyBytes(der, text string) ([]byte, error) {
	if len(der) > maxKeyBytes || len(text) > 2*maxKeyBytes {
		return nil, errors.New("the key is too long")
	}
	if text == "" {
		return []byte(der), nil
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("the key is no PEM")
	}
	return block.Bytes, nil
}

func verifySignature(hash, der, text, signature, message string) error {
	b, err := keyBytes(der, text)
	if err != nil {
		return err
	}
	key, err := x509.ParsePKIXPublicKey(b)
	if err != nil {
		return fmt.Errorf("the public key cannot be read: %w", err)
	}
	h, sum, err := digest(hash, message)
	if err != nil {
		return err
	}
	switch k := key.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() > maxRSABits {
			return errors.New("the key is too long")
		}
		if rsa.VerifyPKCS1v15(k, h, sum, []byte(signature)) != nil {
			return errors.New("the signature is wrong")
		}
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(k, sum, []byte(signature)) {
			return errors.New("the signature is wrong")
		}
	default:
		return errors.New("the public key is of no kind that is supported")
	}
	return nil
}

func sign(hash, der, text, message string) ([]byte, error) {
	b, err := keyBytes(der, text)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(b)
	if err != nil {
		return nil, errors.New("the private key cannot be read")
	}
	h, sum, err := digest(hash, message)
	if err != nil {
		return nil, err
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() > maxRSABits {
			return nil, errors.New("the key is too long")
		}
		return rsa.SignPKCS1v15(nil, k, h, sum)
	case *ecdsa.PrivateKey:
		return ecdsa.SignASN1(rand.Reader, k, sum)
	}
	return nil, errors.New("the private key is of no kind that is supported")
}
