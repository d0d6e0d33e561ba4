package config

// later lists, per table, the keys of the file format that this version does
// not implement. They are refused like unknown keys, but the message says that
// the key is not a mistake of spelling.
func later(table string) []string {
	switch table {
	case "File":
		return []string{"stores", "metrics", "tracing"}
	case "Listener":
		return []string{"proxy_protocol"}
	case "ListenerTLS":
		return []string{"acme"}
	case "Route":
		return []string{"mirror"}
	case "Retry":
		return []string{"on", "per_try"}
	case "Upstream":
		return []string{"discover", "hash", "health", "outlier", "send_proxy"}
	case "ServerEntry":
		return []string{"backup"}
	case "Plugin":
		return []string{"sha256", "rollout"}
	case "Server":
		return []string{"watch", "user", "group", "pid_file"}
	case "Admin":
		return []string{"page"}
	case "Access":
		return []string{"sample", "hide"}
	default:
		return nil
	}
}
