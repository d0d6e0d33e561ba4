package main

import (
	"sync/atomic"

	"wproxy/core/config"
)

// guestSettings returns all that guests of a plugin are told in f: one VM serves all
// routes that use the plugin.
func guestSettings(plugin string, f *config.File) []any {
	p := f.Plugins[plugin]
	if p == nil {
		return nil
	}
	settings := []any{p.Config, p.VMConfig, p.Env}
	for _, r := range f.Routes {
		settings = append(settings, r.With[plugin])
	}
	return settings
}

// guestSecrets takes the secrets of its settings out of what a guest logs. Plugins
// without secrets cost a look.
type guestSecrets struct {
	byPlugin atomic.Pointer[map[string]*config.Redactor] // replaced as a whole; only plugins with secrets
}

// set says which configurations guests may have been started with.
func (s *guestSecrets) set(files []*config.File) {
	settings := map[string][]any{}
	for _, f := range files {
		for name := range f.Plugins {
			settings[name] = append(settings[name], guestSettings(name, f)...)
		}
	}
	redactors := map[string]*config.Redactor{}
	for name, list := range settings {
		if r := config.NewRedactor(list...); r != nil {
			redactors[name] = r
		}
	}
	s.byPlugin.Store(&redactors)
}

// redact returns text, from or about a guest of plugin, without secrets.
func (s *guestSecrets) redact(plugin, text string) string {
	if m := s.byPlugin.Load(); m != nil && len(*m) > 0 {
		return (*m)[plugin].Redact(text)
	}
	return text
}
