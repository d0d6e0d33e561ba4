package host_test

// A liveDifference is why some cases come out otherwise on Envoy than here, and whose
// side the specification is on. What differs is in the page, as the run found it.
type liveDifference struct {
	cases []string // by call or callback, then their names
	side  string   // of the specification
	why   string
}

const (
	sideOurs   = "wproxy"
	sideTheirs = "Envoy"
	sideOpen   = "neither: it says nothing"
)

// liveDifferences are all that there are: one more, or one less, fails the run. The
// specification is v0.2.1, whose texts are below the name of the function.
var liveDifferences = []liveDifference{
	{[]string{"proxy_get_log_level", "log level"}, sideOpen, "The levels that an operator can set differ: wproxy's lowest is debug, as low as this run has it set; Envoy's is trace."},
	{[]string{"proxy_set_effective_context", "effective context, the VM"}, sideOurs, "No callback ever has context 0, so that to a guest it is an unknown context: BAD_ARGUMENT. Envoy has an object for the VM under that number."},
	{
		[]string{"proxy_get_buffer_bytes", "plugin configuration", "proxy_get_buffer_status", "configuration status"},
		sideTheirs,
		"The plugin's configuration is to be read in on_configure. wproxy keeps it readable, as both do with that of the VM; no guest counts on an error.",
	},
	{[]string{"proxy_get_buffer_bytes", "call data"}, sideOurs, "A buffer that is not available is NOT_FOUND."},
	{
		[]string{"proxy_set_buffer_bytes", "body, middle replaced", "body, end deleted"},
		sideOurs,
		"\"Inject and replace\" with a start inside of the buffer is specified. Envoy edits the two ends only.",
	},
	{[]string{"proxy_set_buffer_bytes", "set a body that is not there"}, sideOurs, "A buffer that is not available is NOT_FOUND; it is not unknown."},
	{
		[]string{"proxy_set_buffer_bytes", "set the configuration"},
		sideOpen,
		"A buffer that can be read only is in no list of statuses. To wproxy it is no buffer that a guest can set; Envoy does not find it outside of on_configure.",
	},
	{
		[]string{"proxy_get_buffer_status", "body status"},
		sideOpen,
		"The second result is named unused in 0.2.1, and flags, of which bit 0 is the end of the stream, elsewhere. wproxy says the end; Envoy always 0.",
	},
	{[]string{"proxy_get_buffer_status", "status of a body that is not there"}, sideOurs, "A buffer that is not available is NOT_FOUND."},
	{
		[]string{"proxy_get_header_map_size", "map size"},
		sideOurs,
		"The result is called return_serialized_pairs_size. Envoy counts the bytes of names and values without what serializing adds to them.",
	},
	{
		[]string{
			"proxy_get_header_map_size", "map size, not there", "proxy_set_header_map_pairs", "set map, not there", "proxy_add_header_map_value", "add, not there",
			"proxy_replace_header_map_value", "replace, not there", "proxy_remove_header_map_value", "remove, not there",
		},
		sideOpen,
		"BAD_ARGUMENT is for unknown maps; of known ones that are not there nothing is said. A guest with the Rust SDK panics on BAD_ARGUMENT of an edit, so that wproxy answers OK, does nothing, and says so in its log.",
	},
	{
		[]string{"proxy_get_header_map_value", "get, map not there"},
		sideOurs,
		"A key that was not found is NOT_FOUND, and BAD_ARGUMENT is for unknown maps. A guest with the Rust SDK panics on the latter.",
	},
	{
		[]string{"proxy_set_header_map_pairs", "set map", "set map, empty"},
		sideOpen,
		"The new map has no pseudo headers. Envoy takes them away and then has no route for the request; wproxy keeps method, path and authority where the guest gives none, as nobody can send a request without.",
	},
	{[]string{"proxy_set_header_map_pairs", "set map, malformed"}, sideOpen, "Envoy takes what it cannot read for an empty map, and the request is lost. wproxy leaves the map as it was, and says so in its log."},
	{[]string{"proxy_set_header_map_pairs", "set map, many"}, sideOpen, "More pairs than a map may have: Envoy takes it for an empty one, wproxy answers 431."},
	{
		[]string{"proxy_set_header_map_pairs", "set map, CR", "proxy_add_header_map_value", "add, LF", "proxy_replace_header_map_value", "replace, NUL"},
		sideOpen,
		"CR, LF and NUL in fields would be another message on the wire. wproxy refuses the edit, and the exchange goes on without it; Envoy takes it, and fails the request when it is to be sent.",
	},
	{[]string{"proxy_remove_header_map_value", "remove, pseudo"}, sideOpen, "A request cannot be sent without its path. wproxy leaves it, Envoy loses the request."},
	{[]string{"proxy_continue_stream", "continue upstream"}, sideOpen, "UNIMPLEMENTED is allowed where a stream cannot be continued. wproxy can."},
	{
		[]string{"proxy_continue_response", "0.1.0 continue response", "proxy_clear_route_cache", "clear route cache"},
		sideTheirs,
		"A function of 0.1.0, imported by a guest marked 0.2.1. wproxy has every function for every guest: the AssemblyScript SDK mixes them.",
	},
	{
		[]string{"proxy_get_property", "property, unknown"},
		sideOpen,
		"`request` is a group of properties. For Envoy it is there and cannot be serialized, for wproxy only what is in it is there.",
	},
	{[]string{"proxy_get_property", "property, no path"}, sideOurs, "No property was found at an empty path: NOT_FOUND."},
	{[]string{"proxy_get_property", "property plugin_vm_memory"}, sideOpen, "A property of Higress, which wproxy has too. Properties depend on the host."},
	{
		[]string{"proxy_register_shared_queue", "register queue, long name", "proxy_enqueue_shared_queue", "enqueue, too much"},
		sideTheirs,
		"INTERNAL_FAILURE is not in their lists. wproxy's queues have bounds, Envoy's have none, and grow with what a guest puts into them.",
	},
	{
		[]string{"proxy_increment_metric", "increment a counter by nothing"},
		sideOurs,
		"BAD_ARGUMENT is for what cannot be applied, and nothing can. The Go SDK panics on it.",
	},
	{
		[]string{"proxy_call_foreign_function", "foreign, uncompress"},
		sideOpen,
		"Foreign functions are the host's. Of no bytes Envoy hands out an address all the same; what to make of it differs by SDK, and 0 is what all other calls of both hosts answer.",
	},
	{[]string{"proxy_call_foreign_function", "foreign, uncompress garbage"}, sideOpen, "Where a call fails Envoy sets the results to nothing, wproxy leaves them alone."},
	{
		[]string{"proxy_call_foreign_function", "foreign, declare nothing"},
		sideOpen,
		"Foreign functions are the host's. Envoy declares a property without a name, wproxy takes that for a mistake.",
	},
	{
		[]string{"proxy_send_local_response", "local response, no status"},
		sideOpen,
		"99 is not the status of a response. wproxy answers 500 in its place; of Envoy the client hears nothing, and its connection is closed.",
	},
	{
		[]string{
			"proxy_call_foreign_function", "bad address 3", "proxy_dequeue_shared_queue", "bad address 2", "proxy_get_buffer_bytes", "bad address 4",
			"proxy_get_buffer_status", "bad address 2", "proxy_get_configuration", "bad address 1", "proxy_get_header_map_pairs", "bad address 2",
			"proxy_get_header_map_value", "bad address 3", "proxy_get_property", "bad address 2", "proxy_get_shared_data", "bad address 2", "bad address 3",
			"proxy_get_status", "bad address 1", "bad address 2",
		},
		sideOpen,
		"Both answer INVALID_MEMORY_ACCESS to the bad address of one of several results. Envoy has written those before it by then; wproxy looks at all addresses first, and leaves nothing half done.",
	},
	{[]string{"proxy_http_call", "http call, nothing"}, sideOpen, "Where a call fails Envoy sets its id to 0, wproxy leaves the result alone."},
	{
		[]string{"proxy_http_call", "http call, not granted"},
		sideOpen,
		"In wproxy a plugin calls the upstreams of its grants alone; there is no such thing in Envoy, but for functions as a whole.",
	},
	{[]string{"proxy_on_request_headers", "0.2.100"}, sideTheirs, "A marker of Higress, which the specification does not know."},
	{
		[]string{
			"proxy_on_response_body", "answers 1", "answers 2", "answers 3", "answers 4", "answers 99", "answers -1",
			"proxy_on_response_trailers", "answers 1", "answers 2", "answers 3", "answers 4", "answers 99", "answers -1",
		},
		sideOpen,
		"The body, or its end, is held on both. Envoy has sent the head by then; wproxy keeps it until there is something of the body to send with it, and can still answer in its place if the plugin fails or sends a local response.",
	},
	{
		[]string{"order", "no body", "with a body", "with trailers", "the upstream breaks off"},
		sideOurs,
		"\"[on_log is] called after true was returned from proxy_on_done\". Envoy logs when the stream is over, and is done with it later.",
	},
}

// notOnEnvoy says what the run does not show.
const notOnEnvoy = `
## What this does not show

- %s
- Numbers that a host gives out (of metrics, queues, calls, the cas of shared data) are not compared, only whether they are 0. The guests are told which one is meant: in the
  tests of wproxy alone it is a constant.
- What proxies add on their own is not compared: fields such as ` + "`x-forwarded-for`, `x-request-id`, `date` and `server`" + `, the number of lines in a map that has them, the text of their error pages, and how a
  body is cut into pieces. Envoy joins several lines of some fields, ` + "`accept`" + ` among them, into one; the field that is there twice here is one that it does not join.
- An exchange counts as held when the client got nothing more for 1.5 seconds. The guests answer the same at each call, so that it does not show what becomes of data that are held and then released.
- One address out of range for each pointer of each call; the edges of the memory, and lengths, are tests of wproxy alone (TestHostCallAddresses).
- One exchange a guest, HTTP/1.1 on both sides, one worker thread, Envoy's own defaults but for trailers, which are turned on. Other versions of Envoy may differ.
`
