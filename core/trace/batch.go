package trace

import (
	"math"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// A Kind is what a span is about, with OTLP's numbers.
type Kind uint8

// The kinds.
const (
	Internal Kind = 1 // something inside of wproxy
	Server   Kind = 2 // a request of a client
	Client   Kind = 3 // a request to an upstream
)

// A Span is one step of a request, without its attributes.
type Span struct {
	Trace  ID
	ID     SpanID
	Parent SpanID // zero: none
	Remote bool   // the parent is another process's
	State  string // tracestate
	Name   string
	Kind   Kind
	Start  time.Time
	End    time.Time
	Failed bool
	Why    string // with Failed; may be empty
}

// A Batch is spans in OTLP's encoding (opentelemetry/proto/trace/v1/trace.proto, version
// 1 of the protocol). It is used by one goroutine at a time. Attributes belong to the
// span that was begun last; a text that is empty is not written.
type Batch struct {
	out   []byte // whole spans, each as the field `spans` of a ScopeSpans
	span  []byte // the span that was begun last, without its tag and length
	attr  []byte // scratch
	spans int
}

// Numbers of fields of OTLP's messages.
const (
	resourceOfResourceSpans = 1
	scopesOfResourceSpans   = 2
	scopeOfScopeSpans       = 1
	spansOfScopeSpans       = 2
	attributesOfResource    = 1
	nameOfScope             = 1
	versionOfScope          = 2
	resourceSpansOfRequest  = 1

	spanTrace      = 1
	spanID         = 2
	spanState      = 3
	spanParent     = 4
	spanName       = 5
	spanKind       = 6
	spanStart      = 7
	spanEnd        = 8
	spanAttributes = 9
	spanStatus     = 15
	spanFlags      = 16

	statusMessage = 2
	statusCode    = 3
	statusError   = 2 // STATUS_CODE_ERROR

	attrKey    = 1
	attrValue  = 2
	valueText  = 1
	valueBool  = 2
	valueInt   = 3
	valueFloat = 4

	flagSampled    = 1
	flagHasRemote  = 0x100
	flagIsRemote   = 0x200
	partialSuccess = 1 // of ExportTraceServiceResponse
	rejectedSpans  = 1 // of ExportTracePartialSuccess
)

// Begin begins a span; the one before is complete.
func (b *Batch) Begin(s *Span) {
	b.finish()
	b.spans++
	p := b.span[:0]
	p = appendBytes(p, spanTrace, s.Trace[:])
	p = appendBytes(p, spanID, s.ID[:])
	if s.State != "" && len(s.State) <= maxState {
		p = appendText(p, spanState, s.State)
	}
	flags := uint32(flagSampled | flagHasRemote)
	if s.Parent != (SpanID{}) {
		p = appendBytes(p, spanParent, s.Parent[:])
		if s.Remote {
			flags |= flagIsRemote
		}
	}
	p = appendText(p, spanName, s.Name)
	p = protowire.AppendVarint(protowire.AppendTag(p, spanKind, protowire.VarintType), uint64(s.Kind))
	p = appendTime(p, spanStart, s.Start)
	if s.End.Before(s.Start) {
		p = appendTime(p, spanEnd, s.Start)
	} else {
		p = appendTime(p, spanEnd, s.End)
	}
	if s.Failed {
		st := b.attr[:0]
		if s.Why != "" {
			st = appendText(st, statusMessage, s.Why)
		}
		st = protowire.AppendVarint(protowire.AppendTag(st, statusCode, protowire.VarintType), statusError)
		p = appendBytes(p, spanStatus, st)
		b.attr = st
	}
	p = protowire.AppendFixed32(protowire.AppendTag(p, spanFlags, protowire.Fixed32Type), flags)
	b.span = p
}

// Text adds an attribute.
func (b *Batch) Text(key, value string) {
	if value != "" {
		b.attr = appendText(b.attr[:0], valueText, value)
		b.add(key)
	}
}

// Int adds an attribute.
func (b *Batch) Int(key string, value int64) {
	b.attr = protowire.AppendVarint(protowire.AppendTag(b.attr[:0], valueInt, protowire.VarintType), uint64(value)) //nolint:gosec // int64 is encoded so
	b.add(key)
}

// Float adds an attribute.
func (b *Batch) Float(key string, value float64) {
	b.attr = protowire.AppendFixed64(protowire.AppendTag(b.attr[:0], valueFloat, protowire.Fixed64Type), math.Float64bits(value))
	b.add(key)
}

// Bool adds an attribute.
func (b *Batch) Bool(key string, value bool) {
	b.attr = protowire.AppendVarint(protowire.AppendTag(b.attr[:0], valueBool, protowire.VarintType), protowire.EncodeBool(value))
	b.add(key)
}

// add adds the attribute whose value is in attr.
func (b *Batch) add(key string) { b.span = appendAttribute(b.span, spanAttributes, key, b.attr) }

// appendAttribute appends a KeyValue as the field n; value is an encoded AnyValue. The key may
// be a plugin's: what holds for texts holds for it.
func appendAttribute(p []byte, n protowire.Number, key string, value []byte) []byte {
	key = text(key)
	size := protowire.SizeTag(attrKey) + protowire.SizeBytes(len(key)) + protowire.SizeTag(attrValue) + protowire.SizeBytes(len(value))
	p = protowire.AppendVarint(protowire.AppendTag(p, n, protowire.BytesType), uint64(size)) //nolint:gosec // not negative
	p = protowire.AppendString(protowire.AppendTag(p, attrKey, protowire.BytesType), key)
	return protowire.AppendBytes(protowire.AppendTag(p, attrValue, protowire.BytesType), value)
}

// finish completes the span that was begun last.
func (b *Batch) finish() {
	if len(b.span) > 0 {
		b.out = appendBytes(b.out, spansOfScopeSpans, b.span)
		b.span = b.span[:0]
	}
}

// reset empties b.
func (b *Batch) reset() { b.out, b.span, b.spans = b.out[:0], b.span[:0], 0 }

func appendBytes(p []byte, n protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(p, n, protowire.BytesType), v)
}

