package wasmfilter

import (
	"wproxy/core/exchange"
	"wproxy/core/filter"
	"wproxy/host"
)

type guest interface{}
type streamView struct{ host.Stream }

// A Filter is a plugin's part in one exchange.
type Filter struct {
	x       *filter.Exchange
	guest   guest
	context host.Context
	stream  streamView
}

func (x *Factory) newFilter() *Filter { return &Filter{} }

// Request implements filter.Filter.
func (f *Filter) Request(next exchange.Sink[*exchange.Request]) exchange.Sink[*exchange.Request] {
	panic("being written")
}

// Response implements filter.Filter.
func (f *Filter) Response(next exchange.Sink[*exchange.Response]) exchange.Sink[*exchange.Response] {
	panic("being written")
}

// Close implements filter.Filter.
func (f *Filter) Close(error) { panic("being written") }
