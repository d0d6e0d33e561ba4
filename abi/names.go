package abi

// Modules that guests import from.
const (
	ModuleEnv          = "env"
	ModuleWASI         = "wasi_snapshot_preview1"
	ModuleWASIUnstable = "wasi_unstable" // old TinyGo, Emscripten and AssemblyScript
)

// Marker exports: the first of them in export order tells the ABI version.
const (
	Marker010     = "proxy_abi_version_0_1_0"
	Marker020     = "proxy_abi_version_0_2_0"
	Marker021     = "proxy_abi_version_0_2_1"
	MarkerHigress = "proxy_abi_version_0_2_100"

	MarkerPrefix = "proxy_abi_version_" // of these and of what other versions export
)

// MarkerVersion returns the version that the export called name announces.
func MarkerVersion(name string) (Version, bool) {
	switch name {
	case Marker010:
		return Version010, true
	case Marker020:
		return Version020, true
	case Marker021:
		return Version021, true
	case MarkerHigress:
		return VersionHigress, true
	}
	return 0, false
}

// ExportStreamSlots is an extension of wproxy; other hosts have no use for it. A guest that
// exports it, without parameters or result, makes do with fewer calls for its streams:
// the host calls it once, after the start functions, and from then on a stream's id
// has a slot in its lower StreamSlotBits bits and the number of the slot's use, never
// 0, above. proxy_on_context_create is called when a slot is used for the first time,
// and at first by that root context. When a stream has ended (proxy_on_done and
// proxy_on_log are called as ever) its slot is free for another stream of the same
// root, which begins, without proxy_on_context_create, with the first callback that
// has the slot and another number. proxy_on_delete is called for each slot of a root
// before the root's own.
const (
	ExportStreamSlots = "wproxy_stream_slots_v1"
	StreamSlotBits    = 20
)

// Exports that are no callbacks: start functions and allocators.
const (
	ExportInitialize        = "_initialize"
	ExportMain              = "main"
	ExportMainVoid          = "__main_void"
	ExportStart             = "_start"
	ExportMemoryAllocate    = "proxy_on_memory_allocate"
	ExportMalloc            = "malloc"
	ExportMemory            = "memory"
	ExportOnContextCreate   = "proxy_on_context_create"
	ExportOnVMStart         = "proxy_on_vm_start"
	ExportOnConfigure       = "proxy_on_configure"
	ExportOnTick            = "proxy_on_tick"
	ExportOnDone            = "proxy_on_done"
	ExportOnLog             = "proxy_on_log"
	ExportOnDelete          = "proxy_on_delete"
	ExportOnQueueReady      = "proxy_on_queue_ready"
	ExportOnForeignFunction = "proxy_on_foreign_function"

	ExportOnNewConnection             = "proxy_on_new_connection"
	ExportOnDownstreamData            = "proxy_on_downstream_data"
	ExportOnDownstreamConnectionClose = "proxy_on_downstream_connection_close"
	ExportOnUpstreamData              = "proxy_on_upstream_data"
	ExportOnUpstreamConnectionClose   = "proxy_on_upstream_connection_close"

	ExportOnRequestHeaders   = "proxy_on_request_headers"
	ExportOnRequestBody      = "proxy_on_request_body"
	ExportOnRequestTrailers  = "proxy_on_request_trailers"
	ExportOnResponseHeaders  = "proxy_on_response_headers"
	ExportOnResponseBody     = "proxy_on_response_body"
	ExportOnResponseTrailers = "proxy_on_response_trailers"

	ExportOnHTTPCallResponse            = "proxy_on_http_call_response"
	ExportOnGRPCReceiveInitialMetadata  = "proxy_on_grpc_receive_initial_metadata"
	ExportOnGRPCReceive                 = "proxy_on_grpc_receive"
	ExportOnGRPCReceiveTrailingMetadata = "proxy_on_grpc_receive_trailing_metadata"
	ExportOnGRPCTrailingMetadata        = "proxy_on_grpc_trailing_metadata" // the same, in the SDKs for C++ and AssemblyScript
	ExportOnGRPCClose                   = "proxy_on_grpc_close"
)

// Host functions: what guests import from module "env".
const (
	ImportLog                   = "proxy_log"
	ImportGetLogLevel           = "proxy_get_log_level"
	ImportGetCurrentTime        = "proxy_get_current_time_nanoseconds"
	ImportSetTickPeriod         = "proxy_set_tick_period_milliseconds"
	ImportGetStatus             = "proxy_get_status"
	ImportGetConfiguration      = "proxy_get_configuration"
	ImportSetEffectiveContext   = "proxy_set_effective_context"
	ImportDone                  = "proxy_done"
	ImportGetBufferBytes        = "proxy_get_buffer_bytes"
	ImportSetBufferBytes        = "proxy_set_buffer_bytes"
	ImportGetBufferStatus       = "proxy_get_buffer_status"
	ImportGetHeaderMapSize      = "proxy_get_header_map_size"
	ImportGetHeaderMapPairs     = "proxy_get_header_map_pairs"
	ImportSetHeaderMapPairs     = "proxy_set_header_map_pairs"
	ImportGetHeaderMapValue     = "proxy_get_header_map_value"
	ImportAddHeaderMapValue     = "proxy_add_header_map_value"
	ImportReplaceHeaderMapValue = "proxy_replace_header_map_value"
	ImportRemoveHeaderMapValue  = "proxy_remove_header_map_value"
	ImportContinueStream        = "proxy_continue_stream"
	ImportCloseStream           = "proxy_close_stream"
	ImportContinueRequest       = "proxy_continue_request"
	ImportContinueResponse      = "proxy_continue_response"
	ImportClearRouteCache       = "proxy_clear_route_cache"
	ImportSendLocalResponse     = "proxy_send_local_response"
	ImportHTTPCall              = "proxy_http_call"
	ImportGRPCCall              = "proxy_grpc_call"
	ImportGRPCStream            = "proxy_grpc_stream"
	ImportGRPCSend              = "proxy_grpc_send"
	ImportGRPCCancel            = "proxy_grpc_cancel"
	ImportGRPCClose             = "proxy_grpc_close"
	ImportSetSharedData         = "proxy_set_shared_data"
	ImportGetSharedData         = "proxy_get_shared_data"
	ImportRegisterSharedQueue   = "proxy_register_shared_queue"
	ImportResolveSharedQueue    = "proxy_resolve_shared_queue"
	ImportEnqueueSharedQueue    = "proxy_enqueue_shared_queue"
	ImportDequeueSharedQueue    = "proxy_dequeue_shared_queue"
	ImportDefineMetric          = "proxy_define_metric"
	ImportIncrementMetric       = "proxy_increment_metric"
	ImportRecordMetric          = "proxy_record_metric"
	ImportGetMetric             = "proxy_get_metric"
	ImportGetProperty           = "proxy_get_property"
	ImportSetProperty           = "proxy_set_property"
	ImportCallForeignFunction   = "proxy_call_foreign_function"
)
