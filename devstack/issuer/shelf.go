package issuer

import (
	"container/list"
	"time"
)

// shelf keeps values under names for a fixed time, and at most so many: the oldest makes room. It is not safe for
// concurrent use.
type shelf[V any] struct {
	limit int
	life  time.Duration
	found map[string]*list.Element
	// order has the oldest in front; as all live equally long, it is the first to expire too.
	order *list.List
}

type shelved[V any] struct {
	name  string
	value V
	until time.Time
}

func newShelf[V any](limit int, life time.Duration) *shelf[V] {
	return &shelf[V]{limit: limit, life: life, found: map[string]*list.Element{}, order: list.New()}
}

func (s *shelf[V]) put(name string, value V) {
	now := time.Now()
	s.remove(name)
	for front := s.order.Front(); front != nil; front = s.order.Front() {
		oldest := front.Value.(shelved[V])
		if s.order.Len() < s.limit && now.Before(oldest.until) {
			break
		}
		s.remove(oldest.name)
	}
	s.found[name] = s.order.PushBack(shelved[V]{name: name, value: value, until: now.Add(s.life)})
}

func (s *shelf[V]) get(name string) (value V, found bool) {
	element, found := s.found[name]
	if !found {
		return value, false
	}
	kept := element.Value.(shelved[V])
	if !time.Now().Before(kept.until) {
		s.remove(name)
		return value, false
	}
	return kept.value, true
}

// take answers the value and removes it.
func (s *shelf[V]) take(name string) (V, bool) {
	value, found := s.get(name)
	s.remove(name)
	return value, found
}

func (s *shelf[V]) remove(name string) {
	if element, found := s.found[name]; found {
		s.order.Remove(element)
		delete(s.found, name)
	}
}

func (s *shelf[V]) removeIf(unwanted func(V) bool) {
	for name, element := range s.found {
		if unwanted(element.Value.(shelved[V]).value) {
			s.remove(name)
		}
	}
}