// appendText appends a string field. Texts come from clients and upstreams too, and a
// string of protobuf has to be UTF-8: a receiver refuses the whole request otherwise.
func appendText(p []byte, n protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(p, n, protowire.BytesType), text(s))
}

// text returns what is written of s.
func text(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

func appendTime(p []byte, n protowire.Number, t time.Time) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(p, n, protowire.Fixed64Type), uint64(t.UnixNano())) //nolint:gosec // after 1970
}

// An envelope is what is around the spans of a request to a receiver: who has made them.
type envelope struct{ resource, scope []byte }

// newEnvelope makes the envelope of a service. attributes are more of its resource, keys
// and values in turns.
func newEnvelope(service, version string, attributes []Attribute) envelope {
	var e envelope
	add := func(key, value string) {
		e.resource = appendAttribute(e.resource, attributesOfResource, key, appendText(nil, valueText, value))
	}
	add("service.name", service)
	if version != "" {
		add("service.version", version)
	}
	for _, a := range attributes {
		add(a.Name, a.Value)
	}
	add("telemetry.sdk.language", "go")
	add("telemetry.sdk.name", "wproxy")
	e.scope = appendText(e.scope, nameOfScope, "wproxy")
	if version != "" {
		e.scope = appendText(e.scope, versionOfScope, version)
	}
	return e
}

// request appends an ExportTraceServiceRequest with spans, as Batch.out has them.
func (e *envelope) request(p, spans []byte) []byte {
	scope := protowire.SizeTag(scopeOfScopeSpans) + protowire.SizeBytes(len(e.scope)) + len(spans)
	resource := protowire.SizeTag(resourceOfResourceSpans) + protowire.SizeBytes(len(e.resource)) +
		protowire.SizeTag(scopesOfResourceSpans) + protowire.SizeBytes(scope)
	p = protowire.AppendVarint(protowire.AppendTag(p, resourceSpansOfRequest, protowire.BytesType), uint64(resource)) //nolint:gosec // not negative
	p = appendBytes(p, resourceOfResourceSpans, e.resource)
	p = protowire.AppendVarint(protowire.AppendTag(p, scopesOfResourceSpans, protowire.BytesType), uint64(scope)) //nolint:gosec // not negative
	p = appendBytes(p, scopeOfScopeSpans, e.scope)
	return append(p, spans...)
}

// rejected returns how many spans an ExportTraceServiceResponse says that it did not
// take; what is not one says nothing.
func rejected(p []byte) int64 {
	n, _ := fieldOf(p, partialSuccess, protowire.BytesType)
	_, v := fieldOf(n, rejectedSpans, protowire.VarintType)
	return int64(v) //nolint:gosec // int64 is encoded so
}

// fieldOf returns the first field of p with number and type: its bytes, or its number.
func fieldOf(p []byte, want protowire.Number, typ protowire.Type) (b []byte, v uint64) {
	for len(p) > 0 {
		n, t, size := protowire.ConsumeTag(p)
		if size < 0 {
			return nil, 0
		}
		p = p[size:]
		if n == want && t == typ {
			if t == protowire.BytesType {
				b, _ = protowire.ConsumeBytes(p)
				return b, 0
			}
			v, _ = protowire.ConsumeVarint(p)
			return nil, v
		}
		if size = protowire.ConsumeFieldValue(n, t, p); size < 0 {
			return nil, 0
		}
		p = p[size:]
	}
	return nil, 0
}
