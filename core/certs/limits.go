package certs

import "time"

const (
	// WatchInterval is how often files are looked at: a stat call per file, and a
	// renewed certificate is days ahead of the end of the old one.
	WatchInterval = 2 * time.Second

	// maxFile is the most bytes of a certificate, key, CA or OCSP file. A bundle of
	// all public CAs has a quarter of that.
	maxFile = 1 << 20

	// ticketRotation is how long a key encrypts session tickets. With the keys before
	// it still accepted, a stolen key opens sessions of at most ticketKeys times as
	// long (RFC 8446 C.4: TLS 1.2 has no forward secrecy beyond that).
	ticketRotation = 12 * time.Hour
	// ticketKeys is how many keys are kept: one that encrypts and two that only decrypt.
	ticketKeys = 3
)
