package config

// later lists, per table, the keys of the file format that this version does
// not implement. They are refused like unknown keys, but the message says that
// the key is not a mistake of spelling.
func later(table string) []string {
	switch table {
	case "File":
		return []string{"stores"}
	case "Plugin":
		return []string{"sha256", "rollout"}
	case "Metrics":
		return []string{"labels"}
	default:
		return nil
	}
}
