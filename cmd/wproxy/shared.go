package main

import "sync"

// shared holds values that generations have in common: each is made for the
// first that asks for its key, and freed after the last has let go. So what a
// reload does not change is carried over, by key, with all that lives in it.
type shared[K comparable, V any] struct {
	free func(V)

	mu   sync.Mutex
	held map[K]*holding[V] // guarded by mu
}

type holding[V any] struct {
	value V
	count int // guarded by shared.mu
}

func newShared[K comparable, V any](free func(V)) *shared[K, V] {
	return &shared[K, V]{free: free, held: map[K]*holding[V]{}}
}

// get returns the value of key, made by create if nobody holds it, and the
// function that lets go of it. Generations are built one at a time, so create is
// not called twice for one key; it may take its time.
func (s *shared[K, V]) get(key K, create func() (V, error)) (v V, letGo func(), err error) {
	s.mu.Lock()
	h := s.held[key]
	if h != nil {
		h.count++
	}
	s.mu.Unlock()
	if h == nil {
		v, err := create()
		if err != nil {
			return v, nil, err
		}
		h = &holding[V]{value: v, count: 1}
		s.mu.Lock()
		s.held[key] = h
		s.mu.Unlock()
	}
	return h.value, sync.OnceFunc(func() { s.put(key, h) }), nil
}

// hold is get for who must not make the value: false if nobody holds it.
func (s *shared[K, V]) hold(key K) (v V, letGo func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held[key]
	if h == nil {
		return v, nil, false
	}
	h.count++
	return h.value, sync.OnceFunc(func() { s.put(key, h) }), true
}

func (s *shared[K, V]) put(key K, h *holding[V]) {
	s.mu.Lock()
	h.count--
	last := h.count == 0
	if last && s.held[key] == h {
		delete(s.held, key)
	}
	s.mu.Unlock()
	if last {
		s.free(h.value)
	}
}

// each calls f with every value that is held.
func (s *shared[K, V]) each(f func(K, V)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, h := range s.held {
		f(k, h.value)
	}
}
