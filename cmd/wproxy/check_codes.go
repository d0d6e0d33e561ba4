package main

// Codes of warnings. They stay when the words change; docs/check.md says what each is
// about, and a test holds that list against this one.
const (
	codeShadowed       = "route_shadowed"         // another route covers it
	codeUnreachable    = "route_unreachable"      // no request gets to it
	codeCondition      = "condition_unreachable"  // one of its conditions cannot be met
	codeDenied         = "clients_denied"         // deny takes all that allow lets in
	codeUpstreamUnused = "upstream_unused"        // no route, mirror or grant names it
	codePluginUnused   = "plugin_unused"          // no route uses it
	codeGrant          = "plugin_grant"           // it wants what it was not granted
	codeImport         = "plugin_import"          // it imports what this host does not have
	codeNeverRuns      = "plugin_never_runs"      // none of its callbacks runs on the route
	codeRequestSkipped = "plugin_request_skipped" // those of the request do not
	codeBodyOnStream   = "plugin_body_on_stream"  // it collects what should pass
	codeAmplified      = "retry_amplification"    // retries make an outage worse
	codeRetryIdle      = "retry_no_effect"        // a failure that is never met, or never repeated
	codeTimeouts       = "timeout_contradiction"  // one time is over before another can be
	codeUnverified     = "tls_unverified"         // any certificate will do
	codeCertBypass     = "client_cert_bypass"     // a way around a client's certificate
	codeCertInvalid    = "certificate_invalid"    // expired, or not valid yet
	codeCertExpires    = "certificate_expires"    // soon
	codeACME           = "acme_unreachable"       // the CA does not find us
	codeCredentials    = "log_credentials"        // the access log would have them
	codeNoTraces       = "tracing_no_effect"      // nothing is ever recorded
	codeTracesClear    = "tracing_clear_text"     // its secrets can be read on the way
)

// advice is what would be right, by code, where the message does not say it.
var advice = map[string]string{
	codeInvalid:        "docs/configuration.md says what is allowed",
	codeTest:           "`wproxy explain` says what becomes of the request, and why; mend the route, or the test",
	codeTie:            "give one of them a further condition or a priority",
	codeModule:         "`wproxy plugin inspect FILE` says what is in a module; a path is relative to the file that names it",
	codeStart:          "the plugin's documentation says which settings it takes: its config, and the route's with over it",
	codeSettings:       "the plugin's documentation says which settings it takes: its config, and the route's with over it",
	codeCertificate:    "cert and key are PEM files that go together; paths are relative to the file that names them",
	codeShadowed:       "leave it out, or give it a higher priority or a further condition",
	codeUpstreamUnused: "leave it out, or name it in the upstream of a route",
	codePluginUnused:   "leave it out, or name it in the use of a route",
	codeUnverified:     "name the authority of its servers with tls.ca instead",
	codeTimeouts:       "make it shorter, or the time that it has to fit into longer",
	codeAmplified:      "make it lower",
	codeRequestSkipped: "leave it out, unless its response side is what it is there for",
	codeCredentials:    "leave it out, or name it in `hide`",
	codeNoTraces:       "set sample, or a debug_token",
	codeTracesClear:    "use https, or a receiver on this machine",
	codeACME:           "have port 80 or 443 of the hosts lead to a listener",
}

// Codes of errors that building a configuration finds. Those of reading it are in
// core/config.
const (
	codeTie         = "route_tie"       // nothing decides between two routes
	codeModule      = "plugin_module"   // a .wasm that is not there, or not a plugin
	codeStart       = "plugin_start"    // it does not start with its settings
	codeSettings    = "plugin_settings" // its schema does not allow them
	codeCertificate = "certificate"     // a file of a certificate cannot be used
)
