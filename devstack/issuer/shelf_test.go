package issuer

import (
	"strconv"
	"testing"
	"time"
)

func TestAShelfIsBounded(t *testing.T) {
	s := newShelf[int](3, time.Hour)
	for i := range 5 {
		s.put(strconv.Itoa(i), i)
	}
	if len(s.found) != 3 || s.order.Len() != 3 {
		t.Errorf("the shelf keeps %d of 3", len(s.found))
	}
	if _, found := s.get("1"); found {
		t.Error("the oldest was not given up")
	}
	if value, found := s.take("4"); !found || value != 4 {
		t.Errorf("the newest is %d, %v", value, found)
	}
	if _, found := s.get("4"); found {
		t.Error("what was taken is still there")
	}
}

func TestAShelfForgetsInTime(t *testing.T) {
	s := newShelf[int](3, -time.Second)
	s.put("a", 1)
	if _, found := s.get("a"); found {
		t.Error("an expired value is answered")
	}
	s.put("b", 2)
	s.put("c", 3)
	if len(s.found) != 1 {
		t.Errorf("%d values are kept, although all before the last have expired", len(s.found))
	}
}
