package filter

// PrefersJSON exposes the negotiation for its tests.
var PrefersJSON = prefersJSON
