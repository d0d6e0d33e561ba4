package config

// TLS says how a listener speaks TLS with clients.
type TLS struct {
	// ACME, if set, gets certificates from an ACME server.
	ACME *ACME `toml:"acme"`
}
